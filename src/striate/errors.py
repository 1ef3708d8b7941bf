"""What can go wrong, by kind; each kind has its exit code.

A message names what is wrong, where, what was expected and how to mend it. This module imports nothing heavy, so
that the command line can answer a mistake before torch is loaded.
"""

import difflib
from collections.abc import Iterable


class StriateError(Exception):
    """Anything that striate itself reports; the command line prints the message without a traceback."""

    exit_code = 1


class UsageError(StriateError, ValueError):
    """A command, flag, setting, name or pattern that does not exist or does not fit (exit code 2)."""

    exit_code = 2


class DataError(StriateError):
    """Images or annotations that cannot be read or must not be trained on (exit code 3)."""

    exit_code = 3


class ModelFileError(StriateError):
    """A model file or checkpoint that cannot be used (exit code 4)."""

    exit_code = 4


class DivergedError(StriateError):
    """Training whose loss or gradient stopped being finite (exit code 5)."""

    exit_code = 5


class OutOfMemoryError(StriateError):
    """Not even one image fits into memory (exit code 6)."""

    exit_code = 6


class InterruptedRunError(StriateError):
    """A run that was told to stop and can be resumed (exit code 7)."""

    exit_code = 7


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """End of a message about an unknown name: the nearest real ones.

    Returns:
        ``" Did you mean 'resnet20'?"`` with up to ``limit`` names, most alike first, or ``""`` when nothing is near.
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), list(folded), limit, cutoff=0.5)]
    if not near:
        return ""
    return f" Did you mean {' or '.join(repr(candidate) for candidate in near)}?"

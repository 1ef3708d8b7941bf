"""Localization head by head: the body learns with one head, and the other then reads the frozen body.

``class_first`` is the way of Sermanet et al. 2014 ("OverFeat", section 4.2: the classifier's feature layers are fixed,
and the regression network is trained on them): first the class with the body, then the box. ``box_first`` is the other
way round.
"""

from torch import nn

from striate.config import Resolved, TrainSettings
from striate.engine.optimizers import LearningGroup
from striate.errors import UsageError
from striate.tasks.localization import HEADS


def settle_heads(resolved: Resolved) -> Resolved:
    """Decide how many epochs the first head has, where that was left open: half of them.

    Raises:
        UsageError: epochs that leave one of the heads none, or a setting that does nothing.
    """
    settings = resolved.settings
    if settings.heads == "jointly":
        if settings.first_epochs != "auto":
            raise UsageError(
                "--first-epochs does nothing with --heads jointly: it is for --heads class_first and box_first."
            )
        return resolved
    if settings.first_epochs == "auto":
        resolved = resolved.because("heads", first_epochs=max(1, settings.epochs // 2))
    first = resolved.settings.first_epochs
    assert first != "auto"
    if first >= settings.epochs:
        raise UsageError(
            f"--heads {settings.heads} trains one head after the other, and of {settings.epochs} epochs the first has "
            f"{first}: give --epochs {first + 1} or more, or a smaller --first-epochs."
        )
    return resolved


def head_groups(network: nn.Module, settings: TrainSettings) -> tuple[LearningGroup, ...]:
    """The body, the first head and the second, each with the epochs that it learns in; none where all learn alike."""
    if settings.heads == "jointly":
        return ()
    assert settings.first_epochs != "auto"
    first, second = ("class", "box") if settings.heads == "class_first" else ("box", "class")
    named: dict[str, list[str]] = {"body": [], first: [], second: []}
    for name, _ in network.named_parameters():
        place = next((head for head, module in HEADS.items() if name.startswith(f"{module}.")), "body")
        named[place].append(name)
    return tuple(
        LearningGroup(
            name=head,
            parameters=tuple(names),
            start=settings.first_epochs if head == second else 0,
            stop=None if head == second else settings.first_epochs,
        )
        for head, names in named.items()
    )

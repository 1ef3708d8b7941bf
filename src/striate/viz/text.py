"""Text that comes from outside (class names, file names), made fit to be shown."""

import html
import re

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """``text`` with every character that UTF-8 or XML cannot hold replaced by U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", text)


def escape(text: str) -> str:
    """``text`` for use inside HTML and XML, in elements and in quoted attributes."""
    return html.escape(printable(text))


def shorten(text: str, limit: int) -> str:
    """``text``, cut to ``limit`` characters with an ellipsis as the last one where it is longer."""
    return text if len(text) <= limit else text[: max(1, limit - 1)].rstrip() + "…"

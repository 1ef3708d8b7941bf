"""What every sub-command prints with."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

PIPED_WIDTH = 1000  # nobody folds what a program or a file takes


def print_json(document: Mapping[str, Any]) -> None:
    """Exactly one JSON document on standard output."""
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    # File names that are not UTF-8 hold lone surrogates, which no encoding takes but JSON's own.
    click.echo(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table for people on standard output, as wide as the terminal.

    Args:
        columns: headings.
        rows: cells.
        right: headings of the columns that are aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)

"""How the command line talks: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: Any) -> None:
    """Print a result as it is."""
    out.print(str(text), markup=False)


def hint(*words: object) -> None:
    """Print the next command a person would want; a word with blanks in it is quoted."""
    text = " ".join(word if isinstance(word, str) and len(words) == 1 else shlex.quote(str(word)) for word in words)
    err.print(f"next: {text}", style="dim", markup=False)


def progress() -> Progress:
    """A progress bar on stderr that goes away when done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; every column but the first is right-aligned."""
    grid = Table(title=title, title_justify="left", show_header=any(columns))
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(str, row))
    out.print(grid, markup=False)

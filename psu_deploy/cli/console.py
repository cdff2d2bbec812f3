"""How the command line talks: results to stdout, progress and errors to stderr.

Names, versions and reasons come from files of anybody: nothing reaches the terminal but through `visible`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from psu_deploy.errors import InputError
from psu_deploy.text import visible, visible_lines


class _Output(Console):
    """Standard output, which says so when it is not written; rich ends the command as if a check had failed."""

    def on_broken_pipe(self) -> None:
        raise unwritten(BrokenPipeError())

    def print(self, *what: Any, **how: Any) -> None:
        try:
            super().print(*what, **how)
        except OSError as error:
            raise unwritten(error) from error


def unwritten(error: OSError) -> InputError:
    """What to raise for standard output that was not written; what is left of it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
    reason = "nobody reads it any more" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
    return InputError(f"the output was not written: {reason}")


out = _Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


SENTENCE = 2000
"""Characters of a line; one of a table of problems, or of paths, may well have hundreds."""

_CELL = 400


def say(text: Any) -> None:
    """Print a result as it is, line by line."""
    out.print(visible_lines(str(text), SENTENCE), markup=False)


def say_json(data: Any) -> None:
    """Print data for another program, and nothing of ours in it."""
    try:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        sys.stdout.flush()
    except OSError as error:
        raise unwritten(error) from error


def tell(text: Any) -> None:
    """Print what is going on, or what is wrong, to stderr."""
    err.print(visible_lines(str(text), SENTENCE), markup=False)


def hint(*words: object) -> None:
    """Print the next command a person would want; a word with blanks in it is quoted."""
    text = " ".join(word if isinstance(word, str) and len(words) == 1 else shlex.quote(str(word)) for word in words)
    err.print(visible(f"next: {text}", SENTENCE), style="dim", markup=False)


def progress() -> Progress:
    """A progress bar on stderr that goes away when done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; every column but the first is right-aligned."""
    grid = Table(title=visible_lines(title, _CELL), title_justify="left", show_header=any(columns))
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(visible(str(cell), _CELL) for cell in row))
    out.print(grid, markup=False)

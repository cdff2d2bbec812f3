"""What came of every mutant: JSON lines on disk, the survivors that are known, and the table."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SURVIVORS = Path(__file__).with_name("survivors.toml")
ENOUGH = 0.9
"""Share of the mutants of a room that tests must notice."""


@dataclass(frozen=True)
class Result:
    """One mutant, and what came of it.

    Args:
        room: see `tests.mutation.rooms`.
        file: that was changed.
        line: where, from 1.
        text: that line, before.
        kind: of the change.
        before: the span that was changed.
        after: what stood there instead.
        start: offset of the span.
        outcome: "killed", "survived" or "timeout".
        test: the first test that failed.
        seconds: it took.
    """

    room: str
    file: str
    line: int
    text: str
    kind: str
    before: str
    after: str
    start: int
    outcome: str
    test: str
    seconds: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by, wherever in the file it stands."""
        return self.file, self.text, self.before, self.after


def append(path: Path, result: Result) -> None:
    """Add one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")


def read(path: Path) -> dict[tuple[str, int, str], Result]:
    """(file, start, after) -> the last result."""
    lines = path.read_text().splitlines() if path.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    return {(result.file, result.start, result.after): result for result in results}


def known_survivors() -> set[tuple[str, str, str, str]]:
    """Those that are listed with a reason."""
    listed = tomllib.loads(SURVIVORS.read_text())["survivor"]
    return {(entry["file"], entry["line"], entry["before"], entry["after"]) for entry in listed}


def table(results: Iterable[Result], known: set[tuple[str, str, str, str]]) -> Iterator[str]:
    """A line per room, then the survivors that nobody has explained."""
    results = list(results)
    yield f"{'room':12}{'mutants':>9}{'killed':>9}{'explained':>11}{'open':>7}{'killed or explained':>21}"
    for room in sorted({result.room for result in results}):
        own = [result for result in results if result.room == room]
        alive = [result for result in own if result.outcome == "survived"]
        explained = sum(result.key in known for result in alive)
        noticed = len(own) - len(alive)
        yield (
            f"{room:12}{len(own):9}{noticed:9}{explained:11}{len(alive) - explained:7}"
            f"{(noticed + explained) / len(own):20.1%} ({noticed / len(own):.1%} killed)"
        )
    for result in results:
        if result.outcome == "survived" and result.key not in known:
            yield f"{result.file}:{result.line}: {result.before!r} -> {result.after!r} in: {result.text}"


def enough(results: Iterable[Result], known: set[tuple[str, str, str, str]]) -> bool:
    """Whether in every room enough was noticed, and every survivor is explained."""
    results = list(results)
    rooms = {result.room: [r for r in results if r.room == result.room] for result in results}
    noticed = {room: sum(r.outcome != "survived" for r in own) / len(own) for room, own in rooms.items()}
    return min(noticed.values(), default=1.0) >= ENOUGH and not any(
        r.outcome == "survived" and r.key not in known for r in results
    )

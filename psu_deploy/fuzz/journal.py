"""What was tried, a line of JSON per case: a run that was ended goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.fuzz.outcome import Outcome

NAME = "journal.jsonl"
FORMAT = "psu-deploy.fuzz/1"


@dataclass(frozen=True)
class Entry:
    """One case that was tried.

    Attributes:
        number: of the network.
        target: what ran it.
        outcome: what came of it.
        seconds: it took, its reduction included.
    """

    number: int
    target: str
    outcome: Outcome
    seconds: float


class Journal:
    """The journal of a folder. A line that was cut off when the process was killed is dropped.

    Args:
        folder: of the run; made where there is none.
        seed: of the run; None = that of the journal, or 0 for a new one.

    Raises:
        InputError: if the folder holds the cases of another seed or version.
        ArtifactError: if its journal is none.
    """

    def __init__(self, folder: Path, seed: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / NAME
        self.entries: list[Entry] = []
        lines = list(self._lines())
        if lines:
            self.seed = self._checked(lines[0], seed)
            self.entries += [_entry(line, self._path) for line in lines[1:]]
        else:
            self.seed = 0 if seed is None else seed
            self._append({"format": FORMAT, "version": version("psu-deploy"), "seed": self.seed})

    def add(self, entry: Entry) -> None:
        """Remember a case."""
        self.entries.append(entry)
        said = {"number": entry.number, "target": entry.target, "seconds": round(entry.seconds, 3)}
        self._append({**said, **entry.outcome.to_dict()})

    def _append(self, data: dict[str, Any]) -> None:
        """One line in one write: whole, or cut off where the process is killed in between."""
        with self._path.open("ab", buffering=0) as file:
            file.write((json.dumps(data) + "\n").encode())

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Every whole line; what comes behind the last one is cut off."""
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        for line in content[:whole].splitlines():
            try:
                data = json.loads(line)
            except ValueError as error:
                raise _damaged(self._path) from error
            if not isinstance(data, dict):
                raise _damaged(self._path)
            yield data

    def _checked(self, header: dict[str, Any], seed: int | None) -> int:
        if header.get("format") != FORMAT or not isinstance(header.get("seed"), int):
            raise _damaged(self._path)
        found, made = int(header["seed"]), header.get("version")
        where = f"{self._path.parent} holds the cases of"
        if made != version("psu-deploy"):
            raise InputError(f"{where} psu-deploy {made}, whose networks are others; name another folder with --out")
        if seed not in (None, found):
            raise InputError(f"{where} seed {found}, not {seed}; name another folder with --out, or leave --seed out")
        return found


def _entry(data: dict[str, Any], path: Path) -> Entry:
    try:
        rest = {**data}
        number, target, seconds = (rest.pop(key) for key in ("number", "target", "seconds"))
        return Entry(number, target, Outcome.from_dict(rest), seconds)
    except (KeyError, TypeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} is not the journal of psu-deploy fuzz; move it away, or name another folder")

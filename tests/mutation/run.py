"""Changes the code a little, many times, and counts how often the tests notice: scripts/mutate --help."""

from __future__ import annotations

import argparse
import queue
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import results as r
from tests.mutation.mutants import mutants_of
from tests.mutation.rooms import ROOMS, covering, files_of
from tests.mutation.text import Mutant
from tests.mutation.tree import Copy

TREE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Candidate:
    """A change, and where it belongs."""

    room: str
    file: str
    mutant: Mutant

    @property
    def key(self) -> tuple[str, int, str]:
        return self.file, self.mutant.start, self.mutant.after


def main(arguments: Sequence[str] | None = None) -> int:
    """0 = enough was noticed and every survivor is explained."""
    options = _options().parse_args(arguments)
    chosen = list(_chosen(options))
    _say(f"{len(chosen)} mutants; results go to {options.results}")
    done = r.read(options.results)
    if not options.report:
        again = {key for key, result in done.items() if result.outcome == "survived"} if options.again else set()
        open_ = [c for c in chosen if c.key not in done or c.key in again]
        _run_all(open_, options)
    known, wanted = r.known_survivors(), {c.key for c in chosen}
    found = [result for key, result in r.read(options.results).items() if key in wanted]
    for line in r.table(found, known):
        _say(line)
    return 0 if r.enough(found, known) else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("--room", choices=list(ROOMS), action="append", help="only this room; may be repeated")
    parser.add_argument("--file", action="append", help="only this file; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants, as many from every room; else all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after that")
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a mutant, or 3 x what its tests take")
    parser.add_argument(
        "--results", type=Path, default=TREE / "out/mutants.jsonl", help="what is there is not run again"
    )
    parser.add_argument("--trusting", action="store_true", help="do not see first that the tests hold without mutants")
    parser.add_argument("--again", action="store_true", help="run again those that survived")
    parser.add_argument("--report", action="store_true", help="run nothing, show the table")
    return parser


def _chosen(options: argparse.Namespace) -> Iterator[Candidate]:
    """The sample: rooms in turn, files as they come."""
    rooms = options.room or list(ROOMS)
    for room in rooms:
        own = [
            Candidate(room, file, mutant)
            for file in files_of(room, TREE)
            if not options.file or file in options.file
            for mutant in mutants_of((TREE / file).read_text())
        ]
        if options.sample is None:
            yield from own
        else:
            random.Random(f"{options.seed} {room}").shuffle(own)
            yield from own[: -(-options.sample // len(rooms))]


def _run_all(candidates: Iterable[Candidate], options: argparse.Namespace) -> None:
    """Rooms in turn, so that a run that is cut short has seen a little of each."""
    waiting: queue.SimpleQueue[Candidate] = queue.SimpleQueue()
    by_room = [[c for c in candidates if c.room == room] for room in ROOMS]
    for turn in range(max(map(len, by_room), default=0)):
        for own in by_room:
            if turn < len(own):
                waiting.put(own[turn])
    until = time.monotonic() + 60 * options.minutes
    with ExitStack() as stack:
        copies = [stack.enter_context(Copy(TREE)) for _ in range(options.workers)]
        with ThreadPoolExecutor(options.workers) as pool:
            for finished in [pool.submit(_serve, copy, waiting, until, options) for copy in copies]:
                finished.result()


def _serve(copy: Copy, waiting: queue.SimpleQueue[Candidate], until: float, options: argparse.Namespace) -> None:
    usual: dict[tuple[str, ...], float] = {}
    while time.monotonic() < until:
        try:
            candidate = waiting.get_nowait()
        except queue.Empty:
            return
        source, tests = (copy.path / candidate.file).read_text(), covering(candidate.file, copy.path)
        if tuple(tests) not in usual and not options.trusting:
            usual[tuple(tests)] = _seconds_unchanged(copy, candidate.file, source, tests)
        mutant, limit = candidate.mutant, max(options.timeout, 3 * usual.get(tuple(tests), 0.0))
        answer = copy.judge(candidate.file, mutant.applied_to(source), tests, limit)
        text = source.splitlines()[mutant.line - 1].strip()
        place = (candidate.room, candidate.file, mutant.line, text)
        change = (mutant.kind, mutant.before, mutant.after, mutant.start)
        result = r.Result(*place, *change, **answer)
        r.append(options.results, result)
        where = f"{result.file}:{result.line}: {mutant.before!r} -> {mutant.after!r}"
        _say(f"{result.outcome:9}{result.seconds:6.1f} s  {where}")


def _seconds_unchanged(copy: Copy, file: str, source: str, tests: list[str]) -> float:
    """How long the tests take on the file as it is; they must hold there."""
    answer = copy.judge(file, source, tests, _NO_LIMIT)
    if answer["outcome"] != "survived":
        raise SystemExit(f"{answer['test'] or tests} fails without any mutant: mend it first")
    seconds: float = answer["seconds"]
    return seconds


_NO_LIMIT = 3600.0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Tables of what goes where, made by asking the exporters: a page says `<!-- table: layers -->` where one belongs.

Networks of every kind of layer, operator and neuron are lowered to every target when the site is built. What the table
says is what came of it, in the exporters' own words.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.exporters.c import lower as c
from psu_deploy.exporters.integers import lower as integers
from psu_deploy.exporters.nir.emit import emit
from psu_deploy.exporters.nir.target import TARGETS
from psu_deploy.exporters.onnx import lower as onnx
from psu_deploy.machine import StateMachine, ops
from tests.zoo import MACHINES, chain

_MARK = re.compile(r"<!-- table: (\w+) -->")
_CASE = re.compile(r", this one \([\d, ]*\)| \[\(.*?\)\]|, not \{.*?\}")
_NUMBER = re.compile(r"(?<=the last of )\d+|(?<=answers )\d+(?= step)")
_FACTS: dict[str, Any] = {"fidelity": "faithful", "approximations": []}

LOWER: dict[str, Callable[[StateMachine], Any]] = {
    "ONNX": onnx.check,
    "C": c.check,
    "NIR": lambda machine: emit(machine, TARGETS["canonical"], _FACTS | {"machine_hash": machine.content_hash}),
    "Lava, C int8": integers.lower,
}
"""Target -> what raises `UnsupportedModelError` where it has no form for a machine."""

ROUNDED = "Lava, C int8"

LIF = ops.LIFNeuron(2.0, True, 0.4, "hard", ">=")
MORE = {
    "max of spikes": chain((2, 4), LIF, ops.MaxPool((2,), (2,), ((0, 0),))),
    "one picture": chain((3,), ops.Linear(np.eye(3)), ops.Hold(), LIF),
}
"""Where NIR and Lava take a layer in one place only, a network in which it stands there."""

T = 8
FORMS: dict[str, Callable[[], nn.Module]] = {
    "PSU": lambda: psu.PSU(),
    "PSU, staircase": lambda: psu.PSU(estimator=psu.Staircase(levels=15)),
    "PSU, table": lambda: psu.PSU(estimator=psu.SigmoidTable()),
    "IPSU, RPSU, PPSU": lambda: psu.RPSU(T),
    "the same, staircase": lambda: psu.RPSU(T, estimator=psu.Staircase(levels=15)),
    "the same, staircase and exponentials": lambda: psu.RPSU(
        T, estimator=psu.Staircase(levels=15), temporal="exponentials"
    ),
    "MaskedPSN, order 3": lambda: psu.MaskedPSN(T, order=3),
    "SlidingPSN": lambda: psu.SlidingPSN(order=3),
    "SPSN": lambda: psu.SPSN(),
    "LIF, hard reset": lambda: psu.LIF(reset="hard"),
    "LIF, soft reset": lambda: psu.LIF(reset="soft"),
    "PLIF": lambda: psu.PLIF(),
    "PSN": lambda: psu.PSN(T),
    "Membrane, at the end": lambda: psu.Membrane(),
}
"""Neuron, as it is made."""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables in."""
    return _MARK.sub(lambda mark: "\n".join(TABLES[mark[1]]()), markdown)


def neurons() -> Iterator[str]:
    """Every neuron, in the forms that it has, on every target."""
    yield from _head("neuron", [*LOWER])
    for name, make in FORMS.items():
        try:
            machine = machine_of(make)
        except UnsupportedModelError as refusal:
            yield _row(f"{name}: {_reasons(refusal.problems)}", ['<span class="no">refused</span>'] * len(LOWER))
            continue
        said = [_said(target, refused(target, machine)) for target in LOWER]
        yield _row(name, said)


def simulators() -> Iterator[str]:
    """Every neuron in the dialect of every simulator that reads NIR."""
    readers = [name for name in TARGETS if name != "canonical"]
    yield from _head("neuron", readers)
    for name, make in FORMS.items():
        machine = None if name == "PSN" else machine_of(make)
        if machine is not None and not refused("NIR", machine):
            yield _row(name, [_said("NIR", _problems(partial(_emitted, machine, reader))) for reader in readers])


def layers() -> Iterator[str]:
    """Every kind of layer on every target."""
    yield from _head("layer", [*LOWER])
    for kind in sorted(_kinds(), key=lambda kind: kind.__name__):
        if not issubclass(kind, ops.Neuron):
            yield _row(f"`{kind.__name__}`", [_verdict(target, kind) for target in LOWER])


def rooms() -> Iterator[str]:
    """The layers of the import contract, from the top, with what each room says it is."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (order,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    yield from _head("floor", ["rooms", "what they are"])
    for floor, names in enumerate(reversed(order), start=1):
        beside = names.split(" | ")
        what = [(importlib.import_module(f"psu_deploy.{name}").__doc__ or "").partition("\n")[0] for name in beside]
        yield _row(str(floor), [", ".join(f"`{name}`" for name in beside), " ".join(what)])


def machine_of(make: Callable[[], nn.Module]) -> StateMachine:
    """A small network with this neuron behind weights."""
    torch.manual_seed(0)
    return psu.to_state_machine(psu.SpikingSequential(nn.Linear(3, 4), make()), (3,))


def refused(target: str, machine: StateMachine) -> list[Problem]:
    """What stands in the way; nothing where the machine can go."""
    return _problems(lambda: LOWER[target](machine))


def _problems(lower: Callable[[], Any]) -> list[Problem]:
    try:
        lower()
    except UnsupportedModelError as refusal:
        return list(refusal.problems)
    return []


def _emitted(machine: StateMachine, reader: str) -> Any:
    return emit(machine, TARGETS[reader], _FACTS | {"machine_hash": machine.content_hash})


def _kinds() -> set[type]:
    return {type(node.layer) for machine in MACHINES.values() for node in machine.nodes}


@cache
def _outcomes(target: str) -> tuple[frozenset[type], dict[str, list[Problem]]]:
    """Kinds of layer that went in some machine, and name of a kind -> what stood in its way in others."""
    taken: set[type] = set()
    reasons: dict[str, list[Problem]] = defaultdict(list)
    for machine in (*MACHINES.values(), *MORE.values()):
        problems = refused(target, machine)
        for problem in problems:
            alone = len(machine.nodes) == 1  # then it is this layer's doing, whatever it is called
            reasons[type(machine.nodes[0].layer).__name__ if alone else problem.kind].append(problem)
        if not problems:
            taken |= {type(node.layer) for node in machine.nodes}
    return frozenset(taken), reasons


def _verdict(target: str, kind: type) -> str:
    taken, reasons = _outcomes(target)
    found = reasons.get(kind.__name__, [])
    if kind not in taken:
        return _no(found)
    return _yes(target) if not found else f"{_yes(target)}; not: {_reasons(found)}"


def _said(target: str, problems: list[Problem]) -> str:
    return _no(problems) if problems else _yes(target)


def _yes(target: str) -> str:
    return '<span class="near">rounded</span>' if target == ROUNDED else '<span class="yes">exact</span>'


def _no(problems: Iterable[Problem]) -> str:
    return f'<span class="no">refused</span>: {_reasons(problems)}'


def _reasons(problems: Iterable[Problem]) -> str:
    """Each once, without the numbers of the case that was tried."""
    said = dict.fromkeys(
        _CASE.sub("", _NUMBER.sub("some", problem.reason).replace("some step(s)", "some steps")) for problem in problems
    )
    return "; ".join(said).replace("|", "\\|")


def _head(first: str, columns: list[str]) -> Iterator[str]:
    yield _row(first, columns)
    yield _row("---", ["---"] * len(columns))


def _row(first: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "neurons": neurons,
    "simulators": simulators,
    "layers": layers,
    "rooms": rooms,
}
"""Name in a page -> its lines."""

"""One case: a network, an input, a target and its options. Named by seed, number and target for ever."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError
from psu_deploy.files.atomic import as_npz, write_whole
from psu_deploy.fuzz.draw import Draw
from psu_deploy.fuzz.edges import on_an_edge
from psu_deploy.fuzz.grow import grown
from psu_deploy.fuzz.options import Options, drawn_options
from psu_deploy.fuzz.profiles import OWN, Profile, profile_of
from psu_deploy.machine import StateMachine

Floats = NDArray[np.float32]

_STEPS = (1, 2, 3, 5, 6, 6, 6, 9, 12)
_BATCHES = (1, 1, 2, 2, 3, 5, 8)
_STATE = "state/"


@dataclass(frozen=True, eq=False)
class Case:
    """What is tried.

    Args:
        name: seed, number and target, "3-17-onnx".
        machine: the network.
        x: its input, (T, B, *features), without the silent steps that a late network is fed at the end.
        state: where it starts, name -> array; None = the initial state.
        split: steps, silent ones among them, after which the sequence is stopped and taken up again; 0 = it is not.
        target: what runs it.
        options: of the target.
    """

    name: str
    machine: StateMachine
    x: Floats
    state: dict[str, Any] | None
    split: int
    target: str
    options: Options

    def with_input(self, x: Floats, state: dict[str, Any] | None) -> Case:
        """The same on another input; the split stays inside it."""
        steps = len(x) + self.machine.latency
        return replace(self, x=x, state=state, split=min(self.split, steps - 1))


def drawn_case(seed: int, number: int, target: str) -> Case:
    """The case of a name. Targets with the same vocabulary get the same network and input."""
    profile = profile_of(target, number)
    draw = Draw((seed, number), profile.exact)
    steps = min(draw.one(_STEPS), profile.longest)
    last = profile.kinds[number % len(profile.kinds)]
    machine = grown(draw, draw.whole(1, 6 if profile.chain else 11), profile, max(2, steps), last, draw.chance(0.3))
    x = _input(draw, machine, max(1, min(steps, machine.max_steps or steps)), profile)
    stateful = draw.chance(0.4) and target not in OWN and not profile.exact
    state = _state(draw, machine, x.shape[1]) if stateful else None
    if draw.chance(0.2) and not profile.exact:
        machine = on_an_edge(draw, machine, with_silence(machine, x), state)
    split = draw.whole(0, len(x) + machine.latency - 1)
    options = drawn_options(target, Draw((seed, number, zlib.crc32(target.encode()))), profile)
    return Case(f"{seed}-{number}-{target}", machine, x, state, split, target, options)


def _input(draw: Draw, machine: StateMachine, steps: int, profile: Profile) -> Floats:
    """Numbers, spikes, or what is at the edge of numbers, (T, B, *features)."""
    shape = (steps, draw.one(_BATCHES), *machine.input_shape)
    x: Any
    if profile.exact:
        x = draw.standard(*shape)
    elif draw.chance(0.35):
        x = draw.random.random(shape) < draw.real(0.05, 0.9)
    elif draw.chance(0.12):
        x = np.full(shape, draw.one((0.0, 1.0, 1e4, 1e-30, -1e4)))
    else:
        x = draw.random.normal(0.5, 2.0, shape)
    x = np.asarray(x, np.float32)
    return np.repeat(x[:1], steps, axis=0) if machine.static_input else x


def _state(draw: Draw, machine: StateMachine, batch: int) -> dict[str, Any]:
    """As if the machine had run before: nothing is zero but the step counter."""
    return {
        name: draw.standard(*value.shape).astype(value.dtype) if machine.state_spec[name].batched else value
        for name, value in machine.initial_state(batch).items()
    }


def with_silence(machine: StateMachine, x: Floats) -> Floats:
    """The input, and silence until the last answer is out; an image goes on being shown."""
    after = np.repeat(x[:1], machine.latency, 0)
    return np.concatenate([x, after if machine.static_input else np.zeros_like(after)])


def save_case(case: Case, path: Path) -> None:
    """Write `path`, the machine (.psm), and beside it its input, state, target and options (.npz)."""
    said = {"name": case.name, "target": case.target, "split": case.split, "options": case.options._asdict()}
    state = {f"{_STATE}{name}": np.asarray(value) for name, value in (case.state or {}).items()}
    started = {"started": np.array(case.state is not None)}
    content = as_npz({"x": case.x, "case": np.array(json.dumps(said)), **started, **state})
    write_whole(path.with_suffix(".npz"), content)
    case.machine.save(path)


def load_case(path: Path) -> Case:
    """What `save_case` wrote.

    Raises:
        ArtifactError: if it is none.
    """
    beside = path.with_suffix(".npz")
    machine = StateMachine.load(path)
    try:
        with np.load(beside, allow_pickle=False) as content:
            arrays = dict(content)
        said = json.loads(str(arrays["case"]))
        state = {name.removeprefix(_STATE): value for name, value in arrays.items() if name.startswith(_STATE)}
        options = Options(**said["options"])
        started = state if bool(arrays["started"]) else None
        return Case(said["name"], machine, arrays["x"], started, int(said["split"]), said["target"], options)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path} is no case of the fuzzer: its input {beside} cannot be read: {error}") from error

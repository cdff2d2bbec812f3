"""Runs the torch module itself, in parallel, and keeps what its neuron layers did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.capture.leaves import unwrapped
from psu_deploy.capture.modes import as_deployed, in_float32
from psu_deploy.capture.outputs import returned
from psu_deploy.capture.spikingjelly import at_rest
from psu_deploy.machine import StateMachine, Trace, ops
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.machine.trace import sole
from psu_deploy.nn.along_time import Hold
from psu_deploy.nn.neurons import Neuron


def trace_module(model: nn.Module, machine: StateMachine, x: Tensor) -> Trace:
    """Run a module on a whole sequence and record its neuron layers under the machine's names.

    Args:
        model: the module `machine` was captured from. Runs in eval form; left as it was.
        machine: gives the layers' names and the shape of the output.
        x: (T, B, *input_shape).

    Returns:
        Spikes of every neuron layer, and V, R and margin where the module can tell them. A network with a readout
        gives one output for the whole sequence: it is then (1, B, ...).
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    model = unwrapped(model)
    with as_deployed(model), at_rest(model), _recording(model, machine, seen):
        outputs = returned(in_float32(model, x[0] if _takes_a_picture(model, machine) else x))
    trace = Trace(sole({name: _with_time(y, machine.outputs.get(name)) for name, y in outputs.items()}))
    for name in machine.spiking:
        path, _, use = name.partition("#")
        whole = 2 + len(machine.shapes[name])
        current, spikes = _use(seen[path], int(use or 1) - 1, len(x), whole)
        trace.spikes[name] = spikes.sign()  # some neurons scale what they emit
        module = neuron_at(model, name)
        if isinstance(module, Neuron):
            _add_potentials(trace, name, module, current)
    return trace


def _with_time(output: Tensor, features: Shape | None) -> Tensor:
    """(T, B, *features), T being 1 where one answer is given for all steps; nothing is said of what is unexpected."""
    return output if features is None or output.ndim == 2 + len(features) else output[None]


def _takes_a_picture(model: nn.Module, machine: StateMachine) -> bool:
    """Whether the module repeats its input by itself."""
    holds = any(isinstance(node.layer, ops.Hold) for node in machine.nodes)
    return holds and not any(isinstance(module, Hold) for module in model.modules())


def _use(calls: list[tuple[Tensor, Tensor]], use: int, steps: int, whole: int) -> tuple[Tensor, Tensor]:
    """What a layer was fed and gave: in one call, of so many axes, or in one per step of a loop."""
    if calls[0][1].ndim == whole:
        return calls[use]
    own = calls[use * steps : (use + 1) * steps]
    return torch.stack([current for current, _ in own]), torch.stack([spikes for _, spikes in own])


def _add_potentials(trace: Trace, name: str, module: Neuron, current: Tensor) -> None:
    with torch.no_grad():
        trace.potential[name], trace.reset[name], trace.margin[name] = module.margin(current)


@contextmanager
def _recording(model: nn.Module, machine: StateMachine, seen: dict[str, list[tuple[Tensor, Tensor]]]) -> Iterator[None]:
    def recorder(path: str) -> Any:
        def record(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            del module
            seen.setdefault(path, []).append(((*args, *kwargs.values())[0], output))

        return record

    paths = {_path(name): neuron_at(model, name) for name in machine.spiking}
    handles = [module.register_forward_hook(recorder(path), with_kwargs=True) for path, module in paths.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _path(name: str) -> str:
    return name.split("#")[0]


def neuron_at(model: nn.Module, name: str) -> nn.Module:
    """The module that a neuron layer of a machine was captured from; one that is used twice stands in two layers.

    Args:
        model: the machine was captured from it; what only wraps a module is looked through.
        name: of the layer.
    """
    model = unwrapped(model)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    return modules.get(_path(name), model)

"""Runs the torch module itself, in parallel, and keeps what its neuron layers did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.capture.modes import eval_mode
from psu_deploy.capture.spikingjelly import at_rest
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.nn.neurons import Neuron


def trace_module(model: nn.Module, machine: StateMachine, x: Tensor) -> Trace:
    """Run a module on a whole sequence and record its neuron layers under the machine's names.

    Args:
        model: the module `machine` was captured from. Runs in eval form; left as it was.
        machine: gives the layers' names and the shape of the output.
        x: (T, B, *input_shape).

    Returns:
        Spikes of every neuron layer, and V, R and margin where the module can tell them. A network with a readout
        gives one output for the whole sequence: `output` is then (1, B, ...).
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with eval_mode(model), at_rest(model), torch.no_grad(), _recording(model, machine, seen):
        output = model(x)
    output = output if output.ndim == 2 + len(machine.shapes[machine.output]) else output[None]
    trace = Trace(output)
    for name in machine.spiking:
        path, _, use = name.partition("#")
        current, spikes = seen[path][int(use or 1) - 1]
        trace.spikes[name] = spikes
        module = _module(model, name)
        if isinstance(module, Neuron):
            _add_potentials(trace, name, module, current)
    return trace


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

    paths = {_path(name): _module(model, name) for name in machine.spiking}
    handles = [module.register_forward_hook(recorder(path), with_kwargs=True) for path, module in paths.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _path(name: str) -> str:
    return name.split("#")[0]


def _module(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    return modules.get(_path(name), model)

"""SpikingJelly's classes, known by name: it is never imported here, and there if somebody passes a module of it in."""

from __future__ import annotations

from torch import nn

_PACKAGE = "spikingjelly.activation_based."

SET_MULTI_STEP = 'spikingjelly.activation_based.functional.set_step_mode(net, "m")'


def name_of(kind: type[nn.Module]) -> str:
    """`layer.Linear`, `neuron.LIFNode`: the public module and the class; "" for a class of somebody else."""
    if not kind.__module__.startswith(_PACKAGE):
        return ""
    room = kind.__module__.removeprefix(_PACKAGE).split(".")[0]
    return f"{room}.{kind.__name__}"


def is_neuron(module: nn.Module) -> bool:
    """Whether this is a neuron of SpikingJelly, or somebody's subclass of one: nothing that can be looked into."""
    return any(kind.__module__.startswith(f"{_PACKAGE}neuron") for kind in type(module).__mro__)


def has_memory(module: nn.Module) -> bool:
    """Whether a module keeps something from call to call."""
    return any(name_of(kind) == "base.MemoryModule" for kind in type(module).__mro__)

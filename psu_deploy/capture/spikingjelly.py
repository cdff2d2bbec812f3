"""SpikingJelly modules -> layers of the state machine.

SpikingJelly is never imported here: its classes are known by name, and are there if somebody passes one in.
Multi-step modules (`step_mode="m"`) work on (T, B, ...); single-step layers stand in a container that folds T into B.
Neurons of SpikingJelly keep their state from call to call: whoever runs a network does it `at_rest`.

Source: spikingjelly 2.0.0, activation_based.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import layers
from psu_deploy.capture.layers import Converter, array
from psu_deploy.capture.values import Layout
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

_PACKAGE = "spikingjelly.activation_based."
_SET_MULTI_STEP = 'spikingjelly.activation_based.functional.set_step_mode(net, "m")'


def is_layer(module: nn.Module) -> bool:
    """Whether this is a neuron or layer of SpikingJelly, one step of the network, and not a container we look into."""
    ours = type_of(module).__module__.startswith(f"{_PACKAGE}layer") or is_neuron(module)
    return ours and not is_folding_container(module)


def is_neuron(module: nn.Module) -> bool:
    """Whether this is a neuron of SpikingJelly, or somebody's subclass of one: nothing that can be looked into."""
    return any(kind.__module__.startswith(f"{_PACKAGE}neuron") for kind in type(module).__mro__)


def is_folding_container(module: nn.Module) -> bool:
    """Whether this container applies stateless layers to T*B samples at once."""
    name = _name(type_of(module))
    stateless = name == "layer.StepModeContainer" and module.step_mode == "m" and not module.stateful
    return name == "layer.SeqToANNContainer" or stateless


def fold(container: Any, x: Any) -> Any:
    """What a folding container does, in calls that torch.fx can follow."""
    y = x.flatten(0, 1)
    for child in container:
        y = child(y)
    return y.unflatten(0, (x.shape[0], x.shape[1]))


def converter(kind: type[nn.Module]) -> Converter | None:
    """The converter of a SpikingJelly type; None for any other."""
    return _CONVERTERS.get(_name(kind))


def fixed_steps(module: Any) -> int | None:
    """The one number of steps that a module runs on, if it has numbers of its own for every step; else None."""
    name = _name(type_of(module))
    if name in ("neuron.PSN", "neuron.MaskedPSN") or name.startswith("layer.BatchNormThroughTime"):
        return int(module.T)
    return len(module.scale) if name.startswith("layer.TemporalEffectiveBatchNorm") else None


def check_step_mode(module: Any, layout: Layout) -> None:
    """Raise `Refusal` if a SpikingJelly module is applied to something its step mode is not made for."""
    mode = getattr(module, "step_mode", None)
    if not is_layer(module) or mode is None or _name(type_of(module)) in _ANY_LAYOUT:
        return
    if is_neuron(module) and mode != "m":
        raise Refusal('step_mode="s" sees one step at a time', f"call {_SET_MULTI_STEP}")
    if (mode == "m") != (layout is Layout.SEQUENCE):
        raise Refusal(f'step_mode="{mode}" is applied to {layout.value}', f"call {_SET_MULTI_STEP}")


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let every call from outside start with all SpikingJelly modules at rest; give back their own memory afterwards.

    What is called from within another call goes on from where it is, as in `reset_net(model); model(x)`.
    """
    modules: list[Any] = [m for m in model.modules() if is_neuron(m) or _has_memory(m)]
    remembering = [m for m in modules if _has_memory(m)]
    kept = [dict(vars(m)) for m in modules]
    for module in remembering:  # another dict: what the module remembers now is neither read nor written
        module._memories = {name: deepcopy(module._memories_rv[name]) for name in module._memories}
    handles = _start_from_rest({model, *modules}, remembering)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, attributes in zip(modules, kept, strict=True):
            vars(module).clear()
            vars(module).update(attributes)


def _has_memory(module: nn.Module) -> bool:
    return any(_name(kind) == "base.MemoryModule" for kind in type(module).__mro__)


def _start_from_rest(callable_from_outside: set[nn.Module], remembering: list[Any]) -> list[Any]:
    """Hooks that reset all that remember before a call that no other of these calls encloses."""
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: Any) -> None:
        if not running:
            for other in remembering:
                other.reset()
        running.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    before = [m.register_forward_pre_hook(enter) for m in callable_from_outside]
    return before + [m.register_forward_hook(leave, always_call=True) for m in callable_from_outside]


def _name(kind: type[nn.Module]) -> str:
    """`layer.Linear`, `neuron.LIFNode`: the public module and the class; "" for a class of somebody else."""
    if not kind.__module__.startswith(_PACKAGE):
        return ""
    room = kind.__module__.removeprefix(_PACKAGE).split(".")[0]
    return f"{room}.{kind.__name__}"


def _spiking(module: Any) -> None:
    if not getattr(module.surrogate_function, "spiking", True):
        raise Refusal("surrogate_function.spiking=False: it emits no spikes", "train with spiking=True")


def _number(module: Any, name: str) -> float:
    """An attribute that is one number for the whole layer."""
    value = getattr(module, name)
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise Refusal(f"{name} has {value.numel()} numbers", "use one number for the layer")
    return float(value)


def _lif(module: Any, features: Shape) -> ops.LIFNeuron:
    return _leaky(module, _number(module, "tau"), bool(module.decay_input))


def _plif(module: Any, features: Shape) -> ops.LIFNeuron:
    """1/tau = sigmoid(w)."""
    tau = 1.0 + float(torch.tensor(-_number(module, "w"), dtype=torch.float64).exp())
    return _leaky(module, tau, bool(module.decay_input))


def _if(module: Any, features: Shape) -> ops.LIFNeuron:
    return _leaky(module, None, False)


def _leaky(module: Any, tau: float | None, decay_input: bool) -> ops.LIFNeuron:
    """The machine counts V from the reset potential, which shifts the threshold."""
    _spiking(module)
    reset = 0.0 if module.v_reset is None else _number(module, "v_reset")
    _starts_from(module, reset)
    kind = "soft" if module.v_reset is None else "hard"
    return ops.LIFNeuron(tau, decay_input, _number(module, "v_threshold") - reset, kind, ">=")


def _starts_from(module: Any, reset: float) -> None:
    rest = torch.as_tensor(module._memories_rv["v"])
    if not bool((rest == reset).all()):
        reason = f"v starts from another potential than the reset potential {reset:g}"
        raise Refusal(reason, f'call neuron.set_reset_value("v", {reset:g})')


def _psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    raise Refusal(
        "not causal: step t needs inputs of later steps, so there is no serial form",
        "train with MaskedPSN or SlidingPSN",
    )


def _masked_psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    _spiking(module)
    if float(module.lambda_) < 1.0:
        raise Refusal(
            f"lambda_ = {float(module.lambda_):g} < 1: rows still look ahead", "finish masking: lambda_ = 1.0"
        )
    matrix, steps = array(module.masked_weight()), int(module.T)
    columns = np.zeros((steps, min(int(module.k), steps)))
    for lag in range(columns.shape[1]):
        columns[: steps - lag, lag] = np.diagonal(matrix, -lag)
    return _summing(ops.Window(columns, array(module.bias)[:, 0], time_invariant=False))


def _sliding_psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    _spiking(module)
    newest_first = array(module.weight)[::-1]
    return _summing(ops.Window(newest_first[None], array(module.bias)[None], time_invariant=True))


def _summing(window: ops.Window) -> ops.SpikingNeuron:
    return ops.SpikingNeuron(window, None, ops.RawCurrent(), None, 0.0, ">=")


def _voting(module: Any, features: Shape) -> ops.Layer:
    """VotingLayer: means of neighbours; what is left over at the end has no vote."""
    size = int(module.voting_size)
    voters = np.kron(np.eye(features[0] // size), np.full((1, size), 1.0 / size))
    return ops.Linear(np.pad(voters, ((0, 0), (0, features[0] % size))), None)


def _temporal_batch_norm(module: Any, features: Shape) -> ops.Layer:
    raise Refusal("scales every time step differently", "train with BatchNorm or ThresholdDependentBatchNorm")


def _stateful_container(module: Any, features: Shape) -> ops.Layer:
    raise Refusal(
        "runs its modules step by step",
        f"put its neurons outside, its layers into SeqToANNContainer, and call {_SET_MULTI_STEP}",
    )


_ANY_LAYOUT = ("layer.Linear", "layer.Dropout", "layer.Dropout2d")
"""Layers that do the same to (T, B, ...) and (T*B, ...), whatever their step mode says."""

_CONVERTERS: dict[str, Converter] = {
    "layer.Linear": layers.linear,
    "layer.Conv1d": layers.conv,
    "layer.Conv2d": layers.conv,
    "layer.BatchNorm1d": layers.batch_norm,
    "layer.BatchNorm2d": layers.batch_norm,
    "layer.ThresholdDependentBatchNorm1d": layers.batch_norm,  # in eval mode a plain BatchNorm
    "layer.ThresholdDependentBatchNorm2d": layers.batch_norm,
    "layer.TemporalEffectiveBatchNorm1d": _temporal_batch_norm,
    "layer.TemporalEffectiveBatchNorm2d": _temporal_batch_norm,
    "layer.BatchNormThroughTime1d": _temporal_batch_norm,
    "layer.BatchNormThroughTime2d": _temporal_batch_norm,
    "layer.AvgPool1d": layers.avg_pool,
    "layer.AvgPool2d": layers.avg_pool,
    "layer.MaxPool1d": layers.max_pool,
    "layer.MaxPool2d": layers.max_pool,
    "layer.AdaptiveAvgPool1d": layers.adaptive_avg_pool,
    "layer.AdaptiveAvgPool2d": layers.adaptive_avg_pool,
    "layer.Dropout": layers.nothing,
    "layer.Dropout2d": layers.nothing,
    "layer.VotingLayer": _voting,
    "layer.MultiStepContainer": _stateful_container,
    "layer.StepModeContainer": _stateful_container,  # a stateless one is looked into
    "neuron.IFNode": _if,
    "neuron.LIFNode": _lif,
    "neuron.ParametricLIFNode": _plif,
    "neuron.PSN": _psn,
    "neuron.MaskedPSN": _masked_psn,
    "neuron.SlidingPSN": _sliding_psn,
}
"""Name -> converter."""

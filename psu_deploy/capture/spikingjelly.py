"""SpikingJelly modules -> layers of the state machine.

SpikingJelly is never imported here: its classes are known by name, and are there if somebody passes one in.
Multi-step modules (`step_mode="m"`) work on (T, B, ...); single-step layers stand in a container that folds T into B.
Neurons of SpikingJelly keep their state from call to call: whoever runs them resets them first (`at_rest`).

Source: spikingjelly 2.0.0, activation_based.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
from torch import nn

from psu_deploy.capture import layers
from psu_deploy.capture.layers import ConversionError, Converter, array
from psu_deploy.capture.values import Layout
from psu_deploy.machine import operators, ops
from psu_deploy.machine.fields import Shape

_PACKAGE = "spikingjelly.activation_based."
_SET_MULTI_STEP = 'spikingjelly.activation_based.functional.set_step_mode(net, "m")'


def is_layer(module: nn.Module) -> bool:
    """Whether this is a neuron or layer of SpikingJelly, one step of the network, and not a container we look into."""
    name = type(module).__module__
    ours = name.startswith((f"{_PACKAGE}neuron", f"{_PACKAGE}layer"))
    return ours and not is_folding_container(module)


def is_neuron(module: nn.Module) -> bool:
    """Whether this is a neuron of SpikingJelly."""
    return type(module).__module__.startswith(f"{_PACKAGE}neuron")


def is_folding_container(module: nn.Module) -> bool:
    """Whether this container applies stateless layers to T*B samples at once."""
    name = _name(type(module))
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
    """The one number of steps that a neuron runs on, T of PSN and MaskedPSN; None for any other module."""
    return int(module.T) if _name(type(module)) in ("neuron.PSN", "neuron.MaskedPSN") else None


def check_step_mode(module: Any, layout: Layout) -> None:
    """Raise `ConversionError` if a SpikingJelly module is applied to something its step mode is not made for."""
    mode = getattr(module, "step_mode", None)
    if not is_layer(module) or mode is None or _name(type(module)) in _ANY_LAYOUT:
        return
    if is_neuron(module) and mode != "m":
        raise ConversionError('step_mode="s" sees one step at a time', f"call {_SET_MULTI_STEP}")
    if (mode == "m") != (layout is Layout.SEQUENCE):
        raise ConversionError(f'step_mode="{mode}" is applied to {layout.value}', f"call {_SET_MULTI_STEP}")


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let every SpikingJelly neuron start from rest in every call, and give each its own memory back afterwards."""
    modules = [m for m in model.modules() if isinstance(getattr(m, "_memories", None), dict)]
    kept = [{name: copy(value) for name, value in m._memories.items()} for m in modules]
    handles = [m.register_forward_pre_hook(lambda module, _: module.reset()) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, memories in zip(modules, kept, strict=True):
            module._memories.update(memories)


def _name(kind: type[nn.Module]) -> str:
    """`layer.Linear`, `neuron.LIFNode`: the public module and the class; "" for a class of somebody else."""
    if not kind.__module__.startswith(_PACKAGE):
        return ""
    room = kind.__module__.removeprefix(_PACKAGE).split(".")[0]
    return f"{room}.{kind.__name__}"


def _spiking(module: Any) -> None:
    if not getattr(module.surrogate_function, "spiking", True):
        raise ConversionError("surrogate_function.spiking=False: it emits no spikes", "train with spiking=True")


def _lif(module: Any, features: Shape) -> ops.LIFNeuron:
    """LIFNode. The machine counts V from the reset potential, which shifts the threshold."""
    return _leaky(module, float(module.tau), bool(module.decay_input))


def _plif(module: Any, features: Shape) -> ops.LIFNeuron:
    share = 1.0 / (1.0 + np.exp(-float(module.w)))
    return _leaky(module, 1.0 / share, bool(module.decay_input))


def _if(module: Any, features: Shape) -> ops.LIFNeuron:
    return _leaky(module, None, False)


def _leaky(module: Any, tau: float | None, decay_input: bool) -> ops.LIFNeuron:
    _spiking(module)
    soft = module.v_reset is None
    threshold = float(module.v_threshold) - (0.0 if soft else float(module.v_reset))
    return ops.LIFNeuron(tau, decay_input, threshold, "soft" if soft else "hard", ">=")


def _psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    raise ConversionError(
        "not causal: step t needs inputs of later steps, so there is no serial form",
        "train with MaskedPSN or SlidingPSN",
    )


def _masked_psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    _spiking(module)
    if float(module.lambda_) < 1.0:
        raise ConversionError(
            f"lambda_ = {float(module.lambda_):g} < 1: rows still look ahead", "finish masking: lambda_ = 1.0"
        )
    matrix, steps = array(module.masked_weight()), int(module.T)
    columns = np.zeros((steps, min(int(module.k), steps)))
    for lag in range(columns.shape[1]):
        columns[: steps - lag, lag] = np.diagonal(matrix, -lag)
    return _summing(operators.Window(columns, array(module.bias)[:, 0], time_invariant=False))


def _sliding_psn(module: Any, features: Shape) -> ops.SpikingNeuron:
    _spiking(module)
    newest_first = array(module.weight)[::-1]
    return _summing(operators.Window(newest_first[None], array(module.bias)[None], time_invariant=True))


def _summing(window: operators.Window) -> ops.SpikingNeuron:
    return ops.SpikingNeuron(window, None, operators.RawCurrent(), None, 0.0, ">=")


def _temporal_batch_norm(module: Any, features: Shape) -> ops.Layer:
    raise ConversionError("scales every time step differently", "train with BatchNorm or ThresholdDependentBatchNorm")


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
    "layer.AvgPool1d": layers.avg_pool,
    "layer.AvgPool2d": layers.avg_pool,
    "layer.MaxPool1d": layers.max_pool,
    "layer.MaxPool2d": layers.max_pool,
    "layer.AdaptiveAvgPool1d": layers.adaptive_avg_pool,
    "layer.AdaptiveAvgPool2d": layers.adaptive_avg_pool,
    "layer.Dropout": layers.nothing,
    "layer.Dropout2d": layers.nothing,
    "neuron.IFNode": _if,
    "neuron.LIFNode": _lif,
    "neuron.ParametricLIFNode": _plif,
    "neuron.PSN": _psn,
    "neuron.MaskedPSN": _masked_psn,
    "neuron.SlidingPSN": _sliding_psn,
}
"""Name -> converter."""

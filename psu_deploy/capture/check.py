"""Every converted layer is held against the module it came from, on the example."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from psu_deploy.capture.values import Value
from psu_deploy.errors import InputError, Refusal
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array

_TOLERANCE = 1e-3
"""Relative to the largest number; far above float32 rounding, far below any change of meaning."""

_ROUNDING = 2.0**-20
"""Of a number that is summed, relative: some roundings of float32."""

_NEURONS_CHECKED = 16
"""Per layer; the serial run of a learned T x T matrix costs T * T numbers per neuron."""


def check_layer(layer: ops.Layer, inputs: Sequence[Value], result: Value) -> None:
    """Raise unless the layer maps the example's inputs to the example's result.

    A hook, an override or a parametrisation can make a module compute something else than its type says.

    Raises:
        Refusal: if shapes or numbers differ.
    """
    try:
        computed_shape = layer.output_shape(*(value.features for value in inputs))
    except InputError as error:
        raise Refusal(str(error), "change the shape before this layer") from error
    if computed_shape != result.features:
        raise Refusal(f"gives {result.features} where {type(layer).__name__} gives {computed_shape}", _REMEDY)
    # A neuron has a check of its own; a readout and a delay say nothing about a single step.
    if isinstance(layer, ops.Neuron | ops.Readout | ops.Delay):
        return
    if layer.along_time:
        same = _close(_run_along_time(layer, inputs[0].tensor), result.tensor)
    else:
        computed = layer.step([_batched(value) for value in inputs], Context(_like(result.tensor), {}, 0))
        same = _close(computed, _batched(result), _summed(layer))
    if not same:
        raise Refusal(f"does not compute what {type(layer).__name__} computes", _REMEDY)


def _run_along_time(layer: ops.Layer, x: Tensor) -> Tensor:
    """A sequence through one layer, and silence behind it for as long as the layer looks ahead."""
    machine = StateMachine((Node("layer", layer, ("x",)),), tuple(x.shape[2:]))
    silence = x.new_zeros(machine.latency, *x.shape[1:])
    result: Tensor = machine.run(torch.cat([x, silence]))
    return result[machine.latency :]


def check_neuron(layer: ops.Neuron, like: Tensor, module: Callable[[Tensor], Tensor]) -> None:
    """Raise unless the module fires as the layer says, on weak currents and on some strong enough to make it fire.

    Args:
        layer: what the module was converted to.
        like: shape (T, B, *features), dtype and device of the currents.
        module: runs the module.

    Raises:
        Refusal: if a decision with a clear margin differs.
    """
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    for x in (noise, 10 * (1 + abs(getattr(layer, "threshold", 0.0))) * noise):
        wrong = _flips_off_the_edge(layer, _some_neurons(x), _some_neurons(module(x)))
        if wrong:
            raise Refusal(f"fires differently from its equations in {wrong} decisions", _REMEDY)


_REMEDY = "remove hooks, overrides and parametrisations, or pass converters={type: function}"


def _some_neurons(sequence: Tensor) -> Tensor:
    """(T, B, *features) -> (T, B, n): neurons of a layer share their numbers, so a few spread over it will do."""
    flat = sequence.flatten(2)
    return flat[..., :: -(-flat.shape[-1] // _NEURONS_CHECKED)]


def _flips_off_the_edge(layer: ops.Neuron, current: Tensor, found: Tensor) -> int:
    """Decisions that differ although the margin is clear."""
    machine = StateMachine((Node("neuron", layer, ("x",)),), current.shape[2:])
    trace = machine.trace(current.double())
    margin, spikes = trace.margin["neuron"], trace.spikes["neuron"]
    clear = margin.abs() > _TOLERANCE * (1 + trace.potential["neuron"].abs() + trace.reset["neuron"].abs())
    return int((clear & (spikes != found)).sum())


def _batched(value: Value) -> Tensor:
    return value.tensor.flatten(0, 1) if value.layout.leading == 2 else value.tensor


def _close(a: Tensor, b: Tensor, summed: float = 0.0) -> bool:
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=0.0, atol=_TOLERANCE * scale + _ROUNDING * summed))


def _summed(layer: ops.Layer) -> float:
    """The largest number that a module adds up while it runs, beside its input: it may cancel, its rounding stays."""
    return float(layer.shift_size.max()) if isinstance(layer, ops.ChannelAffine) and layer.shift_size.size else 0.0


def _like(tensor: Tensor) -> Callable[[Array], Tensor]:
    return lambda array: torch.tensor(array, dtype=tensor.dtype, device=tensor.device)

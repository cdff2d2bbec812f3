"""Every converted layer is held against the module it came from, on the example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from psu_deploy.capture.axes import TIME
from psu_deploy.capture.shortcuts import is_repeated, some_neurons
from psu_deploy.capture.values import Example, Value, as_batch
from psu_deploy.errors import InputError, Refusal
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array

_TOLERANCE = 1e-3
"""Relative to the largest number; far above float32 rounding, far below any change of meaning."""

_ROUNDING = 2.0**-20
"""Of a number that is summed, relative: some roundings of float32."""

SOME_SAMPLES = 3
"""Of all steps together, at which a layer is held against its module; in the whole network it is at every one."""


def check_layers(layers: Sequence[ops.Layer], inputs: Sequence[Value], result: Value, sizes: Example) -> None:
    """Raise unless the layers map the example's inputs to the example's result.

    A hook, an override or a parametrisation can make a module compute something else than its type says.

    Raises:
        Refusal: if shapes or numbers differ.
    """
    shapes = [value.features for value in inputs]
    for layer in layers:
        try:
            shapes = [layer.output_shape(*shapes)]
        except InputError as error:
            raise Refusal(str(error), "change the shape before this layer") from error
    names = ", ".join(type(layer).__name__ for layer in layers)
    if shapes[0] != result.features:
        raise Refusal(f"gives {result.features} where {names} gives {shapes[0]}", REMEDY)
    # A neuron has a check of its own; what works along time is held against the module in the whole network.
    if any(layer.along_time or isinstance(layer, ops.Neuron | ops.Delay) for layer in layers):
        return
    along_time = any(TIME in axis for axis in result.axes)
    every = -(-sizes.steps * sizes.batch // SOME_SAMPLES) if along_time else 1
    some = slice(1) if is_repeated(result) else slice(None, None, every)  # of inputs that differ, one result for all
    computed = [as_batch(value, sizes, along_time=along_time)[some] for value in inputs]
    for layer in layers:
        computed = [layer.step(computed, Context(like(result.tensor), {}, 0))]
    if not close(computed[0], as_batch(result, sizes, along_time=along_time)[some], max(map(_summed, layers))):
        if bool(result.tensor.isnan().any()):
            raise Refusal("has no value, NaN, at some ordinary numbers", "put relu or abs before it, or a clamp")
        raise Refusal(f"does not compute what {names} computes", REMEDY)


def check_neuron(nodes: Sequence[Node], like: Tensor, module: Callable[[Tensor], Tensor]) -> None:
    """Raise unless the module fires as its layers say, on weak currents and on some strong enough to make it fire.

    Args:
        nodes: what the module was converted to; the last is the neuron, called "neuron".
        like: shape (T, B, *features), dtype and device of the currents.
        module: runs the module, and gives its spikes.

    Raises:
        Refusal: if a decision with a clear margin differs.
    """
    some = some_neurons if len(nodes) == 1 else lambda sequence: sequence
    threshold = abs(getattr(nodes[-1].layer, "threshold", 0.0))
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    for x in (noise, 10 * (1 + threshold) * noise):
        wrong = _flips_off_the_edge(nodes, some(x), some(module(x)))
        if wrong:
            raise Refusal(f"fires differently from its equations in {wrong} decisions", REMEDY)


REMEDY = "remove hooks, overrides and parametrisations, or pass converters={type: function}"


def _flips_off_the_edge(nodes: Sequence[Node], current: Tensor, found: Tensor) -> int:
    """Decisions that differ although the margin is clear."""
    machine = StateMachine(tuple(nodes), tuple(current.shape[2:]))
    trace = machine.trace(current.double())
    margin, spikes = trace.margin["neuron"], trace.spikes["neuron"]
    clear = margin.abs() > _TOLERANCE * (1 + trace.potential["neuron"].abs() + trace.reset["neuron"].abs())
    return int((clear & (spikes != found)).sum())


def close(a: Tensor, b: Tensor, summed: float = 0.0) -> bool:
    """Whether the numbers are the same up to the rounding of float32."""
    distance = Distance([b], summed)
    distance.add(a, b)
    return distance.is_close


class Distance:
    """How far numbers are from those that are expected, a part of them at a time.

    Args:
        expected: all of them.
        summed: the largest number that was added up on the way.
    """

    def __init__(self, expected: Iterable[Tensor], summed: float = 0.0) -> None:
        scale = max([1.0, *(_largest(part) for part in expected)])
        self._most = _TOLERANCE * scale + _ROUNDING * summed
        self.is_close = True

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Compare a part; infinities must be the same."""
        self.is_close = self.is_close and found.shape == expected.shape and self._near(found, expected)

    def _near(self, found: Tensor, expected: Tensor) -> bool:
        difference = _largest(found - expected)
        if not math.isfinite(difference):
            difference = _largest(torch.where(found == expected, 0.0, found - expected))
        return math.isfinite(difference) and difference <= self._most


def _largest(numbers: Tensor) -> float:
    """The largest size; NaN if there is one."""
    return max(map(abs, map(float, numbers.aminmax()))) if numbers.numel() else 0.0


def _summed(layer: ops.Layer) -> float:
    """The largest number that a module adds up while it runs, beside its input: it may cancel, its rounding stays."""
    return float(layer.shift_size.max()) if isinstance(layer, ops.ChannelAffine) and layer.shift_size.size else 0.0


def like(tensor: Tensor) -> Callable[[Array], Tensor]:
    """Makes constants of the dtype and device of a tensor."""
    return lambda array: torch.tensor(array, dtype=tensor.dtype, device=tensor.device)

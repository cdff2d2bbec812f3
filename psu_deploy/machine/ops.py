"""The layers of a state machine: frozen dataclasses, one per kind.

Shapes are those of one step without batch: a layer maps features to features, `output_shape` says which.
A layer with memory lists it in `state_shapes`: role -> shape per sample; all state starts at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from psu_deploy.errors import InputError
from psu_deploy.machine.fields import Array, Shape, finite, freeze, kind_of, one_of, pairs, whole_numbers
from psu_deploy.machine.operators import Estimator, Operator

MAX_DELAY = 100_000
"""Steps; more is a mistake, or a file that wants our memory."""

Padding = tuple[tuple[int, int], ...]


class Layer:
    """Base of all layers: one input, no state, no horizon."""

    arity: int | None = 1
    """Number of inputs; None = two or more."""

    @property
    def horizon(self) -> int | None:
        """Number of steps the layer is defined for; None = any number."""
        return None

    @property
    def uses_step(self) -> bool:
        """Whether the layer reads the step counter."""
        return self.horizon is not None

    def output_shape(self, *inputs: Shape) -> Shape:
        """Features out, from the features of every input. Raises `InputError` if they do not fit."""
        return inputs[0]

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Role -> shape per sample of every state tensor."""
        return {}


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """`y = W x + b` over the last axis: (..., in) -> (..., out).

    Args:
        weight: (out, in).
        bias: (out,) or None.
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        freeze(self, "weight", 2)
        _freeze_bias(self)

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][-1] != self.weight.shape[1]:
            raise InputError(f"Linear needs {self.weight.shape[1]} features in the last axis, got shape {inputs[0]}")
        return (*inputs[0][:-1], self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class _Conv(Layer):
    weight: Array
    bias: Array | None
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int

    axes = 0

    def __post_init__(self) -> None:
        freeze(self, "weight", self.axes + 2)
        _freeze_bias(self)
        whole_numbers(self, "stride", 1, self.axes)
        whole_numbers(self, "dilation", 1, self.axes)
        pairs(self, "padding", self.axes)
        if not isinstance(self.groups, int) or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise InputError(
                f"{type(self).__name__}: groups={self.groups} does not divide {self.weight.shape[0]} channels"
            )

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = self.weight.shape[1] * self.groups
        if len(inputs[0]) != self.axes + 1 or inputs[0][0] != channels:
            raise InputError(
                f"{type(self).__name__} needs {channels} channels and {self.axes} more axes, got {inputs[0]}"
            )
        spatial = _slide(inputs[0][1:], self.weight.shape[2:], self.stride, self.padding, self.dilation)
        return (self.weight.shape[0], *spatial)


@dataclass(frozen=True, eq=False)
class Conv1d(_Conv):
    """Cross-correlation over one axis: (C_in, L) -> (C_out, L'), zero padding.

    Args:
        weight: (C_out, C_in/groups, k).
        bias: (C_out,) or None.
        stride: (s,) in samples.
        padding: ((before, after),) zeros.
        dilation: (d,) in samples.
        groups: number of groups.
    """

    axes = 1


@dataclass(frozen=True, eq=False)
class Conv2d(_Conv):
    """Cross-correlation over two axes: (C_in, H, W) -> (C_out, H', W'), zero padding.

    Args:
        weight: (C_out, C_in/groups, kh, kw).
        bias: (C_out,) or None.
        stride: (sh, sw) in pixels.
        padding: ((top, bottom), (left, right)) zeros.
        dilation: (dh, dw) in pixels.
        groups: number of groups.
    """

    axes = 2


@dataclass(frozen=True, eq=False)
class ChannelAffine(Layer):
    """`y[c] = scale[c]*x[c] + shift[c]` per channel, the first feature axis: a BatchNorm in eval form.

    Args:
        scale: (C,).
        shift: (C,).
    """

    scale: Array
    shift: Array

    def __post_init__(self) -> None:
        freeze(self, "scale", 1)
        freeze(self, "shift", 1)
        if self.scale.shape != self.shift.shape:
            raise InputError(f"ChannelAffine: scale {self.scale.shape} and shift {self.shift.shape} differ")

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][0] != len(self.scale):
            raise InputError(f"ChannelAffine needs {len(self.scale)} channels, got shape {inputs[0]}")
        return inputs[0]


@dataclass(frozen=True, eq=False)
class _Pool(Layer):
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding

    def __post_init__(self) -> None:
        whole_numbers(self, "kernel", 1)
        whole_numbers(self, "stride", 1, len(self.kernel))
        pairs(self, "padding", len(self.kernel))
        if len(self.kernel) not in (1, 2):
            raise InputError(f"{type(self).__name__} slides over one or two axes, got kernel {self.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != len(self.kernel) + 1:
            raise InputError(f"{type(self).__name__} needs channels and {len(self.kernel)} more axes, got {inputs[0]}")
        spatial = _slide(inputs[0][1:], self.kernel, self.stride, self.padding, (1,) * len(self.kernel))
        return (inputs[0][0], *spatial)


@dataclass(frozen=True, eq=False)
class AvgPool(_Pool):
    """Mean over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
        count_padding: whether padded zeros count in the divisor.
    """

    count_padding: bool = True


@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """Sum over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
    """


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """Maximum over a sliding window of one or two axes; padding never wins.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) per axis.
    """


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All features in one axis, the last axis fastest: (C, H, W) -> (C*H*W,)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Sum of two or more inputs of one shape, left to right."""

    arity = None

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1:
            raise InputError(f"Add needs inputs of one shape, got {inputs}")
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Delay(Layer):
    """`y[t] = x[t - steps]`, zero before the first input. State `buffer`: (B, steps, *features), oldest first.

    Args:
        steps: at least 1.
    """

    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or not 1 <= self.steps <= MAX_DELAY:
            raise InputError(f"Delay.steps must be a whole number in 1..{MAX_DELAY}, got {self.steps!r}")

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"buffer": (self.steps, *inputs[0])}


@dataclass(frozen=True, eq=False)
class SpikingNeuron(Layer):
    """A neuron layer.

        V = integrate(I)
        E = estimate(I)                 V itself where estimate is None
        R = reset(estimator(E))         0 where reset is None
        S = 1 if V - R - threshold >= 0 (or > 0) else 0

    State: `V`, `E`, `R`, that of the three operators, where they have any.

    Args:
        integrate: what makes the membrane potential of the input current.
        estimate: what the spike estimate looks through; None = it looks at V.
        estimator: the pointwise function that estimates the spike.
        reset: a strictly causal operator; None = no reset.
        threshold: V_th.
        fire_on: ">=" or ">".
    """

    integrate: Operator
    estimate: Operator | None
    estimator: Estimator
    reset: Operator | None
    threshold: float
    fire_on: str

    def __post_init__(self) -> None:
        finite(self, "threshold")
        one_of(self, "fire_on", (">=", ">"))
        kind_of(self, "integrate", Operator)
        kind_of(self, "estimate", Operator | None)
        kind_of(self, "reset", Operator | None)
        kind_of(self, "estimator", Estimator)
        if self.estimate is not None and self.reset is None:
            raise InputError("SpikingNeuron has an estimate but no reset to feed it to")
        if self.reset is not None and not self.reset.strict:
            raise InputError("SpikingNeuron.reset must be strictly causal: R of a step sees earlier steps only")

    @property
    def operators(self) -> dict[str, Operator]:
        """Role (V, E, R) -> operator, in the order they run; absent ones left out."""
        roles = {"V": self.integrate, "E": self.estimate, "R": self.reset}
        return {role: operator for role, operator in roles.items() if operator is not None}

    @property
    def horizon(self) -> int | None:
        return min((o.horizon for o in self.operators.values() if o.horizon is not None), default=None)

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = {role: operator.state_shape(inputs[0]) for role, operator in self.operators.items()}
        return {role: shape for role, shape in shapes.items() if shape is not None}


@dataclass(frozen=True, eq=False)
class Readout(Layer):
    """What the decoder says after every step: the running value of a reduction over time.

    Args:
        kind: `"mean"` of steps 0..t (state `sum`), `"sum"` of steps 0..t (state `sum`), or `"last"`, the step itself.
            The value after the last step is the reduction over the whole sequence.
    """

    kind: str

    def __post_init__(self) -> None:
        one_of(self, "kind", ("mean", "sum", "last"))

    @property
    def uses_step(self) -> bool:
        return self.kind == "mean"

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {} if self.kind == "last" else {"sum": inputs[0]}


def _freeze_bias(layer: Linear | _Conv) -> None:
    freeze(layer, "bias", 1, optional=True)
    if layer.bias is not None and len(layer.bias) != layer.weight.shape[0]:
        raise InputError(
            f"{type(layer).__name__}: bias has {len(layer.bias)} entries for {layer.weight.shape[0]} outputs"
        )


def _slide(size: Shape, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape) -> Shape:
    spans = [n + sum(p) - d * (k - 1) - 1 for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)]
    if min(spans) < 0:
        raise InputError(f"a window of {kernel} does not fit an input of {size} padded by {padding}")
    return tuple(span // s + 1 for span, s in zip(spans, stride, strict=True))

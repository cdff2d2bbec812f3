"""The canonical form of a network on its way to NIR: few primitives, all time-invariant, wired into a graph.

Shapes are features of one step. A primitive that works on *copies* sees its input as q copies of the layer's features,
stacked along the first axis (K thresholds per neuron are K copies), and treats every neuron alike. One wide node per
layer keeps the number of edges small and the order of every sum fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from psu_deploy.errors import Problem
from psu_deploy.machine.ops.fields import Array, Shape

INPUT = "input"
OUTPUT = "output"


class Primitive:
    """Base: features in, features out."""

    def output_shape(self, shape: Shape) -> Shape:
        """Features out, of the features in."""
        return shape


@dataclass(frozen=True, eq=False)
class Dense(Primitive):
    """`y = W x + b` over the one axis of its input. weight (out, in), bias (out,)."""

    weight: Array
    bias: Array

    def output_shape(self, shape: Shape) -> Shape:
        return (len(self.bias),)


@dataclass(frozen=True, eq=False)
class Convolution(Primitive):
    """Cross-correlation over one or two axes: one group, the same padding on both sides, square kernels.

    Args:
        weight: (C_out, C_in, k) or (C_out, C_in, k, k).
        bias: (C_out,).
        stride: per axis.
        padding: zeros on either side, per axis.
        dilation: per axis.
    """

    weight: Array
    bias: Array
    stride: Shape
    padding: Shape
    dilation: Shape

    def output_shape(self, shape: Shape) -> Shape:
        kernel = self.weight.shape[2:]
        spans = [
            n + 2 * p - d * (k - 1) - 1
            for n, p, d, k in zip(shape[1:], self.padding, self.dilation, kernel, strict=True)
        ]
        return (len(self.bias), *(span // s + 1 for span, s in zip(spans, self.stride, strict=True)))


@dataclass(frozen=True, eq=False)
class Pool(Primitive):
    """Sum or mean over windows of two axes, zeros counted. average, kernel, stride, padding per axis."""

    average: bool
    kernel: Shape
    stride: Shape
    padding: Shape

    def output_shape(self, shape: Shape) -> Shape:
        spans = [n + 2 * p - k for n, p, k in zip(shape[1:], self.padding, self.kernel, strict=True)]
        return (shape[0], *(span // s + 1 for span, s in zip(spans, self.stride, strict=True)))


@dataclass(frozen=True, eq=False)
class Flatten(Primitive):
    """All features in one axis, the last axis fastest."""

    def output_shape(self, shape: Shape) -> Shape:
        return (int(np.prod(shape)),)


@dataclass(frozen=True, eq=False)
class Mix(Primitive):
    """`y_i = sum_j matrix[i, j] x_j + bias[i]` over copies: (q copies) -> (p copies), neuron by neuron.

    Args:
        matrix: (p, q).
        bias: (p,).
    """

    matrix: Array
    bias: Array

    def output_shape(self, shape: Shape) -> Shape:
        copies, inputs = self.matrix.shape
        return (shape[0] // inputs * copies, *shape[1:])


@dataclass(frozen=True, eq=False)
class Leak(Primitive):
    """`y_i = decays[i]*y_i + gains[i]*x`: one input copy, or as many as decays; decay 0 remembers nothing.

    Args:
        gains: per copy out.
        decays: per copy out, in [0, 1].
        inputs: copies in: 1, or as many as out.
    """

    gains: tuple[float, ...]
    decays: tuple[float, ...]
    inputs: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] // self.inputs * len(self.decays), *shape[1:])


@dataclass(frozen=True, eq=False)
class Taps(Primitive):
    """The last `order` inputs as copies, the newest first; zero before the first step."""

    order: int

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] * self.order, *shape[1:])


@dataclass(frozen=True, eq=False)
class Step(Primitive):
    """`1 if x_i >= thresholds[i]` (or `>`) `else 0`, per copy."""

    thresholds: tuple[float, ...]
    fire_on: str


@dataclass(frozen=True, eq=False)
class Fire(Primitive):
    """Leaky integrate-and-fire with reset to zero; tau in steps, None = no leak. See `machine.ops.LIFNeuron`."""

    tau: float | None
    decay_input: bool
    threshold: float
    fire_on: str


@dataclass(frozen=True)
class Vertex:
    """One primitive in its place.

    Args:
        name: letters, digits and underscores, unique.
        primitive: what it computes.
        inputs: names of earlier vertices, or "input"; several are summed.
        feedback: names of vertices whose value of the step before is added.
    """

    name: str
    primitive: Primitive
    inputs: tuple[str, ...]
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """Vertices in an order in which every input is computed before it is used.

    Args:
        vertices: the graph.
        input_shape: features of one step.
        output: name of the vertex that is the output.
        spiking: neuron layer of the machine -> name of the vertex that emits its spikes.
        readout: what is done with the outputs of all steps: "mean", "sum" or "last" (nothing).
        layers: what the names of a layer's vertices have before "__" -> name and type of the machine's layer.
    """

    vertices: tuple[Vertex, ...]
    input_shape: Shape
    output: str
    spiking: Mapping[str, str] = field(default_factory=dict)
    readout: str = "last"
    layers: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def problem(self, vertex: str, reason: str, remedy: str) -> Problem:
        """What stands in the way at a vertex, in terms of the machine's layer it belongs to."""
        name, kind = self.layers.get(vertex.partition("__")[0], (vertex, "node"))
        return Problem(name, kind, reason, remedy)

    def shapes(self) -> dict[str, Shape]:
        """Name of every vertex, and "input" -> features."""
        shapes = {INPUT: self.input_shape}
        for vertex in self.vertices:
            shapes[vertex.name] = vertex.primitive.output_shape(shapes[vertex.inputs[0]])
        return shapes

    def readers(self, name: str) -> list[Vertex]:
        """Vertices that read `name`, feedback included."""
        return [v for v in self.vertices if name in (*v.inputs, *v.feedback)]

    def replaced(self, changed: Mapping[str, Vertex | None]) -> Network:
        """The same network with vertices exchanged by name; None removes one."""
        kept = (changed.get(vertex.name, vertex) for vertex in self.vertices)
        return replace(self, vertices=tuple(vertex for vertex in kept if vertex is not None))

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self.vertices)


def scale(factor: float) -> Mix:
    """`y = factor*x`."""
    return mix([[factor]])


def mix(matrix: Any, bias: Any = None) -> Mix:
    """A `Mix` of plain numbers; no bias = 0."""
    coefficients = np.asarray(matrix, dtype=np.float64)
    offsets = np.zeros(len(coefficients)) if bias is None else np.asarray(bias, dtype=np.float64)
    return Mix(coefficients, offsets)

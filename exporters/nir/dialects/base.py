"""What all dialects share: the linear layers, and the graph that grows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import nir
import numpy as np

from psu_deploy.errors import InternalError
from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.primitives import INPUT, OUTPUT, Network, Vertex
from psu_deploy.exporters.nir.target import NirTarget
from psu_deploy.machine.ops.fields import Array, Shape


class Dialect(ABC):
    """Writes vertices as NIR nodes and edges.

    Attributes:
        nodes: name -> NIR node, in the order they run.
        edges: from, to, in the order they were drawn.
        feedback: those edges that lead back in time.
    """

    def __init__(self, network: Network, target: NirTarget) -> None:
        self.network = network
        self.target = target
        self.shapes = network.shapes()
        self.nodes: dict[str, nir.NIRNode] = {INPUT: nir.Input({"input": np.array(network.input_shape)})}
        self.edges: list[tuple[str, str]] = []
        self.feedback: set[tuple[str, str]] = set()

    def write(self, vertex: Vertex) -> None:
        """One vertex, by the method named after its primitive."""
        shape = self.shapes[vertex.inputs[0]]
        entry = getattr(self, f"write_{type(vertex.primitive).__name__.lower()}")(vertex, vertex.primitive, shape)
        for source in vertex.inputs:
            self.connect(source, entry)
        for source in vertex.feedback:
            self.connect(source, entry, back=True)

    def close(self) -> None:
        """The output."""
        shape = self.shapes[self.network.output]
        self.nodes[OUTPUT] = nir.Output({"output": np.array(shape)})
        self.connect(self.network.output, OUTPUT)

    def connect(self, source: str, sink: str, *, back: bool = False) -> None:
        """Draw an edge."""
        self.edges.append((source, sink))
        if back:
            self.feedback.add((source, sink))

    # A write_* method adds the nodes of a vertex, the last of them under the vertex's own name, connects them with each
    # other, and returns the name of the one that takes the vertex's inputs.

    def write_dense(self, vertex: Vertex, dense: primitives.Dense, shape: Shape) -> str:
        self.nodes[vertex.name] = nir.Affine(weight=single(dense.weight), bias=single(dense.bias))
        return vertex.name

    def write_convolution(self, vertex: Vertex, conv: primitives.Convolution, shape: Shape) -> str:
        self.nodes[vertex.name] = self.convolution(vertex.name, conv, shape)
        return vertex.name

    def write_pool(self, vertex: Vertex, pool: primitives.Pool, shape: Shape) -> str:
        kind = nir.AvgPool2d if pool.average else nir.SumPool2d
        numbers = (np.array(values) for values in (pool.kernel, pool.stride, pool.padding))
        self.nodes[vertex.name] = kind(*numbers)
        return vertex.name

    def write_flatten(self, vertex: Vertex, flatten: primitives.Flatten, shape: Shape) -> str:
        self.nodes[vertex.name] = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
        return vertex.name

    def write_mix(self, vertex: Vertex, mix: primitives.Mix, shape: Shape) -> str:
        self.nodes[vertex.name] = self.pointwise(vertex.name, mix.matrix, mix.bias, shape)
        return vertex.name

    @abstractmethod
    def write_leak(self, vertex: Vertex, leak: primitives.Leak, shape: Shape) -> str: ...

    @abstractmethod
    def write_taps(self, vertex: Vertex, taps: primitives.Taps, shape: Shape) -> str: ...

    @abstractmethod
    def write_step(self, vertex: Vertex, step: primitives.Step, shape: Shape) -> str: ...

    @abstractmethod
    def write_fire(self, vertex: Vertex, fire: primitives.Fire, shape: Shape) -> str: ...

    def pointwise(self, name: str, matrix: Array, bias: Array, shape: Shape) -> nir.NIRNode:
        """A matrix over copies: `Affine`, or a dense 1 x 1 convolution."""
        features = shape[0] // matrix.shape[1]
        weight, offsets = expanded(matrix, features), np.repeat(bias, features)
        if len(shape) == 1:
            return nir.Affine(weight=single(weight), bias=single(offsets))
        axes = len(shape) - 1
        kernel = weight.reshape(*weight.shape, *[1] * axes)
        return self.convolution(
            name, primitives.Convolution(kernel, offsets, (1,) * axes, (0,) * axes, (1,) * axes), shape
        )

    def convolution(self, name: str, conv: primitives.Convolution, shape: Shape) -> nir.NIRNode:
        """`Conv1d` or `Conv2d`."""
        weight, bias = single(conv.weight), single(conv.bias)
        if len(shape) == 3:
            return nir.Conv2d(
                input_shape=(shape[1], shape[2]),
                weight=weight,
                stride=pair(conv.stride),
                padding=pair(conv.padding),
                dilation=pair(conv.dilation),
                groups=1,
                bias=bias,
            )
        if len(shape) == 2 and self.target.conv1d:
            numbers = (conv.stride[0], conv.padding[0], conv.dilation[0])
            return nir.Conv1d(shape[1], weight, *numbers, groups=1, bias=bias)
        raise InternalError(f"{name} should have been refused: a layer over features of {len(shape)} axes")


def expanded(matrix: Array, features: int) -> Array:
    """A matrix over copies as one over all entries of the first axis."""
    return np.asarray(np.kron(matrix, np.eye(features)), dtype=np.float64)


def single(values: Any) -> Any:
    """As float32, what every reader computes in."""
    return np.asarray(values, dtype=np.float32)


def pair(values: Shape) -> tuple[int, int]:
    """Two plain integers."""
    return int(values[0]), int(values[1])


def per_copy(values: Any, shape: Shape, copies: int) -> Array:
    """One number per copy, spread over a layer whose first axis holds the copies."""
    spread = np.repeat(np.asarray(values, dtype=np.float64), shape[0] // copies)
    return np.ascontiguousarray(np.broadcast_to(spread.reshape(-1, *[1] * (len(shape) - 1)), shape))

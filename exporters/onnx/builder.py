"""Writes ONNX nodes down one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from psu_deploy.exporters.onnx.rounding import Weights, stored
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.numerics.subnormal import flushed


class Builder:
    """Collects nodes and constants; gives every value a readable, unique name.

    Args:
        subnormals: keep them in arrays, as earlier releases did.
        weights: what `weights` are stored as.
    """

    def __init__(self, *, subnormals: bool = False, weights: Weights = "float32") -> None:
        self._subnormals = subnormals
        self._weights = weights
        self._tape = Tape()
        self._top = self._tape
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        self._names: dict[str, int] = {}
        self._shared: dict[str, ir.Value] = {}

    def branch(self) -> Builder:
        """A builder for a subgraph: nodes of its own; names and constants are shared with this one."""
        inner = Builder(subnormals=self._subnormals, weights=self._weights)
        inner._top, inner._constants, inner._names = self._top, self._constants, self._names
        return inner

    @property
    def nodes(self) -> list[ir.Node]:
        """Nodes so far, in order."""
        return list(self._tape.nodes)

    @property
    def initializers(self) -> list[ir.Value]:
        """Constants so far."""
        return list(self._tape.initializers)

    def op(self, kind: str, *inputs: ir.Value | None, name: str, **attributes: Any) -> ir.Value:
        """Append one node and return its output, named `name` (or `name_2`, ... if taken)."""
        return self.ops(kind, *inputs, names=(name,), **attributes)[0]

    def ops(self, kind: str, *inputs: ir.Value | None, names: Sequence[str], **attributes: Any) -> tuple[ir.Value, ...]:
        """Append one node and return its outputs, named likewise."""
        values = self._tape.op_multi_out(kind, list(inputs), attributes or None, num_outputs=len(names))
        for value, name in zip(values, names, strict=True):
            value.name = self._unique(name)
        return tuple(values)

    def once(self, key: str, make: Callable[[], ir.Value]) -> ir.Value:
        """A value that several layers share, made at its first use."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def reserve(self, *names: str) -> list[str]:
        """Keep names for the outputs of the graph, each as it is, or followed by a number if it is taken."""
        return [self._unique(name) for name in names]

    def floats(self, array: Any, name: str) -> ir.Value:
        """A float32 constant; of an array, as the reference interpreter has it, subnormal numbers are zero."""
        single = np.asarray(array, dtype=np.float32)
        return self._constant(single if self._subnormals or not single.ndim else flushed(single), name)

    def weights(self, array: Any, name: str, channels: int = 0) -> ir.Value:
        """Weights of the layer `name`, float32 when they are used; output channels come first, and go to an axis."""
        numbers, scale = self.narrow(array, name, channels)
        return self.widened(numbers, scale, name)

    def narrow(self, array: Any, name: str, channels: int) -> tuple[ir.Value, ir.Value | None]:
        """Weights as they are stored, with their scales if they have any."""
        called = f"{name}.weight"
        if self._weights == "float32":
            return self.floats(np.moveaxis(np.asarray(array), 0, channels), called), None
        numbers, scale = stored(array, self._weights)
        kept = self._constant(np.ascontiguousarray(np.moveaxis(numbers, 0, channels)), called)
        if scale is None:
            return kept, None
        return kept, self.floats(scale.reshape(-1, *[1] * (numbers.ndim - 1 - channels)), f"{name}.scale")

    def widened(self, numbers: ir.Value, scale: ir.Value | None, name: str) -> ir.Value:
        """Stored weights, or some of their rows, as float32. By Mul: what fuses DequantizeLinear rounds otherwise."""
        if self._weights == "float32":
            return numbers
        wide = self.op("Cast", numbers, name=f"{name}.wide_weight", to=int(ir.DataType.FLOAT))
        return wide if scale is None else self.op("Mul", wide, scale, name=f"{name}.wide_weight")

    def integers(self, array: Any, name: str) -> ir.Value:
        """An int64 constant."""
        return self._constant(np.asarray(array, dtype=np.int64), name)

    def input(self, name: str, shape: Shape, dtype: str, *, batched: bool) -> ir.Value:
        """A graph input."""
        self._unique(name)
        return ir.Value(name=name, shape=_shape(shape, batched), type=ir.TensorType(_DTYPES[dtype]))

    def output(self, value: ir.Value, name: str, shape: Shape, dtype: str, *, batched: bool) -> ir.Value:
        """Give a graph output its reserved name and its type."""
        value.name = name
        value.shape = _shape(shape, batched)
        value.type = ir.TensorType(_DTYPES[dtype])
        return value

    def _constant(self, array: np.ndarray[Any, Any], name: str) -> ir.Value:
        # Small constants are shared, large ones are not worth comparing: each is its own. Its id is never taken by
        # another one, because the initialiser keeps the array alive.
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 16 else (id(array),)
        if key not in self._constants:
            self._constants[key] = self._top.initializer(ir.tensor(array), self._unique(name))
        return self._constants[key]

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else self._unique(f"{name}_{self._names[name]}")


def _shape(features: Shape, batched: bool) -> ir.Shape:
    axes: list[int | str] = [*features]
    return ir.Shape([TARGET.batch, *axes] if batched else axes)


_DTYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64}

"""Walks a torch network on an example input and writes down the state machine it computes.

torch.fx turns forward() into a graph of calls. Every call is executed on the example, so that shapes are known,
and converted, so that a node of the machine stands for it. What cannot be converted is noted, and the walk goes on:
the caller sees everything that stands in the way at once.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from psu_deploy.capture import functions
from psu_deploy.capture.layers import ANY_LAYOUT, STATELESS, Converter, Unsupported
from psu_deploy.capture.neurons import NEURONS
from psu_deploy.capture.values import Example, Layout, Value
from psu_deploy.errors import InputError, InternalError, Problem, PsuDeployError, UnsupportedModelError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.fields import Shape
from psu_deploy.machine.passes import simplify

ACTION = "turn the model into a state machine"
_UNKNOWN = "?"
_EXAMPLE_STEPS = 4
_ROOT = "model"


def to_state_machine(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    converters: Mapping[type[nn.Module], Converter] | None = None,
) -> StateMachine:
    """Turn a network over sequences (T, B, ...) into the serial state machine that computes the same.

    The model is captured in its eval form, whatever mode it is in, and is left as it was: BatchNorm is folded
    into the layer before it, Dropout is dropped, a mean over time becomes the readout.

    Args:
        model: any module whose forward takes one sequence, made of this package's neurons and containers and of
            torch layers; containers, `Lift`, `+`, reshapes and a mean, sum or last step over time are understood.
        input_shape: features of one step, such as (700,) or (3, 32, 32): no time, no batch.
        converters: module type -> function(module, features) returning a layer of `psu_deploy.machine.ops`, or None
            where the module does nothing. They win over the built-in ones.

    Returns:
        The machine, simplified.

    Raises:
        UnsupportedModelError: listing every module and operation that has no serial form here.
        InputError: if the model itself fails on an input of this shape.
    """
    walker = _Walker(_Root(model), STATELESS | NEURONS | dict(converters or {}))
    with eval_mode(model), torch.no_grad():
        return simplify(walker.capture(_features(input_shape)))


class _Root(nn.Module):
    """Gives the model a name, so that a bare neuron is a module call like any other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        transparent = isinstance(m, nn.Sequential | _Root)
        is_torch = type(m).__module__.startswith("torch.nn")
        return type(m) in self._leaves or (is_torch and not transparent)


class _Walker(fx.Interpreter):
    def __init__(self, root: _Root, converters: dict[type[nn.Module], Converter]) -> None:
        self._root = root
        self._converters = converters
        self._nodes: list[Node] = []
        self._problems: list[Problem] = []
        self._uses: dict[str, int] = {}
        tracer = _Tracer(tuple(converters))
        try:
            graph = tracer.trace(root)
        except PsuDeployError:
            raise
        except Exception as error:
            problem = Problem(
                type(root.model).__name__,
                "forward",
                f"could not be traced: {str(error).splitlines()[0]}",
                "no loops or branches on tensor values in forward(); wrap stateless layers in psu.Lift",
            )
            raise UnsupportedModelError([problem], ACTION) from error
        super().__init__(fx.GraphModule(root, graph))
        self.extra_traceback = False

    def capture(self, features: Shape) -> StateMachine:
        """Walk the graph on an example and build the machine."""
        self._example = _example_for(self._root.model)
        generator = torch.Generator().manual_seed(0)
        parameter = next((p for p in self._root.parameters() if p.is_floating_point()), torch.empty(0))
        x = torch.rand(self._example.steps, self._example.batch, *features, generator=generator).to(parameter)
        try:
            output = self.run(Value(x, "x", Layout.SEQUENCE))
        except PsuDeployError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            shape = tuple(x.shape)
            if self._problems:
                self._note(
                    "forward", type(self._root.model).__name__, f"stopped there: {reason}", "mend the above first"
                )
                raise UnsupportedModelError(self._problems, ACTION) from error
            raise InputError(
                f"the model fails on an example x of shape (T, B, *input_shape) = {shape}: {reason}"
            ) from error
        return self._machine(output, features)

    def _machine(self, output: Any, features: Shape) -> StateMachine:
        if not isinstance(output, Value):
            self._note("forward", type(output).__name__, "the model must return one tensor", "return the logits only")
        elif output.layout is Layout.FOLDED:
            self._note("forward", "output", "the output has T and B folded together", "unflatten it to (T, B, ...)")
        elif output.node == "x":
            self._note("forward", "output", "the output is the input: there is no layer", "add one")
        if self._problems:
            raise UnsupportedModelError(self._problems, ACTION)
        machine = StateMachine(tuple(self._nodes), features, output.node)
        if machine.shapes[output.node] != output.features:
            raise InternalError(f"captured output shape {machine.shapes[output.node]}, model gives {output.features}")
        return machine

    # -- modules -------------------------------------------------------------------------------------------------

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module, path = self.fetch_attr(target), _path(target)
        concrete = module(*_concrete(args), **_concrete(kwargs))
        values = [v for v in (*args, *kwargs.values()) if isinstance(v, Value)]
        if len(values) != 1 or not isinstance(concrete, Tensor):
            return self._refuse(path, module, "needs one tensor in and one out", "split the module", values, concrete)
        value = values[0]
        if isinstance(module, nn.Flatten | nn.Unflatten):
            return self._reshape(path or type(module).__name__, value, concrete)
        try:
            layer = self._convert(module, value.features)
            _check_layout(module, layer, value.layout)
        except Unsupported as error:
            return self._refuse(path, module, error.reason, error.remedy, values, concrete)
        if layer is None:
            return Value(concrete, value.node, value.layout)
        return self._emit(path or type(module).__name__.lower(), layer, (value,), concrete, value.layout)

    def _convert(self, module: nn.Module, features: Shape) -> ops.Layer | None:
        converter = self._converters.get(type(module))
        if converter is None:
            raise Unsupported("no converter for this type", "replace it, or pass converters={type: function}")
        return converter(module, features)

    # -- functions and methods -----------------------------------------------------------------------------------

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        concrete = super().call_method(target, _concrete(args), _concrete(kwargs))
        return self._call(target, args, kwargs, concrete)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        concrete = super().call_function(target, _concrete(args), _concrete(kwargs))
        return self._call(target, args, kwargs, concrete)

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], concrete: Any) -> Any:
        values = [v for v in (*args, *kwargs.values()) if isinstance(v, Value)]
        if not values or not isinstance(concrete, Tensor):
            return concrete
        name = functions.describe(target)
        if target in functions.ADD and len(values) == 2 and len(args) == 2 and not kwargs:
            return self._add(name, values, concrete)
        if target in functions.RESHAPE and len(values) <= 2:
            return self._reshape(name, values[0], concrete)
        if target in functions.SAME and concrete.shape == values[0].tensor.shape:
            return Value(concrete, values[0].node, values[0].layout)
        if target in functions.REDUCE and len(values) == 1:
            return self._reduce(target, values[0], args[1:], kwargs, concrete)
        if target is operator.getitem and args[1] == -1 and values[0].layout is Layout.SEQUENCE:
            return self._emit("readout", ops.Readout("last"), (values[0],), concrete, Layout.STEP)
        return self._refuse(name, target, "no serial form known", "use modules, +, reshapes, mean(0)", values, concrete)

    def _add(self, name: str, values: list[Value], concrete: Tensor) -> Value:
        first, second = values
        if first.layout is not second.layout or first.features != second.features:
            reason = f"adds {first.layout.value} {first.features} and {second.layout.value} {second.features}"
            return self._refuse(name, name, reason, "add tensors of one shape", values, concrete)
        return self._emit("add", ops.Add(), (first, second), concrete, first.layout)

    def _reshape(self, name: str, value: Value, concrete: Tensor) -> Value:
        layout = self._example.layout_of(concrete, value.layout)
        if layout is None:
            reason = (
                f"turns {tuple(value.tensor.shape)} into {tuple(concrete.shape)}, which mixes time, batch and features"
            )
            return self._refuse(name, name, reason, "keep (T, B, ...) or (T*B, ...) in front", [value], concrete)
        features = tuple(concrete.shape[layout.leading :])
        if features == value.features:
            return Value(concrete, value.node, layout)
        if len(features) == 1:
            return self._emit("flatten", ops.Flatten(), (value,), concrete, layout)
        reason = f"reshapes features {value.features} to {features}"
        return self._refuse(name, name, reason, "only flattening to one axis is supported", [value], concrete)

    def _reduce(
        self, target: Any, value: Value, args: tuple[Any, ...], kwargs: dict[str, Any], concrete: Tensor
    ) -> Value:
        kind = functions.REDUCE[target]
        axis = args[0] if args else kwargs.get("dim", kwargs.get("axis"))
        over_time = axis in (0, [0], (0,)) and value.layout is Layout.SEQUENCE
        if not over_time or concrete.shape != value.tensor.shape[1:]:
            reason = f"reduces axis {axis} of {value.layout.value}"
            return self._refuse(kind, target, reason, f"only .{kind}(0) over time is supported", [value], concrete)
        return self._emit("readout", ops.Readout(kind), (value,), concrete, Layout.STEP)

    # -- book-keeping --------------------------------------------------------------------------------------------

    def _emit(self, path: str, layer: ops.Layer, inputs: tuple[Value, ...], concrete: Tensor, layout: Layout) -> Value:
        name = self._unique(path)
        self._nodes.append(Node(name, layer, tuple(value.node for value in inputs)))
        value = Value(concrete, name, layout)
        if _UNKNOWN not in self._nodes[-1].inputs:
            computed = layer.output_shape(*(v.features for v in inputs))
            if computed != value.features:
                raise InternalError(
                    f"layer {name!r} was captured with output {computed}, the model gives {value.features}"
                )
        return value

    def _unique(self, path: str) -> str:
        self._uses[path] = self._uses.get(path, 0) + 1
        return path if self._uses[path] == 1 else f"{path}#{self._uses[path]}"

    def _refuse(self, path: str, what: Any, reason: str, remedy: str, values: list[Value], concrete: Any) -> Any:
        kind = type(what).__name__ if isinstance(what, nn.Module) else functions.describe(what)
        self._note(path, kind, reason, remedy)
        if not isinstance(concrete, Tensor):
            return concrete
        layout = self._example.layout_of(concrete, values[0].layout if values else Layout.SEQUENCE)
        return Value(concrete, _UNKNOWN, layout or Layout.STEP)

    def _note(self, path: str, kind: str, reason: str, remedy: str) -> None:
        self._problems.append(Problem(path or "(root)", kind, reason, remedy))


def _check_layout(module: nn.Module, layer: ops.Layer | None, layout: Layout) -> None:
    """Neurons need the whole sequence; torch layers that treat axis 0 as the batch must not get it."""
    along_time = isinstance(layer, ops.SpikingNeuron | ops.Delay | ops.Readout)
    if along_time and layout is not Layout.SEQUENCE:
        raise Unsupported(f"works along time but is applied to {layout.value}", "pass it the whole (T, B, ...)")
    batched = type(module) in STATELESS and type(module) not in ANY_LAYOUT
    if batched and layout is Layout.SEQUENCE:
        raise Unsupported("is applied to (T, B, ...) and takes T for the batch", "wrap it in psu.Lift")


def _concrete(arguments: Any) -> Any:
    return fx.node.map_aggregate(arguments, lambda a: a.tensor if isinstance(a, Value) else a)


def _path(target: str) -> str:
    return target.removeprefix(_ROOT).removeprefix(".")


def _example_for(model: nn.Module) -> Example:
    """T is the shortest horizon in the model, so that code that names T runs; B differs from it."""
    horizons = [h for m in model.modules() if isinstance(h := getattr(m, "horizon", None), int)]
    steps = min(horizons, default=_EXAMPLE_STEPS)
    return Example(steps, batch=3 if steps != 3 else 2)


def _features(input_shape: Any) -> Shape:
    sizes = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    if not sizes or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise InputError(
            f"input_shape must be the features of one step, such as (700,), without time and batch; got {input_shape!r}"
        )
    return sizes


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a module in its eval form, and every submodule back into its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode

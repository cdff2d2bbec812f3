"""Walks a torch network on an example input and writes down the state machine it computes.

torch.fx turns forward() into a graph of calls. Every call is executed on the example, so that shapes are known,
and converted, so that a node of the machine stands for it. What cannot be converted is noted, and the walk goes on:
the caller sees everything that stands in the way at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import functions, placement, spikingjelly
from psu_deploy.capture.alignment import aligned
from psu_deploy.capture.along_time import CONVERTERS, check_computes_as_its_base, spiking_unit
from psu_deploy.capture.check import check_layer, check_neuron
from psu_deploy.capture.examples import EXAMPLE_STEPS, examples_for
from psu_deploy.capture.functions import Call, Converted
from psu_deploy.capture.layers import STATELESS, Converter
from psu_deploy.capture.modes import eval_mode, floating_like
from psu_deploy.capture.random_spikes import random_spikes, spiking_at_random
from psu_deploy.capture.tracer import NEURONS, ROOT, Root, Tracer
from psu_deploy.capture.values import Example, Layout, Value
from psu_deploy.errors import InputError, InternalError, Problem, PsuDeployError, Refusal, UnsupportedModelError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.fields import Shape, feature_shape
from psu_deploy.machine.passes import RemoveDeadLayers, simplify
from psu_deploy.machine.schedule import INPUT, STEP
from psu_deploy.nn.along_time import Hold
from psu_deploy.nn.neurons import Neuron, SpikingUnit

ACTION = "turn the model into a state machine"
_UNKNOWN = "?"
_NEURONS_CHECKED = 16


def to_state_machine(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    converters: Mapping[type[nn.Module], Converter] | None = None,
    simplified: bool = True,
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
        simplified: run the passes; False leaves BatchNorm a layer of its own, as the module computes it.

    Returns:
        The machine.

    Raises:
        UnsupportedModelError: listing every module and operation that has no serial form here.
        InputError: if the model itself fails on an input of this shape.
    """
    features = feature_shape(input_shape)
    with eval_mode(model), spikingjelly.at_rest(model), torch.no_grad():
        machine = _capture(model, features, STATELESS | CONVERTERS | dict(converters or {}))
    return simplify(machine) if simplified else RemoveDeadLayers()(machine)


def _capture(model: nn.Module, features: Shape, converters: dict[type[nn.Module], Converter]) -> StateMachine:
    """Walk on the shortest example that the model runs on."""
    *shorter, longest = examples_for(model)
    for example in shorter:
        with suppress(_ModelFailureError, UnsupportedModelError):  # code that names T needs the longest
            return _Walker(Root(model), converters, example).capture(features)
    walker = _Walker(Root(model), converters, longest)
    try:
        return walker.capture(features)
    except _ModelFailureError as failure:
        raise walker.explain(failure, features) from failure.__cause__


class _Walker(fx.Interpreter):
    def __init__(self, root: Root, converters: dict[type[nn.Module], Converter], example: Example) -> None:
        self._example = example
        self._root = root
        self._converters = converters
        self._nodes: list[Node] = []
        self._problems: list[Problem] = []
        self._uses: dict[str, int] = {}
        tracer = Tracer(tuple(converters))
        try:
            graph = tracer.trace(root)
        except Exception as error:
            problem = Problem(
                type(root.model).__name__,
                "forward",
                f"could not be traced: {_first_line(error)}",
                "no loops or branches on tensor values in forward(): give every module the whole sequence, and wrap "
                "stateless layers in psu.Lift",
            )
            raise UnsupportedModelError([problem], ACTION) from error
        super().__init__(fx.GraphModule(root, graph))
        self.extra_traceback = False
        self._literals: tuple[Any, ...] = ()

    def capture(self, features: Shape) -> StateMachine:
        """Walk the graph on the example and build the machine."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self._example.steps, self._example.batch, *features, generator=generator)
        x = x.to(floating_like(self._root))
        if any(isinstance(module, Hold) for module in self._root.modules()):
            x = x[:1].expand_as(x).contiguous()  # such a network takes nothing else
        output = self.run(Value(x, INPUT, Layout.SEQUENCE))
        self._compare_graph_with_model(x)
        return self._machine(output, features)

    def run_node(self, n: fx.Node) -> Any:
        self._literals = tuple(a for a in n.args if isinstance(a, int | float))
        return super().run_node(n)

    def _compare_graph_with_model(self, x: Tensor) -> None:
        """The traced graph must compute what forward() computes, whatever the neurons emit."""
        paths = [node.name.partition("#")[0] for node in self._nodes if isinstance(node.layer, ops.Neuron)]
        seen = []
        for run in (self._root, self.module):
            with spiking_at_random(self._root.model, paths) as currents:
                currents.append(_execute(run, x.clone()))
            seen.append(currents)
        if not self._problems and not all(map(_same, *seen)):
            reason = "forward() computes something else than its trace: a tensor changed in place, or randomness"
            self._note("forward", type(self._root.model).__name__, reason, "write y = y + x instead of y += x")

    def explain(self, failure: _ModelFailureError, features: Shape) -> BaseException:
        """The model itself failed: on what was refused before, or else on the input."""
        shape = (self._example.steps, self._example.batch, *features)
        reason = str(failure)
        if not self._problems and isinstance(failure.__cause__, PsuDeployError):
            return failure.__cause__
        if not self._problems:
            return InputError(
                f"the model fails on an example x of shape (T, B, *input_shape) = {shape}: {reason}; "
                "input_shape is the features of one step, without time and batch, and a layer without time needs "
                "psu.Lift around it or psu.SpikingSequential instead of nn.Sequential"
            )
        self._note("forward", type(self._root.model).__name__, f"stopped there: {reason}", "mend the above first")
        return UnsupportedModelError(self._problems, ACTION)

    def _machine(self, output: Any, features: Shape) -> StateMachine:
        if not isinstance(output, Value):
            self._note("forward", type(output).__name__, "the model must return one tensor", "return the logits only")
        elif output.layout is Layout.FOLDED:
            self._note("forward", "output", "the output has T and B folded together", "unflatten it to (T, B, ...)")
        elif output.node == "x":
            self._note("forward", "output", "the output is the input: there is no layer", "add one")
        if self._problems:
            raise UnsupportedModelError(self._problems, ACTION)
        machine = StateMachine(aligned(self._nodes), features, output.node)
        if machine.shapes[output.node] != output.features:
            raise InternalError(f"captured output shape {machine.shapes[output.node]}, model gives {output.features}")
        return machine

    # -- what fx calls ------------------------------------------------------------------------------------------

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module, path = self.fetch_attr(target), _path(target)
        values = functions.find_values((args, kwargs))
        overwritten = any(value.overwritten for value in values)
        name, kind = path or type_of(module).__name__.lower(), type_of(module).__name__
        try:
            placement.check_place(module, values)
            result = _execute(module, *_concrete(args), **_concrete(kwargs))
        except (Refusal, _ModelFailureError) as error:
            if not (isinstance(module, NEURONS) or spikingjelly.is_neuron(module)) or not values:
                if not isinstance(error, Refusal):
                    raise
                self._note(path, kind, error.reason, error.remedy)  # there is no result to go on with
                raise _ModelFailureError(error.reason) from error
            refusal = error if isinstance(error, Refusal) else Refusal(str(error), "see its arguments")
            return self._refuse(path, kind, refusal, values, values[0].tensor)  # a neuron keeps the shape
        try:
            placement.check_intact(overwritten)
            if spikingjelly.is_neuron(module) and name in self._uses:
                raise Refusal(
                    "is called twice: its second call goes on from the membrane of the first", "use two neurons"
                )
            return self._emit(name, self._convert_module(module, values, result), result)
        except Refusal as error:
            return self._refuse(path, kind, error, values, result)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._call(super().call_method, target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._call(super().call_function, target, args, kwargs)

    def _call(self, run: Callable[..., Any], target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        overwritten = any(value.overwritten for value in functions.find_values((args, kwargs)))
        result = _execute(run, target, _concrete(args), _concrete(kwargs))
        call = Call(target, args, kwargs, result, self._example, self._literals)
        if not call.values or not _holds_tensors(result):
            return result
        try:
            placement.check_intact(overwritten)
            if not isinstance(result, Tensor):
                raise Refusal("returns several tensors", "a layer has one output")
            return self._emit(functions.short_name(target), functions.convert_call(call), result)
        except Refusal as error:
            return self._refuse("forward", functions.describe(target), error, call.values, result)

    # -- book-keeping -------------------------------------------------------------------------------------------

    def _convert_module(self, module: nn.Module, values: list[Value], result: Any) -> Converted:
        if len(values) != 1 or not isinstance(result, Tensor):
            raise Refusal("needs one tensor in and one out", "split the module")
        value = values[0]
        converter = self._converter(module)
        if converter is None and isinstance(module, nn.Flatten | nn.Unflatten):
            return functions.reshape(value, result, self._example)
        if converter is None:
            raise Refusal("no converter for this type", "replace it, or pass converters={type: function}")
        placement.check_batched(module, value.layout)
        try:
            layer = converter(module, value.features)
        except InputError as error:
            raise Refusal(str(error), "give it finite numbers and sizes it supports") from error
        placement.check_along_time(layer, value.layout)
        placement.check_lookahead(layer, value)
        if isinstance(layer, ops.Neuron):
            like = value.tensor
            if isinstance(module, Neuron):  # works on any features: a few, but along its whole horizon
                like = like.new_empty(module.horizon or EXAMPLE_STEPS, 2, _NEURONS_CHECKED)
            check_neuron(layer, like, lambda current: _execute(module, current))
        return Converted(layer, (value,), value.layout)

    def _converter(self, module: nn.Module) -> Converter | None:
        """That of its exact type; of a neuron somebody built on a `SpikingUnit`, that of what it was built on."""
        kind = type_of(module)
        found = self._converters.get(kind) or spikingjelly.converter(kind)
        if found is not None or not isinstance(module, SpikingUnit):
            return found
        check_computes_as_its_base(kind)
        return next((self._converters[base] for base in kind.__mro__ if base in self._converters), spiking_unit)

    def _emit(self, path: str, converted: Converted, result: Tensor) -> Value:
        if converted.layer is None:
            return Value(result, converted.inputs[0].node, converted.layout)
        value = Value(result, self._unique(path), converted.layout)
        if all(v.node != _UNKNOWN for v in converted.inputs):
            check_layer(converted.layer, converted.inputs, value)
        self._nodes.append(Node(value.node, converted.layer, tuple(v.node for v in converted.inputs)))
        if isinstance(converted.layer, ops.Neuron):
            # What follows is checked on spikes at random: on this example the neurons may well be silent.
            return replace(value, tensor=random_spikes(result, len(self._nodes)))
        return value

    def _unique(self, path: str) -> str:
        self._uses[path] = self._uses.get(path, 0) + 1
        first = self._uses[path] == 1 and path not in (INPUT, STEP)
        return path if first else f"{path}#{self._uses[path]}"

    def _refuse(self, path: str, kind: str, error: Refusal, values: list[Value], result: Any) -> Any:
        """Note the problem and go on with the concrete result, to find the next one."""
        self._note(path, kind, error.reason, error.remedy)
        if not isinstance(result, Tensor):
            return result
        layout = self._example.layout_of(result, values[0].layout if values else Layout.SEQUENCE)
        return Value(result, _UNKNOWN, layout or Layout.STEP)

    def _note(self, path: str, kind: str, reason: str, remedy: str) -> None:
        self._problems.append(Problem(path or "(root)", kind, reason, remedy))


class _ModelFailureError(Exception):
    """The model's own code raised."""


def _execute(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:
        raise _ModelFailureError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        return type(first) is type(second) and not isinstance(first, Tensor)
    tolerance = 1e-4 * (1 + float(first.abs().max()))
    return torch.allclose(first, second, rtol=0, atol=tolerance, equal_nan=True)


def _holds_tensors(result: Any) -> bool:
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and any(map(_holds_tensors, result)))


def _concrete(arguments: Any) -> Any:
    return fx.node.map_aggregate(arguments, lambda a: a.tensor if isinstance(a, Value) else a)


def _path(target: str) -> str:
    return target.removeprefix(ROOT).removeprefix(".")

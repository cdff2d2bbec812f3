"""Calls of modules -> layers: the right converter, in the right place, held against the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import membranes, placement, shortcuts, spikingjelly
from psu_deploy.capture.along_time import check_computes_as_its_base, spiking_unit
from psu_deploy.capture.calls import Call, find_values
from psu_deploy.capture.chains import Parts, SpikingRecord, emit_parts, parted
from psu_deploy.capture.check import check_neuron
from psu_deploy.capture.conversion import Chain, Converter, FirstStep
from psu_deploy.capture.foreign import foreign
from psu_deploy.capture.leaves import NEURONS
from psu_deploy.capture.patches import unseen
from psu_deploy.capture.rules import over_time
from psu_deploy.capture.rules.layers import FUNCTION_RULES, apply_function
from psu_deploy.capture.rules.moving import reshape_to
from psu_deploy.capture.steps import axes_after, single
from psu_deploy.capture.values import ALWAYS, Value
from psu_deploy.errors import InputError, Refusal
from psu_deploy.machine import ops
from psu_deploy.nn.neurons import Neuron, SpikingUnit

EXAMPLE_STEPS = 4
"""Of a network that runs for any number of steps."""


class ModuleRecord(SpikingRecord, Protocol):
    """What a module's conversion sees of the recording."""

    calls: dict[int, list[Value]]
    memories: spikingjelly.Memories

    def run_module(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a module out of sight."""

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Know a tensor that the network may come across."""


class ConverterError(Exception):
    """A converter fails, which is not the network's fault.

    Args:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class ModuleConverter:
    """Converts modules.

    Args:
        converters: module type -> converter.
    """

    def __init__(self, converters: Mapping[type[nn.Module], Converter]) -> None:
        self._converters = dict(converters)
        self.types = frozenset(converters)

    def is_neuron(self, module: nn.Module) -> bool:
        """Whether a module works along time and fires."""
        return isinstance(module, NEURONS) or spikingjelly.is_neuron(module)

    def convert(
        self, record: ModuleRecord, module: nn.Module, name: str, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> tuple[Any, Any]:
        """What a module gives, and what the network goes on with; None, where that is constant.

        Raises:
            Refusal: if it has no serial form, or not in this place.
        """
        values = find_values((args, kwargs))
        refusal = foreign(module) or spikingjelly.refusal(module)
        if refusal is not None and type_of(module) not in self._converters:
            raise refusal
        placement.check_place(module, values)
        overwritten = any(value.overwritten for value in values)
        before = values[0].tensor.clone() if getattr(module, "inplace", False) else values[0].tensor
        spikingjelly.remember_potentials(module)
        record.memories.check(module)
        result = self._run(record, module, call, args, kwargs)
        record.memories.note(module)
        placement.check_intact(overwritten)
        if len(values) > 1 and isinstance(result, Tensor) and len(find_values(args)) == len(values):
            return self._joined(record, module, name, values, result), result
        if len(values) != 1 or not isinstance(result, Tensor | list):
            raise Refusal("needs one tensor in and one out", "split the module")
        value = replace(values[0], tensor=before)
        if self.is_neuron(module):
            return self._neuron(record, module, name, value, result, call)
        if not isinstance(result, Tensor):
            raise Refusal("gives a list", "split the module")
        own = self._converters.get(type_of(module))
        if own is None and isinstance(module, nn.Flatten | nn.Unflatten):
            made = reshape_to(Call(name, args, kwargs, result, record), value, result)
            return made, result
        function = FUNCTION_OF.get(type_of(module))
        if own is None and function is not None:
            return apply_function(Call(name, (value, module.dim), {}, result, record), function), result
        if type_of(module) is nn.Conv1d and over_time.is_along_time(value):
            return over_time.convolved(Call(name, args, kwargs, result, record), value, module, result), result
        if value.span != (0, 0):
            raise Refusal("works on some of the steps of a sequence", "cut or fill it to all steps first")
        chain = self._layers(module, value)
        if not chain:
            return Value(result, value.node, value.axes, value.when), result
        layers = [one for one in chain if isinstance(one, ops.Layer)]
        for layer in layers:
            placement.check_along_time(layer, value)
            placement.check_lookahead(layer, value)
        return record.emit(name, layers, (value,), result, axes_after(value, result)), result

    def _joined(self, record: ModuleRecord, module: nn.Module, name: str, values: list[Value], result: Tensor) -> Value:
        """A module that takes several tensors, in the order of its layer's inputs."""
        layers = [one for one in self._layers(module, values[0]) or () if isinstance(one, ops.Layer)]
        if len(layers) != 1 or layers[0].arity not in (None, len(values)):
            raise Refusal("needs one tensor in and one out", "split the module")
        if any(value.axes != values[0].axes for value in values):
            raise Refusal("takes tensors of different layouts", "bring them to one shape, time and batch in one place")
        for value in values:
            placement.check_along_time(layers[0], value)
            placement.check_lookahead(layers[0], value)
        return record.emit(name, layers, values, result, axes_after(values[0], result))

    def _neuron(
        self, record: ModuleRecord, module: nn.Module, name: str, value: Value, result: Any, call: Callable[..., Any]
    ) -> tuple[Any, Any]:
        if value.span != (0, 0):
            raise Refusal("works on some of the steps of a sequence", "cut or fill it to all steps first")
        if spikingjelly.sees_one_step(module):
            value = self._at_its_step(record, module, value)
        chain = self._layers(module, value) or ()
        parts = parted(chain, value.features)
        if parts is None:
            result = record.run_module(call, (value,), {}) if isinstance(module, Neuron) else result  # in full
            return membranes.emit_membrane(record, module, name, chain, value, result)
        placement.check_along_time(parts.neuron, value)
        self._check_neuron(record, module, parts, value, call)
        calls = [before.tensor for before in record.calls[id(module)]]
        made = emit_parts(record, name, parts, value, calls if single(value) is not None else list(value.tensor))
        return made, made.tensor

    def _at_its_step(self, record: ModuleRecord, module: nn.Module, value: Value) -> Value:
        """What a neuron in a loop over time sees; of a picture, as many steps as it has been called before."""
        if value.when != ALWAYS:
            return value
        step = len(record.calls.get(id(module), []))
        return record.emit("hold()", ops.Hold(), (value,), value.tensor, value.axes, range(step, step + 1))

    def _run(self, record: ModuleRecord, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return shortcuts.compute(module, record.run_module, call, args, kwargs, repeated=record.example.repeated)
        except Exception as error:
            if self.is_neuron(module):
                raise Refusal(str(error).partition("\n")[0] or type(error).__name__, "see its arguments") from error
            raise

    def _layers(self, module: nn.Module, value: Value) -> Chain | None:
        converter = self._converter(module)
        if converter is None:
            raise Refusal("no converter for this type", "replace it, or pass converters={type: function}")
        placement.check_batched(module, value)
        try:
            with unseen() if shortcuts.is_known(module) else nullcontext():
                layers = converter(module, value.features)
        except InputError as error:
            raise Refusal(str(error), "give it finite numbers and sizes it supports") from error
        except Refusal:
            raise
        except Exception as error:
            raise ConverterError(error) from error
        if layers is None:
            return None
        chain = (layers,) if isinstance(layers, ops.Layer) else layers
        if not isinstance(chain, tuple) or not all(isinstance(one, ops.Layer | FirstStep) for one in chain):
            wrong = f"the converter of {type_of(module).__name__} gave {layers!r}; a layer, some in a tuple, or None"
            raise ConverterError(TypeError(wrong))
        return chain

    def _converter(self, module: nn.Module) -> Converter | None:
        """That of its exact type; of a neuron somebody built on a `SpikingUnit`, that of what it was built on."""
        kind = type_of(module)
        found = self._converters.get(kind) or spikingjelly.converter(kind)
        if found is not None or not isinstance(module, SpikingUnit):
            return found
        check_computes_as_its_base(kind)
        return next((self._converters[base] for base in kind.__mro__ if base in self._converters), spiking_unit)

    def _check_neuron(
        self, record: ModuleRecord, module: nn.Module, parts: Parts, value: Value, call: Callable[..., Any]
    ) -> None:
        step, before = single(value), record.calls.setdefault(id(module), [])
        before.append(value)
        if step is not None and step != len(before) - 1:
            raise Refusal(
                f"sees step {step} as call {len(before)} of the sequence: twice at a step, or what another step gave",
                "call it once at every step, from the first; only neurons remember",
            )
        if step is None and spikingjelly.is_neuron(module) and len(before) > 1:
            raise Refusal("is called twice: its second call goes on from the membrane of the first", "use two neurons")
        if step or not record.example.first:
            return
        like = value.tensor
        if isinstance(module, Neuron):  # works on any features: a few, but along its whole horizon
            like = like.new_empty(module.horizon or EXAMPLE_STEPS, 2, shortcuts.SOME_NEURONS)
        elif step is not None:
            like = like.new_empty(EXAMPLE_STEPS, *like.shape)

        def run(current: Tensor) -> Tensor:
            with spikingjelly.afresh(module):
                if step is None:
                    result = record.run_module(call, (current,), {})
                else:
                    result = torch.stack([record.run_module(call, (one,), {}) for one in current])
            spikes: Tensor = result.sign() if parts.behind else result
            return spikes

        with unseen():
            check_neuron(parts.nodes, like, run)


FUNCTION_OF: dict[type[nn.Module], str] = {
    kind: name for kind, name in ((nn.Softmax, "softmax"), (nn.LogSoftmax, "log_softmax")) if name in FUNCTION_RULES
}
"""Modules that name an axis of the tensor -> the function."""

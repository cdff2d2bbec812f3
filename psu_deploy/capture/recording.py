"""Runs a network on an example and writes down what it does.

`forward` runs as it is, in Python: loops, shapes and branches on shapes are simply what they are. A torch function mode
sees every call on a tensor, and every call of a module passes by here. A call on a tensor of the network becomes layers
of the machine, by the rule of its name; a module, by its converter. Everything else is a constant.
What cannot be converted is noted, and the run goes on: the caller sees everything that stands in the way at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of
from torch.overrides import TorchFunctionMode

from psu_deploy.capture import membranes, rules, spikingjelly, steps
from psu_deploy.capture.calls import Call, find_values
from psu_deploy.capture.leaves import is_leaf, unwrapped
from psu_deploy.capture.modules import ConverterError, ModuleConverter
from psu_deploy.capture.notebook import Notebook
from psu_deploy.capture.patches import forward_replaced, without_inference_mode
from psu_deploy.capture.trees import leaves, mapped
from psu_deploy.capture.values import UNKNOWN, Example, Value
from psu_deploy.errors import Refusal

_OUT_OF_SIGHT = (
    "takes a tensor that was made of the input out of sight: by TorchScript, torch.vmap, or another view of its memory",
    "use plain torch functions on the tensor itself",
)


class ModelFailureError(Exception):
    """The model's own code raised."""


class Recording(Notebook, TorchFunctionMode):
    """One run of a network.

    Args:
        model: the network.
        modules: converts modules.
        example: sizes of the input.
    """

    def __init__(self, model: nn.Module, modules: ModuleConverter, example: Example) -> None:
        Notebook.__init__(self, example, self._read_out_of_sight)
        TorchFunctionMode.__init__(self)
        self.calls: dict[int, list[Value]] = {}
        self.memories = spikingjelly.Memories()
        spikingjelly.rest(model)
        self._modules = modules
        self._paths = {id(module): name for name, module in model.named_modules()}
        self._paused = False
        self._in_sight = False
        self._rows = rules.over_time.Rows()

    def run(self, x: Value, call: Callable[[Tensor], Any]) -> Any:
        """Run the network; tensors of its result come back as `Value`, but those that do not depend on the input.

        Raises:
            ModelFailureError: if the network itself fails.
        """
        self.keep(x.tensor, x)
        self.input = x
        try:
            with self._seeing_modules(), self.origins, self:
                result = call(x.tensor)
        except ConverterError as failure:
            raise failure.error from None
        except Exception as error:
            raise ModelFailureError(first_line(error)) from error
        refusal = self._reads_memory(result)
        if refusal is not None:
            self.note("forward", "output", refusal)
            self.unknown(result, [x])
        result = mapped(self.known, result)
        self._values.clear()  # what was never read may still say how to write it down, here
        return result

    # -- calls of modules -----------------------------------------------------------------------------------------

    @contextmanager
    def _seeing_modules(self) -> Iterator[None]:
        original = nn.Module.__call__
        recording = self

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            inner = unwrapped(module)
            if recording._paused or not is_leaf(inner, recording._modules.types):
                return original(inner, *args, **kwargs)
            if recording._modules.is_neuron(inner):  # its hooks are held against its equations: spikes are spikes
                return recording._leaf(inner, lambda *a, **k: original(inner, *a, **k), args, kwargs)
            with forward_replaced(inner, lambda own, a, k: recording._leaf(inner, own, a, k)):  # hooks run in sight
                return original(inner, *args, **kwargs)

        with patch.object(nn.Module, "__call__", call), without_inference_mode():
            yield

    def _leaf(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with self._paused_here():
            return self._module(module, forward, args, kwargs)

    def _module(self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        args, kwargs = self.unwrap(args), self.unwrap(kwargs)
        values = find_values((args, kwargs))
        path = self._paths.get(id(module), "")
        kind = type_of(module).__name__
        memory = self._reads_memory((args, kwargs))
        if not values and memory is None:
            return call(*args, **kwargs)
        try:
            if memory is not None:
                raise memory
            if any(map(self.hidden, (*module.parameters(), *module.buffers(), *leaves((args, kwargs))))):
                raise Refusal(*_OUT_OF_SIGHT)
            found, result = self._modules.convert(self, module, path or kind.lower(), call, args, kwargs)
        except Refusal as error:
            self.note(path or "(root)", kind, error)
            return self.unknown(self._result_of(call, args, kwargs, values, module), values)
        self.keep_all(result, found)
        return result

    def _result_of(
        self, call: Callable[..., Any], args: Any, kwargs: Any, values: list[Value], module: nn.Module
    ) -> Any:
        """What a refused module gives; a neuron keeps the shape, even where it could not run."""
        try:
            return self.run_module(call, args, kwargs)
        except Exception:
            if not self._modules.is_neuron(module):
                raise
            return values[0].tensor.clone()

    def run_module(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a module out of sight."""
        return call(*_concrete(args), **_concrete(kwargs))

    # -- calls on tensors -----------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        before, self._in_sight = self._in_sight, True
        try:
            return self._seen(func, args, kwargs)
        finally:
            self._in_sight = before

    def _seen(self, func: Any, args: Any, kwargs: Any) -> Any:
        seen = self.unwrap(args), self.unwrap(kwargs)
        values = find_values(seen)
        name = name_of(func)
        memory = None if name in rules.FACTS | membranes.LEAVE_ALONE else self._reads_memory(seen)
        if memory is not None:
            self.note_call(name, memory)
            return self.unknown(func(*args, **kwargs), values or [self.input])
        if not values:
            if name in rules.READS_NUMBERS and any(map(self.hidden, leaves(seen))):
                self.note_call(name, Refusal(*rules.READS_NUMBERS_REASON))
            return func(*args, **kwargs)
        if name == "__setitem__":
            return self._write(func, args, seen[0])
        if name in rules.FACTS and (name != "type" or len(args) == 1):
            return func(*args, **kwargs)
        if name in rules.READS_NUMBERS:
            self.note_call(name, Refusal(*rules.READS_NUMBERS_REASON))
            return func(*args, **kwargs)
        return self._function(name, func, args, kwargs, seen, values)

    def _function(self, name: str, func: Any, args: Any, kwargs: Any, seen: Any, values: list[Value]) -> Any:
        overwritten = any(value.overwritten for value in values)
        if name in rules.DECOMPOSITIONS and not overwritten and not any(map(self.hidden, leaves(seen))):
            try:
                return self._decomposed(name, func, args, kwargs, values)
            except Refusal as error:
                self.note_call(name, error)
                return self.unknown(func(*args, **kwargs), values)
        if name == "data":  # the same memory, but one that counts how often it is written
            func = Tensor.detach
        plain = rules.plain_name(name)
        before = [value.tensor.clone() if plain != name else value.tensor for value in values]
        if plain != name and args and seen[0][0] is args[0]:  # a constant that takes up a tensor of the network
            seen = ((args[0].clone(), *seen[0][1:]), seen[1])
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in leaves(result)):
            self.note_call(name, Refusal("no serial form known", "use modules, +, reshapes, x.mean(0)"))
            return result
        if plain != name:  # the tensor holds the result now; the rule wants what it was
            seen = self.with_tensors(seen, values, before)
        try:
            if any(map(self.hidden, leaves(seen))):
                raise Refusal(*_OUT_OF_SIGHT)
            if overwritten:
                raise Refusal("reads a tensor that was changed in place", "use inplace=False, and y = y + x for y += x")
            found = rules.apply(Call(plain, seen[0], seen[1], result, self))
            steps.check_sizes(found, self.example)
        except Refusal as error:
            # Of axes that are guessed, only this is certain.
            if all(value.node != UNKNOWN for value in values) or not rules.known(plain):
                self.note_call(name, error)
            return self.unknown(result, values)
        self.keep_all(result, found)
        return result

    def _write(self, func: Any, args: Any, seen: Any) -> None:
        """y[t] = ...: rows of a sequence, or a change in place that nothing may read."""
        func(*args)
        target, index, value = seen
        try:
            if isinstance(target, Value):
                raise Refusal("is changed in place", "stack the results of every step: torch.stack(list)")
            whole = self._rows.write(target, index, value, self.example.steps)
        except Refusal as error:
            self.note_call("__setitem__", error)
            self.unknown(args[0], find_values(seen))
            return
        if whole is not None:
            self.keep(target, whole)

    def _decomposed(self, name: str, func: Any, args: Any, kwargs: Any, values: list[Value]) -> Any:
        """Run what a function is made of, in sight; it must give what the function gives."""
        expected = func(*args, **kwargs)
        with self:
            result = rules.DECOMPOSITIONS[name](*args, **kwargs)
        for one, other in zip(leaves(result), leaves(expected), strict=True):
            known = self.known(one)
            if not isinstance(one, Tensor) or (isinstance(known, Value) and known.node == UNKNOWN):
                continue
            if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
                raise Refusal("does not compute what it is taken for", "write it in simpler operations")
        return result

    def _reads_memory(self, arguments: Any) -> Refusal | None:
        unknown = [leaf for leaf in leaves(arguments) if self.known(leaf) is leaf]
        return membranes.kept_by_who_fires(self.memories, unknown, self._paths)

    def _read_out_of_sight(self) -> None:
        if not self._in_sight and not self._paused:
            self.note_call("item", Refusal(*rules.READS_NUMBERS_REASON))

    @contextmanager
    def _paused_here(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before


def name_of(func: Any) -> str:
    """Name of a function, a tensor method, or an attribute of a tensor."""
    name = getattr(func, "__name__", None) or str(func)
    return func.__self__.__name__ if name in ("__get__", "__set__") else name


def first_line(error: BaseException) -> str:
    """The message of an error, or its type."""
    return str(error).partition("\n")[0] or type(error).__name__


def _concrete(arguments: Any) -> Any:
    return mapped(lambda leaf: leaf.tensor if isinstance(leaf, Value) else leaf, arguments)

"""What neurons of SpikingJelly remember from call to call: whoever runs a network does it `at_rest`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from psu_deploy.capture.spikingjelly.names import has_memory, is_neuron
from psu_deploy.errors import Refusal


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let every call from outside start with all SpikingJelly modules at rest; give back their own memory afterwards.

    What is called from within another call goes on from where it is, as in `reset_net(model); model(x)`.
    """
    modules: list[Any] = [m for m in model.modules() if is_neuron(m) or has_memory(m)]
    remembering = [m for m in modules if has_memory(m)]
    kept = [dict(vars(m)) for m in modules]
    for module in remembering:  # another dict: what the module remembers now is neither read nor written
        module._memories = {name: deepcopy(module._memories_rv[name]) for name in module._memories}
    handles = _start_from_rest({model, *modules}, remembering)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, attributes in zip(modules, kept, strict=True):
            vars(module).clear()
            vars(module).update(attributes)


def rest(model: nn.Module) -> None:
    """Put all SpikingJelly modules to rest."""
    for module in model.modules():
        if has_memory(module):
            module.reset()  # type: ignore[operator]


class Memories:
    """What neurons kept when their last call ended: nobody may change it until the next."""

    def __init__(self) -> None:
        self._left: dict[int, dict[str, Any]] = {}
        self._owners: Any = WeakTensorKeyDictionary()

    def check(self, module: Any) -> None:
        """Raise `Refusal` unless a neuron goes on from where its last call ended, or from rest."""
        if not (is_neuron(module) and has_memory(module)):
            return
        expected = self._left.get(id(module), module._memories_rv)
        if not all(_same(value, expected[name]) for name, value in _memory(module).items()):
            raise Refusal(
                "is reset in the middle of a sequence, or starts from another potential than set_reset_value says",
                "reset it before the first step only, and leave its variables alone",
            )

    def note(self, module: Any) -> None:
        """A call has ended."""
        if is_neuron(module) and has_memory(module):
            self._left[id(module)] = deepcopy(_memory(module))
            kept = {**vars(module), **module._memories}  # v_seq is an attribute
            self._owners |= {one: (module, name) for name, one in kept.items() if isinstance(one, Tensor)}

    def owner(self, leaf: Any) -> tuple[nn.Module, str] | None:
        """The neuron that keeps a tensor, and the name it has there; None for any other."""
        found: tuple[nn.Module, str] | None = self._owners.get(leaf) if isinstance(leaf, Tensor) else None
        return found


def _memory(module: Any) -> dict[str, Any]:
    return {name: value for name, value in module._memories.items() if name != "v_seq"}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return first is not None and second is not None and bool((torch.as_tensor(first) == second).all())
    return bool(first == second)


@contextmanager
def afresh(module: nn.Module) -> Iterator[None]:
    """A SpikingJelly neuron at rest for a moment; any other module as it is."""
    neuron: Any = module
    kept = dict(vars(module))
    if is_neuron(module) and has_memory(module):
        neuron._memories = {name: deepcopy(neuron._memories_rv[name]) for name in neuron._memories}
    try:
        yield
    finally:
        if is_neuron(module):
            vars(module).clear()
            vars(module).update(kept)


def _start_from_rest(callable_from_outside: set[nn.Module], remembering: list[Any]) -> list[Any]:
    """Hooks that reset all that remember before a call that no other of these calls encloses."""
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: Any) -> None:
        if not running:
            for other in remembering:
                other.reset()
        running.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    before = [m.register_forward_pre_hook(enter) for m in callable_from_outside]
    return before + [m.register_forward_hook(leave, always_call=True) for m in callable_from_outside]

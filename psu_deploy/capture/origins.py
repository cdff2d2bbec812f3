"""Which tensors hold numbers that were made of the network's input, whoever made them.

A torch function mode sees what Python calls. What TorchScript, `torch.vmap` or `nn.Parameter(x)` do to a tensor passes
it by, and so do views of a tensor that is written later. All of them end in the dispatcher, where this mode sits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

_NUMBERS_OF_THEIR_OWN = frozenset(
    (
        *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"),
    )
)
"""Operators that take the sizes of a tensor and none of its numbers."""


class Origins(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the numbers of the input through every operator.

    Args:
        read: called where a number that was made of the input leaves the tensors.
    """

    def __init__(self, read: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._read = WeakMethod(read)  # a recording and its tensors go when nobody needs them any more, at once
        self._made: dict[int, StorageWeakRef] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import all of its compiler, two seconds, to leave out of it what is never compiled."""
        return False

    def mark(self, tensor: Tensor) -> None:
        """This tensor is made of the input."""
        for storage in _storages(tensor):
            self._made[storage.cdata] = storage

    def clear(self, tensor: Tensor) -> None:
        """This tensor is the same for every input."""
        for storage in _storages(tensor):
            self._made.pop(storage.cdata, None)

    def made_of_input(self, leaf: Any) -> bool:
        """Whether this is a tensor that holds numbers made of the input."""
        return isinstance(leaf, Tensor) and any(storage.cdata in self._made for storage in _storages(leaf))

    def _tell(self) -> None:
        read = self._read()
        if read is not None:
            read()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # what TorchScript calls is none of the network's own calls
            return self._followed(func, args, kwargs or {})

    def _followed(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if not any(map(self.made_of_input, _leaves((*args, *kwargs.values())))) or _has_numbers_of_its_own(func):
            return result
        for leaf in _leaves((result,)):
            if isinstance(leaf, Tensor):
                self.mark(leaf)
            elif isinstance(leaf, bool | int | float | complex):
                self._tell()
        for index, name in _writes(func):
            for leaf in _leaves((args[index] if index < len(args) else kwargs.get(name),)):
                if isinstance(leaf, Tensor):
                    self.mark(leaf)
        return result


def _leaves(arguments: Any) -> Iterator[Any]:
    """What an operator takes or gives: of containers it knows lists and tuples only."""
    for one in arguments:
        if isinstance(one, list | tuple):
            yield from _leaves(one)
        else:
            yield one


@cache
def _has_numbers_of_its_own(func: Any) -> bool:
    return func.overloadpacket.__name__ in _NUMBERS_OF_THEIR_OWN


@cache
def _writes(func: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of every argument that an operator writes into."""
    arguments = enumerate(func._schema.arguments)
    return tuple((i, one.name) for i, one in arguments if one.alias_info is not None and one.alias_info.is_write)


def _storages(tensor: Tensor) -> list[StorageWeakRef]:
    """The memory of a tensor; none of one that has no memory of its own, as inside `torch.vmap`."""
    try:
        return [StorageWeakRef(tensor.untyped_storage())]  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):
        return []

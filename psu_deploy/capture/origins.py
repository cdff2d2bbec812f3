"""Which tensors hold numbers that were made of the network's input, whoever made them.

A torch function mode sees what Python calls. What TorchScript, `torch.vmap` or `nn.Parameter(x)` do to a tensor passes
it by, and so do views of a tensor that is written later. All of them end in the dispatcher, where this mode sits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
        if func.overloadpacket.__name__ in _NUMBERS_OF_THEIR_OWN:
            return result
        if not any(map(self.made_of_input, tree_leaves((args, kwargs)))):
            return result
        leaves = tree_leaves(result)
        if any(isinstance(leaf, bool | int | float | complex) for leaf in leaves):
            self._tell()
        for leaf in (*leaves, *_written(func, args, kwargs)):
            if isinstance(leaf, Tensor):
                self.mark(leaf)
        return result


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Any]:
    """Arguments that an operator writes into."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from tree_leaves(given)


def _storages(tensor: Tensor) -> list[StorageWeakRef]:
    """The memory of a tensor; none of one that has no memory of its own, as inside `torch.vmap`."""
    try:
        return [StorageWeakRef(tensor.untyped_storage())]  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):
        return []

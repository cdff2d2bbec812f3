"""What a pickle of `torch.save` claims, found by a walk through it that builds none of it.

torch's own reader executes nothing, but believes what it reads: a few bytes can ask for gigabytes (`bytearray(n)`,
one tensor under a thousand names), or for years (a key that is a tuple of tuples of tuples). So its pickles are walked
first, with a stand-in for everything that may lie in a checkpoint; anything else is refused by name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any, ClassVar

import torch

_LARGEST = 1 << 62


class ForeignObjectError(Exception):
    """A pickle names something that is no tensor and no plain value; the message is its name."""


class DamagedError(Exception):
    """A file that `torch.save` did not write like this; the message says why."""


@dataclass
class Claims:
    """What the tensors of a file add up to.

    Args:
        numbers: of all tensors that lie in their storages, as often as they are made.
        expanded: whether some tensor claims more numbers than its storage has.
    """

    numbers: int = 0
    expanded: bool = False


def walk(stream: IO[bytes], claims: Claims) -> Any:
    """Walk through one pickle, add up what it claims, and return its stand-in.

    Raises:
        ForeignObjectError: if it names anything that no checkpoint of plain tensors has.
        DamagedError: if it is no pickle.
    """
    try:
        return _Walker(stream, claims).load()
    except (ForeignObjectError, DamagedError):
        raise
    except Exception as error:
        raise DamagedError(str(error).partition("\n")[0] or type(error).__name__) from error


class _Sequence(list[Any]):
    """Stands for a tuple, but cannot be a key: the hash of a tuple is computed again through all that is in it."""


class _Dictionary(dict[Any, Any]):
    """Stands for an OrderedDict, made empty and filled later: made of something it would copy it, again and again."""


class _Namespace:
    """Stands for argparse.Namespace."""


class _Stand:
    """Stands for a dtype, a device, a layout: nothing is in it."""


@dataclass(frozen=True)
class _Storage:
    """Stands for a storage of so many numbers."""

    numbers: int


class _Walker(pickle._Unpickler):  # the one in C keeps a table as long as the largest number a pickle names
    """Finds stand-ins only, so that nothing can be called."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: IO[bytes], claims: Claims) -> None:
        super().__init__(stream, encoding="utf-8")
        self._claims = claims

    def find_class(self, module: str, name: str) -> Any:
        found = self._known(f"{module}.{name}")
        if found is None:
            raise ForeignObjectError(f"{module}.{name}"[:200])
        return found

    def _known(self, name: str) -> Any:
        if name in (
            "torch._utils._rebuild_tensor_v2",
            "torch._utils._rebuild_tensor_v3",
            "torch._utils._rebuild_tensor",
        ):
            return self._tensor
        if name.startswith("torch.") and (name.endswith("Storage") or _is_constant(name.removeprefix("torch."))):
            return _Stand
        return _STANDS.get(name)

    def _tensor(self, storage: Any, offset: Any, size: Any, *_: Any) -> _Stand:
        numbers = prod(_whole(n) for n in size)
        if numbers > _whole(storage.numbers):
            self._claims.expanded = True
        else:
            self._claims.numbers += numbers
        return _Stand()

    def persistent_load(self, pid: Any) -> Any:
        return _Storage(_whole(pid[4]))

    def _load_tuple(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.append(_Sequence(items))  # type: ignore[attr-defined]  # another append than before

    def _last(length: int) -> Callable[[_Walker], None]:  # type: ignore[misc]  # noqa: N805
        def load(self: _Walker) -> None:
            self.stack[-length:] = [_Sequence(self.stack[-length:])]  # type: ignore[attr-defined]

        return load

    def _load_buffer(self) -> None:
        """Bytes that are allocated before they are read."""
        raise ForeignObjectError("bytearray")

    for opcode in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
        dispatch[opcode[0]] = _load_buffer
    dispatch[pickle.TUPLE[0]] = _load_tuple
    dispatch[pickle.TUPLE1[0]] = _last(1)
    dispatch[pickle.TUPLE2[0]] = _last(2)
    dispatch[pickle.TUPLE3[0]] = _last(3)


def _is_constant(name: str) -> bool:
    """float32, strided, per_tensor_affine: what a tensor is made of, and nothing that can be called."""
    return isinstance(getattr(torch, name, None), torch.dtype | torch.layout | torch.qscheme)


def _first(value: Any, *_: Any) -> Any:
    return value


def _size(*given: Any) -> Any:
    """A torch.Size copies what it is made of."""
    if len(given) != 1 or len(given[0]) > 64:
        raise DamagedError("a torch.Size with more than 64 axes")
    return given[0]


def _stand(*_: Any) -> _Stand:
    """A tensor that is not plain: it is refused by who reads it, before its numbers are."""
    return _Stand()


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise DamagedError(f"a size that is none: {str(value)[:40]}")
    return value


_STANDS: dict[str, Any] = {
    "argparse.Namespace": _Namespace,
    "collections.OrderedDict": _Dictionary,
    "torch.Size": _size,
    "torch.device": _stand,
    "torch.serialization._get_layout": _stand,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_sparse_tensor": _stand,
    "torch._utils._rebuild_qtensor": _stand,
    "torch._utils._rebuild_meta_tensor_no_storage": _stand,
}
"""Name -> what stands for it."""

"""The one kind of pickle in the CIFAR archives, read without running anything in it.

A pickle is a program. Of this one every name is answered by a stand-in that can hold numbers and do nothing: numpy
itself is never called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

_BYTE_TYPES = ("u1", "|u1", "uint8")


class ForeignError(Exception):
    """A pickle that is damaged, or holds what no batch of CIFAR holds; the message says what."""


def read_dictionary(content: bytes) -> dict[str, Any]:
    """A dictionary of text, whole numbers, lists of them, and arrays of bytes; what Python 2 wrote is Latin-1.

    Raises:
        ForeignError: if it is anything else.
    """
    try:
        found = _Reader(content).load()
        if not isinstance(found, dict):
            raise ForeignError(f"it holds a {type(found).__name__}, expected a dictionary")
        return {_text(key): value.numbers() if isinstance(value, _Array) else value for key, value in found.items()}
    except ForeignError:
        raise
    except Exception as error:
        raise ForeignError(str(error).partition("\n")[0] or type(error).__name__) from error


class _Reader(pickle._Unpickler):  # the one in C keeps a table as long as the largest number a pickle names
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin-1")

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _maker(_Array)
        if module == "numpy" and name == "dtype":
            return _maker(_Type)
        if module == "numpy" and name == "ndarray":
            return _Name()
        if module == "_codecs" and name == "encode":
            return _maker(_encoded)  # how Python 3 writes bytes for Python 2
        raise ForeignError(f"it names {module}.{name}"[:200])

    def _load_buffer(self) -> None:
        """Bytes that are allocated before they are read."""
        raise ForeignError("it holds a bytearray")

    for opcode in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
        dispatch[opcode[0]] = _load_buffer


class _Name:
    """Stands for a class that is only named."""

    __slots__ = ()


class _Type:
    """Stands for a dtype; bytes are the only one."""

    __slots__ = ()

    def __init__(self, name: Any, *_: Any) -> None:
        if _text(name) not in _BYTE_TYPES:
            raise ForeignError(f"an array of {str(name)[:20]}, expected bytes")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, of which single bytes have none."""


class _Array:
    """Stands for an array; the state says what is in it."""

    __slots__ = ("_content", "_shape")

    def __init__(self, *_: Any) -> None:
        self._content, self._shape = b"", (0,)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or fortran:
            raise ForeignError("an array that is not of bytes, row by row")
        self._content = content.encode("latin-1") if isinstance(content, str) else bytes(memoryview(content))
        self._shape = tuple(shape)

    def numbers(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._content, np.uint8).reshape(self._shape)


def _maker(make: Callable[..., Any]) -> Callable[..., Any]:
    """A new function every time: whatever a pickle hangs on it is gone with the pickle."""
    return lambda *arguments: make(*arguments)


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ForeignError("bytes in an encoding that no array has")
    return text.encode("latin-1")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

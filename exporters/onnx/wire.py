"""How much of a protobuf is structure, found without parsing it: an empty node has two bytes there, and 200 parsed."""

from __future__ import annotations

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers on the way from a model to the numbers in it."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""

_FIELD = 16
"""Bytes of structure for every field on the way, on average: nothing but empty fields is not walked to its end."""


def structure_bytes(model: bytes, most: int) -> int:
    """Bytes of a serialised model that are no numbers of weights; more than `most`, not all of them are counted.

    What cannot be followed counts as structure: the parser will say what is wrong with it.
    """
    return _walk(memoryview(model), (_GRAPH, _INITIALIZER, _RAW_DATA), most)


def _walk(content: memoryview, way: tuple[int, ...], most: int) -> int:
    place, found, fields = 0, 0, 0
    while place < len(content) and found <= most:
        start, fields = place, fields + 1
        if fields > most // _FIELD:
            return most + 1
        key, place = _varint(content, place)
        length, place = _length(key & 7, content, place)
        if length < 0 or place + length > len(content):
            return found + len(content) - start
        found += place - start
        if (key >> 3, key & 7) != (way[0], _BYTES):
            found += length
        elif len(way) > 1:
            found += _walk(content[place : place + length], way[1:], most - found)
        place += length
    return found


def _length(wire: int, content: memoryview, place: int) -> tuple[int, int]:
    """Bytes of a value, and where it begins; -1 where that cannot be told."""
    if wire == _BYTES:
        return _varint(content, place)
    if wire == _VARINT:
        return 0, _varint(content, place)[1]
    return {_FIXED64: 8, _FIXED32: 4}.get(wire, -1), place


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content) and shift < 70:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            break
    return value, place

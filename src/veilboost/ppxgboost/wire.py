"""Bytes of what travels and of what is kept: fields behind one another, little-endian, every length checked on reading.

Everything starts with eight bytes that say what it is and one for the version of its form. No pickle.
"""

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import CiphertextError

MODEL: Final = b"vb-model"
QUERY: Final = b"vb-query"
RESULT: Final = b"vb-reslt"
KEYS: Final = b"vb-upkey"

_NAMES: Final = {MODEL: "an encrypted model", QUERY: "a query", RESULT: "a result", KEYS: "a user's keys"}
_VERSION: Final = 1


class Writer:
    """Puts fields behind one another."""

    def __init__(self, kind: bytes) -> None:
        self._parts = [kind, bytes([_VERSION])]

    def number(self, value: int) -> None:
        """A whole number from 0 to 2^64 - 1."""
        self._parts.append(struct.pack("<Q", value))

    def raw(self, data: bytes) -> None:
        """Bytes whose length the reader knows."""
        self._parts.append(data)

    def octets(self, data: bytes) -> None:
        """Bytes with their length before them."""
        self.number(len(data))
        self.raw(data)

    def array(self, values: npt.NDArray[Any], dtype: str) -> None:
        """An array whose shape the reader knows."""
        self.raw(np.ascontiguousarray(values, dtype=dtype).tobytes())

    def done(self) -> bytes:
        return b"".join(self._parts)


class Reader:
    """Takes fields apart again.

    Raises
    ------
    CiphertextError
        From every method: what is read is something else, is cut off, or has bytes left over.
    """

    def __init__(self, kind: bytes, data: bytes) -> None:
        self._name = _NAMES[kind]
        if not isinstance(data, bytes | bytearray | memoryview):
            raise CiphertextError(f"{self._name} is bytes, not {type(data).__name__}")
        self._data = bytes(data)
        self._at = len(kind) + 1
        if self._data[: len(kind)] != kind:
            raise CiphertextError(f"this is not {self._name}, or it is damaged")
        if self._data[len(kind) : self._at] != bytes([_VERSION]):
            raise CiphertextError(f"{self._name} of another version of veilboost: make it again with this one")

    def damaged(self, what: str) -> CiphertextError:
        """The error to raise where a field says something impossible."""
        return CiphertextError(f"{self._name} is damaged: {what}")

    def raw(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise self.damaged("it is cut off")
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, most: int) -> int:
        """A whole number of at most `most`."""
        (value,) = struct.unpack("<Q", self.raw(8))
        if value > most:
            raise self.damaged("a number is out of range")
        return int(value)

    def octets(self) -> bytes:
        return self.raw(self.number(len(self._data)))

    def array(self, dtype: str, *shape: int) -> npt.NDArray[Any]:
        """An array of this shape, which may be read only."""
        size = np.dtype(dtype).itemsize
        for extent in shape:
            size *= extent  # Python's integers: no overflow
        return np.frombuffer(self.raw(size), dtype=dtype).reshape(shape)

    def so_far(self) -> bytes:
        """Everything that has been read."""
        return self._data[: self._at]

    def done(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise self.damaged("there are bytes left over")

"""Reads Universal Binary JSON, the format of XGBoost's .ubj model files.

Format: https://ubjson.org, draft 12. Numbers are big-endian; a container may state the type of its items (`$`) and
their count (`#`). A file may come from anywhere: a size is compared with the bytes that are left before memory is set
aside for it, and nesting is bounded.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError

#: A model nests about ten levels.
MOST_DEPTH: Final = 64

_NUMBERS: Final[dict[bytes, np.dtype[Any]]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_INTEGERS: Final = b"iUIlL"
_CONSTANTS: Final = {b"Z": None, b"T": True, b"F": False}
_NO_OP: Final = b"N"


def decode(data: bytes) -> Any:
    """The object that `data` holds, as `json.loads` would give it, but typed arrays of numbers are NumPy arrays.

    Raises
    ------
    ModelError
        `data` is not one complete value of UBJSON.
    """
    reader = _Reader(data)
    value = reader.value(reader.marker(), 0)
    reader.end()
    return value


class _Reader:
    """Walks once through the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def marker(self) -> bytes:
        """The next byte that is no no-op."""
        while (found := self._take(1)) == _NO_OP:
            pass
        return found

    def end(self) -> None:
        if self._data[self._at :].strip(_NO_OP):
            raise _damaged("bytes after the end")

    def value(self, marker: bytes, depth: int) -> Any:
        """The value after its type's marker."""
        if marker in _NUMBERS:
            return self._array(marker, 1)[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == b"S":
            return self._text()
        if marker == b"C":
            return _decoded(self._take(1))
        if marker == b"H":  # a number of any precision, as text
            try:
                return float(self._text())
            except ValueError:
                raise _damaged("a number") from None
        if depth == MOST_DEPTH:
            raise _damaged(f"more than {MOST_DEPTH} containers in one another")
        if marker == b"[":
            return self._list(depth + 1)
        if marker == b"{":
            return self._object(depth + 1)
        raise _damaged(f"no type has the marker {marker!r}")

    def _list(self, depth: int) -> list[Any] | npt.NDArray[Any]:
        kind, count, marker = self._opening()
        if kind in _NUMBERS:
            return self._array(kind, count)
        if count >= 0:
            return [self.value(kind or self.marker(), depth) for _ in range(count)]
        items = []
        while marker != b"]":
            items.append(self.value(marker, depth))
            marker = self.marker()
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count, marker = self._opening()
        fields: dict[str, Any] = {}
        while marker != b"}" if count < 0 else count > 0:
            name = self._text(marker if count < 0 else self.marker())
            if name in fields:
                raise _damaged(f"two fields {name[:40]!r}")
            fields[name] = self.value(kind or self.marker(), depth)
            if count < 0:
                marker = self.marker()
            else:
                count -= 1
        return fields

    def _opening(self) -> tuple[bytes, int, bytes]:
        """Of a container the type of its items or b"", their count or -1, and the marker that follows if -1."""
        kind, marker = b"", self.marker()
        if marker == b"$":
            kind, marker = self._take(1), self._take(1)
            if marker != b"#":
                raise _damaged("a container of a stated type does not state its size")
            if kind not in _NUMBERS and kind not in (b"S", b"C", b"H", b"[", b"{"):
                # Items of no bytes could be more than the memory holds.
                raise _damaged(f"a container of items with the marker {kind!r}")
        if marker != b"#":
            return kind, -1, marker
        count = self._size(self.marker())
        if count > len(self._data) - self._at:  # every item takes a byte or more
            raise _damaged("ends early")
        return kind, count, b""

    def _array(self, kind: bytes, count: int) -> npt.NDArray[Any]:
        dtype = _NUMBERS[kind]
        return np.frombuffer(self._take(count * dtype.itemsize), dtype=dtype).astype(dtype.newbyteorder("="))

    def _size(self, marker: bytes) -> int:
        if marker not in _INTEGERS:
            raise _damaged("a size is not a whole number")
        size = int(self._array(marker, 1)[0])
        if size < 0:
            raise _damaged("a size is negative")
        return size

    def _text(self, marker: bytes = b"") -> str:
        return _decoded(self._take(self._size(marker or self.marker())))

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _damaged("ends early")
        self._at += count
        return self._data[self._at - count : self._at]


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _damaged("a text is not UTF-8") from None


def _damaged(what: str) -> ModelError:
    return ModelError(f"damaged, or not a UBJSON file: {what}")

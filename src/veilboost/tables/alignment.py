"""Ids of rows, hashed to a group and blinded: what two owners need to find their common rows.

docs/protocols/alignment.md. The group is the prime-order subgroup of edwards25519, with libsodium's arithmetic. The
messages and who sends them are in `veilboost.jobs.alignment`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from secrets import token_bytes
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_NONREDUCEDSCALARBYTES,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_noclamp,
)
from nacl.exceptions import RuntimeError as SodiumError

from veilboost.errors import DataError
from veilboost.tables.reading import is_readable

Octets = npt.NDArray[np.uint8]
Result = TypeVar("Result")

#: Bytes of a group element.
POINT_BYTES = 32

_DOMAIN = b"veilboost row alignment 1\x00"
_WHOLE_NUMBER = r"^(-?\d+)\.0+$"
_CHUNK = 1024

#: Control and format characters, line and paragraph separators.
_UNSEEN = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]"

#: Floating-point numbers from here on do not tell neighbouring whole numbers apart: float64, float32.
_EXACT = (2.0**53, 2.0**24)

#: How many rows a message names.
_SHOWN = 5


def read_ids(cells: pl.Series, where: str) -> tuple[str, ...]:
    """The ids of a table's rows as text: in Unicode's form NFC, blanks around them removed, 17.0 written as 17.

    Ids that look the same are thus the same bytes, but for letters of different alphabets. Nothing else is changed:
    leading zeros and capitals count.

    Raises
    ------
    DataError
        An id holds control or format characters, is empty ("NaN" is, as in any column), there twice, or a
        floating-point number too large to be exact; with the rows, counted from 1, and never the id.
    """
    at = f"column '{cells.name}'"
    if not is_readable(cells.dtype) or cells.dtype == pl.Boolean:
        raise DataError(f"{where}: the id {at} holds neither text nor numbers: convert it")
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
        rounded = np.flatnonzero((cells.abs() >= _EXACT[cells.dtype == pl.Float32]).fill_null(value=False).to_numpy())
        if len(rounded):
            raise DataError(
                f"{where}: {_rows_in_words(rounded)}, {at}: the id is a floating-point number too large to be exact: "
                "store ids as text or whole numbers"
            )
        whole = (cells == cells.floor()).fill_null(value=False)
        cells = cells.cast(pl.Int64).cast(pl.String).zip_with(whole, cells.cast(pl.String))
    ids = cells.cast(pl.String).str.normalize("NFC").str.strip_chars().str.replace(_WHOLE_NUMBER, "$1").fill_null("")
    unseen = np.flatnonzero(ids.str.contains(_UNSEEN).to_numpy())
    if len(unseen):
        raise DataError(
            f"{where}: {_rows_in_words(unseen)}, {at}: the id holds a character that cannot be seen, such as a "
            "zero-width space or a byte order mark, and would not match: remove it"
        )
    empty = np.flatnonzero(ids.str.to_lowercase().is_in(["", "nan"]).to_numpy())
    if len(empty):
        raise DataError(f"{where}: {_rows_in_words(empty)}, {at}: the id is empty: every row needs one")
    again = ids.is_duplicated()
    if again.any():
        same = np.flatnonzero((ids == ids.filter(again)[0]).to_numpy())
        others = ids.filter(again).n_unique() - 1
        more = f"; {others} more {'id is' if others == 1 else 'ids are'} there twice" if others else ""
        raise DataError(f"{where}: {_rows_in_words(same)}, {at}: have the same id{more}: keep one row per id")
    return tuple(ids.to_list())


def hash_to_group(ids: Sequence[str], context: bytes) -> list[bytes]:
    """A group element for every id, as from a random oracle.

    SHA-512 of context and id gives two uniform strings; libsodium maps each to the group (Elligator 2), and the two are
    added: E. Brier et al., "Efficient indifferentiable hashing into ordinary elliptic curves", CRYPTO 2010; RFC 9380,
    section 3.
    """
    prefix = hashlib.sha512(_DOMAIN + hashlib.sha256(context).digest())

    def one(text: str) -> bytes:
        state = prefix.copy()
        state.update(text.encode())
        digest = state.digest()
        halves = (crypto_core_ed25519_from_uniform(digest[:32]), crypto_core_ed25519_from_uniform(digest[32:]))
        return bytes(crypto_core_ed25519_add(*halves))

    return _in_threads(one, ids)


def draw_scalar() -> bytes:
    """A uniform secret scalar."""
    return bytes(crypto_core_ed25519_scalar_reduce(token_bytes(crypto_core_ed25519_NONREDUCEDSCALARBYTES)))


def blind(points: Sequence[bytes], scalar: bytes) -> list[bytes]:
    """Every point times the scalar.

    Raises
    ------
    ValueError
        When a point is not a canonical element of the group other than zero.
    """

    def one(point: bytes) -> bytes:
        return bytes(crypto_scalarmult_ed25519_noclamp(scalar, point))

    try:
        return _in_threads(one, points)
    except SodiumError:
        raise ValueError("a point is not in the group") from None


def to_octets(points: Sequence[bytes]) -> Octets:
    """Points one after the other, uint8, shape (points * 32,)."""
    return np.frombuffer(b"".join(points), dtype=np.uint8)


def from_octets(octets: Octets) -> list[bytes]:
    """The inverse of `to_octets`."""
    data = octets.tobytes()
    return [data[start : start + POINT_BYTES] for start in range(0, len(data), POINT_BYTES)]


def private_order(ids: Sequence[str], key: bytes, context: bytes) -> npt.NDArray[np.int64]:
    """An order of the ids that tells nothing of them to whoever lacks the key, and is the same at every call."""
    marks = [hmac.digest(key, context + one.encode(), "sha256") for one in ids]
    return np.array(sorted(range(len(ids)), key=marks.__getitem__), dtype=np.int64)


def _in_threads(act: Callable[[Any], Result], items: Sequence[str] | Sequence[bytes]) -> list[Result]:
    """Act on all items; libsodium computes without Python's lock."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(chain.from_iterable(pool.map(lambda chunk: [act(item) for item in chunk], chunks)))


def _rows_in_words(rows: npt.NDArray[np.int64]) -> str:
    """Such as "row 3", "rows 3 and 7" or "rows 1, 2, 3, 4, 5 and 12 more"; counted from 1."""
    shown = [str(row + 1) for row in rows[:_SHOWN].tolist()]
    if len(rows) > _SHOWN:
        return f"rows {', '.join(shown)} and {len(rows) - _SHOWN} more"
    return f"row {shown[0]}" if len(rows) == 1 else f"rows {', '.join(shown[:-1])} and {shown[-1]}"

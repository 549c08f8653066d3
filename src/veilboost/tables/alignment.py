"""Row alignment by id, without the network: ids, points, matches, rows and their order.

docs/protocols/alignment.md. Ids are hashed to points of the prime-order subgroup of edwards25519 and raised to secret
scalars, so that two owners find the ids that they have in common and nothing else [Mea86] [HFH99]. libsodium computes
on points and refuses what is none; `veilboost.jobs.alignment` exchanges them.

[Mea86]: C. Meadows, "A more efficient cryptographic matchmaking protocol for use in the absence of a continuously
    available third party", IEEE Symposium on Security and Privacy 1986.
[HFH99]: B. A. Huberman, M. Franklin, T. Hogg, "Enhancing privacy and trust in electronic communities", ACM Conference
    on Electronic Commerce 1999.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_noclamp,
)
from nacl.exceptions import RuntimeError as SodiumError

from veilboost.errors import DataError
from veilboost.tables.spelling import one_spelling

POINT_BYTES: Final = 32

#: uint8, shape (count, POINT_BYTES): encoded points of the prime-order subgroup.
Points = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Join = Literal["inner", "left"]

_DOMAIN: Final = b"veilboost row alignment, version 1, edwards25519, SHA-512, Elligator 2\0"
_SHOWN: Final = 5
_CHUNK: Final = 512


def read_ids(text: pl.Series, where: str, column: str) -> list[str]:
    """Ids in one spelling, all different.

    Parameters
    ----------
    text
        The cells without white space around them; null where empty.
    where, column
        What error messages call the table and its column.

    Raises
    ------
    DataError
        With the numbers of the rows, never an id: an id is empty (so is "NaN"), or two rows have the same.
    """
    ids = one_spelling(text)
    empty = (ids.is_null() | ids.str.to_lowercase().eq("nan")).fill_null(value=True)
    if empty.any():
        raise DataError(
            f"{where}: {_rows_in_words(np.flatnonzero(empty.to_numpy()))}, column '{column}': the id is empty: "
            "give every row its id, or remove the row"
        )
    if ids.n_unique() < len(ids):
        first = ids.to_list().index(ids.filter(ids.is_duplicated())[0])
        same = np.flatnonzero((ids == ids[first]).to_numpy())
        several = ids.filter(ids.is_duplicated()).n_unique()
        others = f" (and so it is with {several - 1} other ids)" if several > 1 else ""
        raise DataError(
            f"{where}: {_rows_in_words(same)}, column '{column}': have the same id{others}: "
            "keep one row for each id; 17 and 17.0 are the same"
        )
    return ids.to_list()


def fresh_scalar() -> bytes:
    """A uniformly random scalar modulo the order of the group, but 0; 32 bytes, secret, for one exchange."""
    while True:
        scalar = crypto_core_ed25519_scalar_reduce(token_bytes(64))
        if any(scalar):
            return scalar


def hash_to_group(ids: Sequence[str], job_hash: bytes) -> Points:
    """A point for every id, of which nobody knows a discrete logarithm.

    SHA-512(domain || job hash || id) in two halves; each is mapped to the curve by Elligator 2 and multiplied by the
    cofactor 8 (libsodium); the sum of the two points. A random oracle into the group if SHA-512 is one (Brier et al.,
    CRYPTO 2010; Farashahi et al., Mathematics of Computation 82 (2013); RFC 9380, section 3, with libsodium's map).

    Parameters
    ----------
    job_hash
        32 bytes; points of different jobs have nothing to do with each other.
    """
    start = hashlib.sha512(_DOMAIN + job_hash)

    def point(id_: bytes) -> bytes:
        state = start.copy()
        state.update(id_)
        digest = state.digest()
        return crypto_core_ed25519_add(
            crypto_core_ed25519_from_uniform(digest[:32]), crypto_core_ed25519_from_uniform(digest[32:])
        )

    return _for_each(point, [id_.encode() for id_ in ids])


def raise_to(points: Points, scalar: bytes) -> Points:
    """Every point to the power of a secret scalar.

    Raises
    ------
    ValueError
        When a point is not on the curve, not in the prime-order subgroup, the neutral element, or encoded in another
        way than the usual one.
    """
    try:
        return _for_each(lambda point: crypto_scalarmult_ed25519_noclamp(scalar, point), _each(points))
    except SodiumError:
        raise ValueError("is no point of the group") from None


def check_points(points: Points) -> None:
    """Refuse what `raise_to` would refuse; raises ValueError."""

    def check(point: bytes) -> bytes:
        if not crypto_core_ed25519_is_valid_point(point):
            raise ValueError("is no point of the group")
        return b""

    _for_each(check, _each(points))


def in_order(points: Points) -> npt.NDArray[np.int64]:
    """The permutation that sorts points by their encoding.

    Who sends points sends them in this order. It depends on which points are sent and on nothing else, and the points
    themselves are random to whoever does not know the scalar.
    """
    words = np.ascontiguousarray(points).view(">u8")
    return np.lexsort(words.T[::-1]).astype(np.int64)


def is_in_order(points: Points) -> bool:
    """Whether points are sorted as `in_order` does, and all different."""
    words = np.ascontiguousarray(points).view(">u8")
    differs = words[1:] != words[:-1]
    first = np.argmax(differs, axis=1)
    at = np.arange(len(first))
    return bool((differs.any(axis=1) & (words[1:][at, first] > words[:-1][at, first])).all())


def are_different(points: Points) -> bool:
    """Whether no two points are equal."""
    return is_in_order(points[in_order(points)])


def match(own: Points, other: Points) -> Rows:
    """For each of one's own points its position among the other's, -1 where it is not there; both all different."""
    positions = {point: position for position, point in enumerate(_each(other))}
    return np.array([positions.get(point, -1) for point in _each(own)], dtype=np.int64)


def choose_rows(found: Mapping[str, Rows], blocks: Sequence[Collection[str]], rows: int, join: Join) -> list[Rows]:
    """Which rows of the label holder's table each of its blocks has.

    Parameters
    ----------
    found
        By other owner: positions as `match` gives them, shape (rows,).
    blocks
        For each of the label holder's blocks the other owners of its columns.
    rows
        Of the label holder's table.
    join
        "inner": a block has the rows whose ids all its owners have. "left": every row is in a block; of several blocks,
        in those of which an owner that holds no other of them has the id, or else in the first of which any owner has
        it, or else in the first.

    Returns
    -------
    list
        Ascending row numbers for each block. A row may be in several blocks, and with "inner" in none.
    """
    has = {owner: positions >= 0 for owner, positions in found.items()}

    def anywhere(owners: Collection[str]) -> npt.NDArray[np.bool_]:
        total = np.zeros(rows, dtype=np.bool_)
        for owner in owners:
            total |= has[owner]
        return total

    def everywhere(owners: Collection[str]) -> npt.NDArray[np.bool_]:
        total = np.ones(rows, dtype=np.bool_)
        for owner in owners:
            total &= has[owner]
        return total

    if join == "inner":
        return [np.flatnonzero(everywhere(block)) for block in blocks]
    held_in = Counter(owner for block in blocks for owner in block)
    members = [anywhere([owner for owner in block if held_in[owner] == 1]) for block in blocks]
    left_over = ~np.logical_or.reduce(members)
    for member, block in zip(members, blocks, strict=True):
        fits = left_over & anywhere(block)
        member |= fits
        left_over &= ~fits
    members[0] |= left_over
    return [np.flatnonzero(member) for member in members]


def arrange(rows: Rows, ids: Sequence[str], key: bytes, job_hash: bytes, block: int) -> Rows:
    """The rows of a block in an order that tells nothing: by HMAC-SHA-256(key, job hash || block || id).

    The same at every start, so that a resumed run has the same rows in the same order.

    Parameters
    ----------
    rows
        Row numbers in the label holder's table, int64.
    key
        32 bytes that only the label holder knows, for this purpose alone.
    block
        Public number of the block.
    """
    context = job_hash + block.to_bytes(8, "big")
    tags = b"".join(hmac.digest(key, context + ids[row].encode(), "sha256") for row in rows.tolist())
    return rows[in_order(np.frombuffer(tags, dtype=np.uint8).reshape(len(rows), 32))]


def _each(points: Points) -> list[bytes]:
    data = points.tobytes()
    return [data[at : at + POINT_BYTES] for at in range(0, len(data), POINT_BYTES)]


def _for_each(function: Callable[[bytes], bytes], items: Sequence[bytes]) -> Points:
    """The results of a function, in order; on all cores, since libsodium is called without the interpreter's lock."""

    def run(start: int) -> bytes:
        return b"".join([function(item) for item in items[start : start + _CHUNK]])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        data = b"".join(pool.map(run, range(0, len(items), _CHUNK)))
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, POINT_BYTES)


def _rows_in_words(positions: Rows) -> str:
    """Such as "row 3", "rows 3 and 7", "rows 1, 2, 3, 4, 5 and 12 more"; counted from 1."""
    shown = [str(position + 1) for position in positions[:_SHOWN].tolist()]
    more = len(positions) - len(shown)
    if more:
        return f"rows {', '.join(shown)} and {more} more"
    return f"row {shown[0]}" if len(shown) == 1 else f"rows {', '.join(shown[:-1])} and {shown[-1]}"

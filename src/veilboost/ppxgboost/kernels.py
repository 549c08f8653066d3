"""Compiled walk of one encrypted query down all trees of an encrypted model.

Runs at the prediction server, to whom nothing here is secret: it knows all arguments, and learns the leaves. Nodes of
all trees lie behind one another; `left` and `right` are positions in the same arrays, -1 at a leaf.
"""

import numpy as np
import numpy.typing as npt
from numba import types

from veilboost.trees.kernels import compiled

Int32 = npt.NDArray[np.int32]
Octets = npt.NDArray[np.uint8]
Words32 = npt.NDArray[np.uint32]
Words64 = npt.NDArray[np.uint64]

_int32 = types.Array(types.int32, 1, "C", readonly=True)
_octets = types.Array(types.uint8, 1, "C", readonly=True)
_words32 = types.Array(types.uint32, 1, "C", readonly=True)
_words64 = types.Array(types.uint64, 1, "C", readonly=True)
_nodes = (_int32, _int32, _int32, _int32, _int32)
_sets = (_octets, types.Array(types.int64, 1, "C", readonly=True), _words64, _words32)

_THREE = np.uint64(3)
_ONE = np.uint64(1)


@compiled(types.boolean(types.int64, types.int64, *_sets), inline="always")
def _set_goes_left(
    item: int, column: int, tables: Octets, starts: npt.NDArray[np.int64], hashes: Words64, places: Words32
) -> bool:
    """Read the entry at the query's place: 1, once unmasked, says that the category is in the set and goes right."""
    place = places[column]
    entry = (tables[starts[item] + (place >> 3)] >> (place & 7)) & 1
    return bool(entry == (hashes[item] & _ONE))


@compiled(
    types.void(
        *_nodes,
        types.Array(types.boolean, 1, "C", readonly=True),
        types.Array(types.uint8, 3, "C", readonly=True),
        types.Array(types.uint64, 2, "C", readonly=True),
        types.Array(types.uint8, 2, "C", readonly=True),
        *_sets,
        types.int32[::1],
    )
)
def walk_revealing(
    roots: Int32,
    left: Int32,
    right: Int32,
    column: Int32,
    item: Int32,
    is_set: npt.NDArray[np.bool_],
    tables: Octets,
    hashes: Words64,
    places: Octets,
    set_tables: Octets,
    set_starts: npt.NDArray[np.int64],
    set_hashes: Words64,
    set_places: Words32,
    leaves: Int32,
) -> None:
    """Find the leaf of every tree where thresholds are order-revealing ciphertexts.

    Parameters
    ----------
    roots
        int32, shape (trees,): the first node of each tree.
    left, right, column, item
        int32, shape (nodes,): children; number of the column among those of its kind; at an inner node the number of
        its threshold or set, at a leaf that of its ciphertext.
    is_set
        bool, shape (nodes,): whether the node asks for a category.
    tables, hashes
        uint8, shape (thresholds, 4, 64), and uint64, shape (thresholds, 4): right ciphertexts; H of the query's keys.
    places
        uint8, shape (columns, 4): of the query.
    set_tables, set_starts, set_hashes, set_places
        The same for sets: tables behind one another, where each begins, one hash each; places of the columns.
    leaves
        int32, shape (trees,): receives the items of the leaves.
    """
    for tree in range(len(roots)):
        node = roots[tree]
        while left[node] >= 0:
            at, of = item[node], column[node]
            if is_set[node]:
                goes_left = _set_goes_left(at, of, set_tables, set_starts, set_hashes, set_places)
            else:
                goes_left = False
                for block in range(4):
                    place = places[of, block]
                    entry = (tables[at, block, place >> 2] >> (2 * (place & 3))) & 3
                    outcome = (np.uint64(entry) + _THREE - hashes[at, block] % _THREE) % _THREE
                    if outcome != 0:
                        goes_left = outcome == _ONE  # the query is smaller
                        break
            node = left[node] if goes_left else right[node]
        leaves[tree] = item[node]


@compiled(
    types.void(
        *_nodes,
        types.Array(types.boolean, 1, "C", readonly=True),
        _words64,
        _words64,
        *_sets,
        types.int32[::1],
    )
)
def walk_preserving(
    roots: Int32,
    left: Int32,
    right: Int32,
    column: Int32,
    item: Int32,
    is_set: npt.NDArray[np.bool_],
    thresholds: Words64,
    values: Words64,
    set_tables: Octets,
    set_starts: npt.NDArray[np.int64],
    set_hashes: Words64,
    set_places: Words32,
    leaves: Int32,
) -> None:
    """`walk_revealing` where thresholds and values, uint64, shape (columns,), are order-preserving ciphertexts."""
    for tree in range(len(roots)):
        node = roots[tree]
        while left[node] >= 0:
            at, of = item[node], column[node]
            if is_set[node]:
                goes_left = _set_goes_left(at, of, set_tables, set_starts, set_hashes, set_places)
            else:
                goes_left = values[of] < thresholds[at]
            node = left[node] if goes_left else right[node]
        leaves[tree] = item[node]

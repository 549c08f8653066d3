"""Compiled kernels of federated training: a client's histograms and routing, and the aggregators' projections.

Every kernel has an explicit signature, releases the GIL and is cached on disk.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilboost.mpc.kernels import compiled
from veilboost.mpc.ring import Words

Bins = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@compiled(
    "void(uint8[::1], int32[::1], int32[::1], int64[::1], int64[:, ::1])",
    "void(uint16[::1], int32[::1], int32[::1], int64[::1], int64[:, ::1])",
)
def add_column(bins: Bins, rows: Int32, nodes: Int32, words: Int64, sums: Int64) -> None:
    """Add the words of some rows to the sums of their nodes and bins.

    Parameters
    ----------
    bins
        Shape (all rows,): one column.
    rows, nodes, words
        Shape (rows to add,): which row, its node, what to add.
    sums
        Shape (nodes, bins).
    """
    for position in range(rows.shape[0]):
        sums[nodes[position], bins[rows[position]]] += words[position]


@compiled(
    "void(uint8[:, ::1], int32[::1], int32[::1], uint8[:, ::1])",
    "void(uint16[:, ::1], int32[::1], int32[::1], uint8[:, ::1])",
)
def route(bins: Bins, nodes: Int32, features: Int32, goes_left: npt.NDArray[np.uint8]) -> None:
    """Move every row from its node to the left (2 node) or right (2 node + 1) child.

    Parameters
    ----------
    bins
        Shape (features, rows).
    nodes
        Shape (rows,); changed in place.
    features, goes_left
        Of every node the column by which it splits, and for each of its bins whether it goes left.
    """
    for row in range(nodes.shape[0]):
        node = nodes[row]
        nodes[row] = 2 * node + 1 - goes_left[node, bins[features[node], row]]


@compiled("void(uint64[::1], uint64[::1], uint64[::1])")
def add_projections(values: Words, choices: Words, sums: Words) -> None:
    """Add each value to those of `sums` (at most 64) that the bits of its choice name."""
    for position in range(values.shape[0]):
        value, choice = values[position], choices[position]
        for number in range(sums.shape[0]):
            # All ones where the bit is set: no branch that could not be foreseen.
            sums[number] += value & (np.uint64(0) - ((choice >> np.uint64(number)) & np.uint64(1)))

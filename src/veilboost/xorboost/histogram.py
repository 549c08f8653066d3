"""Histograms of shared gradients over all owners' columns, and the left sums of every candidate."""

from __future__ import annotations

from collections.abc import Sequence

from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate
from veilboost.xorboost.candidates import CandidateSpace, Sides
from veilboost.xorboost.cells import OwnerCells


def sum_per_bin(session: Session, cells: Sequence[OwnerCells], vectors: Shared, active: frozenset[int]) -> Shared:
    """Sums of shared vectors per bin.

    Parameters
    ----------
    vectors
        Shape (rows, vectors).
    active
        Public: features to sum.

    Returns
    -------
    Shared
        Shape (bins of the common numbering, vectors).

    Notes
    -----
    1. Every owner sends the others its share of the vectors under a mask of its own: one message for all columns.
    2. `OwnerCells.histogram` for each owner of columns.
    """
    exchanged = session.exchange_masked(vectors)
    total: Shared | None = None
    for own in cells:
        part = own.histogram(exchanged, active)
        total = part if total is None else total + part
    assert total is not None
    return total


def left_sums(space: CandidateSpace, sides: Sides, histogram: Shared, node: Shared) -> Shared:
    """Sums of the left side of every candidate; local.

    Parameters
    ----------
    histogram
        Shape (bins, vectors, nodes).
    node
        Sums of the nodes, shape (vectors, nodes).

    Returns
    -------
    Shared
        Shape (vectors, nodes, candidates of `sides`).
    """
    n_vectors, n_nodes = node.shape
    flat = histogram.reshape(space.n_bins, n_vectors * n_nodes)
    nothing = flat[:1] * to_ring(0)
    cumulative = concatenate([nothing, flat.cumsum(axis=0)])
    ranges = cumulative[sides.last] - cumulative[sides.first]
    sums = ranges * to_ring(sides.sign[:, None])
    if sides.missing_sign.any():
        sums = sums + flat[sides.missing] * to_ring(sides.missing_sign[:, None])
    whole = node.reshape(1, n_vectors * n_nodes).broadcast_to(sums.shape) * to_ring(sides.whole[:, None])
    return (sums + whole).transpose().reshape(n_vectors, n_nodes, len(sides.candidates))

"""Which bins are on the left of each candidate, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veilboost.mpc.ring import to_ring
from veilboost.mpc.shares import Shared, concatenate
from veilboost.splitting.space import Ints, SplitSpace
from veilboost.tables.binning import Layout


@dataclass(frozen=True)
class Sides:
    """Which bins are on the left of each candidate of some features, as ranges of the common numbering of bins.

    The left side of candidate k is `whole[k]` times the node, plus `sign[k]` times the bins first[k] to last[k] - 1,
    plus `missing_sign[k]` times bin missing[k]; in partitioned columns, less the categories that go right. Where the
    candidate sends missing rows the less preferred way, second[k] is the position of their bin in `missing_bins`, else
    -1.
    """

    candidates: Ints
    whole: Ints
    sign: Ints
    first: Ints
    last: Ints
    missing: Ints
    missing_sign: Ints
    second: Ints
    missing_bins: Ints


def sides_of(space: SplitSpace, features: Sequence[int]) -> Sides:
    """The left sides of all candidates of the given features."""
    columns: list[list[Ints]] = [[] for _ in range(8)]
    missing_bins: list[int] = []
    for feature in features:
        plan, start = space.plans[feature], int(space.bin_starts[feature])
        count = plan.n_candidates
        place, one = np.arange(count), np.ones(count, dtype=np.int64)
        zero, missing_bin = 0 * one, (start + plan.n_bins) * one
        missing = space.features[feature].missing
        if feature in space.partitioned:
            variants = [(one, zero, start * one, start * one, zero)]
            if missing:
                variants.append((one, zero, start * one, start * one, -one))
        elif space.features[feature].categorical:
            variants = [(one, -one, start + place, start + place + 1, zero)]
            if missing:
                variants.append((one, -one, start + place, start + place + 1, -one))
        else:
            first = start + place if plan.layout is Layout.POOLED else start * one
            variants = [(zero, one, first, start + place + 1, zero)]
            if missing:
                first = first[::-1] if plan.layout is Layout.POOLED else first
                variants.append((zero, one, first, start + place[::-1] + 1, one))
        for number, (whole, sign, first, last, missing_sign) in enumerate(variants):
            base = int(space.candidate_starts[feature]) + number * count
            second = (len(missing_bins) if number else -1) * one
            parts = (base + place, whole, sign, first, last, missing_bin * missing, missing_sign, second)
            for column, values in zip(columns, parts, strict=True):
                column.append(values)
        if missing:
            missing_bins.append(start + plan.n_bins)
    columns.append([np.array(missing_bins, dtype=np.int64)])
    return Sides(*(np.concatenate(column) for column in columns))


def left_sums(space: SplitSpace, sides: Sides, histogram: Shared, node: Shared) -> Shared:
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

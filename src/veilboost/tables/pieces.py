"""Binning of a numeric column whose rows lie with several owners.

Every owner keeps fine bins of its own rows, for histograms and routing, and proposes candidate cuts from its own
values: all owners' cuts together are the candidates. A fine bin goes left of a cut as a whole, if its middle value
does; `xorboost/pooling.py` finds out, in shares, which bins of one owner are left of another's cuts. Cuts are midpoints
between neighbouring values of their owner, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.tables.binning import ABOVE_ALL, BinnedColumn, BinPlan, bin_column, even_cuts, plan_bins
from veilboost.tables.schema import Feature

#: Fine bins for each candidate split of a column, and at most so many.
FINE_PER_CANDIDATE = 4
MOST_FINE_BINS = 256


@dataclass(frozen=True)
class PiecePlan:
    """The public shape of one owner's rows of a column.

    Attributes
    ----------
    fine
        The fine bins.
    cuts
        How many cuts this owner proposes.
    number, pieces
        Which of the column's pieces this is, of how many.
    """

    fine: BinPlan
    cuts: int
    number: int
    pieces: int


def plan_pieces(feature: Feature, rows: Sequence[int], max_bin: int) -> tuple[PiecePlan, ...]:
    """Public shapes of a numeric column whose blocks of rows, of the given sizes, lie with one owner each.

    Candidates are shared out in proportion to rows; every owner has at least one.
    """
    wanted = max(2, min(max_bin, sum(rows))) - 1
    exact = np.asarray(rows) * wanted / sum(rows)
    counts = np.maximum(1, np.floor(exact).astype(int))
    for place in np.argsort(counts - exact, kind="stable"):  # the largest remainders first
        if counts.sum() < wanted:
            counts[place] += 1
    fine_bins = min(MOST_FINE_BINS, FINE_PER_CANDIDATE * max_bin)
    return tuple(
        PiecePlan(plan_bins(feature, size, fine_bins), int(count), number, len(rows))
        for number, (size, count) in enumerate(zip(rows, counts, strict=True))
    )


@dataclass(frozen=True)
class BinnedPiece:
    """One owner's rows of a column after binning; private to it except for the plan.

    Attributes
    ----------
    column
        The fine bins.
    middles
        float32, shape (fine bins,): the lower median of each bin's values; `ABOVE_ALL` where there are none.
    cuts
        float32, shape (plan.cuts,), ascending; `ABOVE_ALL` where the values are too few for another.
    """

    plan: PiecePlan
    column: BinnedColumn
    middles: npt.NDArray[np.float32]
    cuts: npt.NDArray[np.float32]

    @property
    def feature(self) -> Feature:
        return self.column.feature

    def __repr__(self) -> str:
        return f"BinnedPiece(feature={self.feature.name!r}, rows={len(self.column.bins)}, redacted)"


def bin_piece(feature: Feature, values: npt.NDArray[np.float32], plan: PiecePlan, max_bin: int) -> BinnedPiece:
    """Bin one owner's rows of a column, and choose the cuts that it proposes.

    Parameters
    ----------
    values
        float32, shape (rows,); NaN where the cell is missing.
    """
    column = bin_column(feature, values, min(MOST_FINE_BINS, FINE_PER_CANDIDATE * max_bin))
    if column.plan != plan.fine:
        raise ValueError("the column was not planned for these rows")
    values = values + np.float32(0.0)
    present = np.flatnonzero(~np.isnan(values))
    order = present[np.lexsort((values[present], column.bins[present]))]
    sizes = np.bincount(column.bins[order], minlength=plan.fine.n_bins)
    ends = np.cumsum(sizes)
    middles = np.full(plan.fine.n_bins, ABOVE_ALL, dtype=np.float32)
    taken = np.flatnonzero(sizes)
    middles[taken] = values[order][(ends - sizes + (sizes - 1) // 2)[taken]]
    cuts = np.full(plan.cuts, ABOVE_ALL, dtype=np.float32)
    chosen = _chosen_cuts(column, ends, plan)
    cuts[: len(chosen)] = chosen
    return BinnedPiece(plan, column, middles, cuts)


def _chosen_cuts(column: BinnedColumn, ends: npt.NDArray[np.int64], plan: PiecePlan) -> npt.NDArray[np.float32]:
    """At most `plan.cuts` of the cuts between fine bins, near quantiles that alternate with those of the other owners.

    Owners of alike distributions thus propose different cuts, which together are evenly spread.
    """
    places = np.flatnonzero(column.valid & (column.cuts < ABOVE_ALL))
    if len(places) > plan.cuts:
        sizes = np.diff(ends[places], prepend=0, append=ends[-1])  # rows between the cuts
        first = (plan.number + 0.5) / plan.pieces
        places = places[even_cuts(sizes, plan.cuts, first, 1 - first)]
    return column.cuts[places]

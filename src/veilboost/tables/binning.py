"""From cell values to bins: what an owner does alone, before anything is shared.

Every participant derives a `BinPlan` from public facts (kind, levels, number of rows, `max_bin`); the owner of the
column alone chooses the cuts inside that plan. A candidate split j of a numeric column sends `x < cuts[j]` left, which
is the same rows as `bins <= j`. Candidate j of a categorical column sends category j right and all others left.

Binning is on float32, as in XGBoost: -0.0 becomes 0.0 and a cut lies strictly above every value of its bin.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from veilboost.tables.schema import Feature, Kind

#: Cut above every finite value: all present rows go left, missing rows right.
ABOVE_ALL = np.float32(np.finfo(np.float32).max)

#: Columns with at most this many cells per row (bins plus one for missing) use the dense layout.
DENSE_LIMIT = 4

#: Slots per row that a continuous column gets; the excess is room to avoid cutting through ties.
CONTINUOUS_SLACK = 1.125


class Layout(StrEnum):
    """How a column meets shared vectors; see docs/protocols/incidence.md."""

    DENSE = "dense"  # a masked 0/1 matrix: few bins
    DIRECT = "direct"  # permuted slots whose bins are the bins of the split search: continuous columns
    GROUPED = "grouped"  # permuted slots, regrouped privately: discrete and categorical columns
    POOLED = "pooled"  # numeric columns whose rows lie with several owners: one bin per candidate, see tables/pieces.py


@dataclass(frozen=True)
class BinPlan:
    """The public shape of one column.

    Attributes
    ----------
    layout
        See `Layout`.
    n_bins
        Bins for present values; candidates are numbered like bins.
    slot_bins
        Bins of the permuted layout; 0 when dense.
    capacity
        Slots in each of them; 0 when dense.
    n_candidates
        Candidate splits that the search looks at (per direction of the missing rows).
    """

    layout: Layout
    n_bins: int
    slot_bins: int
    capacity: int
    n_candidates: int

    @property
    def slots(self) -> int:
        return self.slot_bins * self.capacity


@dataclass(frozen=True)
class BinnedColumn:
    """One column after binning; private to its owner except for `feature` and `plan`.

    Attributes
    ----------
    bins
        uint16, shape (rows,): bin of each row; `plan.n_bins` where the cell is missing.
    cuts
        float32, shape (n_candidates,); zeros for a categorical column.
    valid
        bool, shape (n_candidates,): whether a candidate separates two different values.
    """

    feature: Feature
    plan: BinPlan
    bins: npt.NDArray[np.uint16]
    cuts: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]

    def __repr__(self) -> str:
        return f"BinnedColumn(feature={self.feature.name!r}, rows={len(self.bins)}, redacted)"


def plan_bins(feature: Feature, rows: int, max_bin: int) -> BinPlan:
    """Public shape of a column of `rows` rows when numeric columns get at most `max_bin` bins."""
    room_for_missing = int(feature.missing)
    if feature.kind is Kind.FLAG:
        n_bins = 2
    elif feature.kind is Kind.CATEGORICAL:
        n_bins = len(feature.levels)
    else:
        n_bins = max(2, min(max_bin, rows))
    n_candidates = n_bins if feature.categorical or feature.missing else n_bins - 1
    if feature.kind is not Kind.CONTINUOUS and n_bins + room_for_missing <= DENSE_LIMIT:
        return BinPlan(Layout.DENSE, n_bins, 0, 0, n_candidates)
    if feature.kind is Kind.CONTINUOUS:
        n_bins += room_for_missing
        n_candidates += room_for_missing
        # The second bound leaves a whole bin free, so that rows and missing rows fit wherever the boundary falls.
        capacity = max(_ceil_div(int(np.ceil(CONTINUOUS_SLACK * rows)), n_bins), _ceil_div(rows, n_bins - 1))
        return BinPlan(Layout.DIRECT, n_bins, n_bins, capacity, n_candidates)
    # Any partition of the rows into at most n_bins groups plus the missing rows fits, each group in whole bins.
    return BinPlan(Layout.GROUPED, n_bins, 2 * n_bins + 1, max(1, _ceil_div(rows, n_bins)), n_candidates)


def bin_column(feature: Feature, values: npt.NDArray[np.float32], max_bin: int) -> BinnedColumn:
    """Choose the cuts of a column and bin its values.

    Parameters
    ----------
    values
        float32, shape (rows,): numbers, 0/1 for flags, codes for categories; NaN where the cell is missing.
    """
    plan = plan_bins(feature, len(values), max_bin)
    values = values + np.float32(0.0)  # -0.0 becomes 0.0
    present = np.flatnonzero(~np.isnan(values))
    order = present[np.argsort(values[present], kind="stable")]
    ordered = values[order]
    bins = np.full(len(values), plan.n_bins, dtype=np.uint16)
    cuts = np.full(plan.n_candidates, ABOVE_ALL, dtype=np.float32)
    valid = np.ones(plan.n_candidates, dtype=np.bool_)
    if feature.categorical:
        bins[present] = values[present].astype(np.uint16)
        return BinnedColumn(feature, plan, bins, np.zeros_like(cuts), valid)
    if plan.layout is Layout.DIRECT:
        ends, separates = _fill_slots(ordered, len(values) - len(order), plan)
        bins[order] = np.searchsorted(ends, np.arange(len(order)), side="right").astype(np.uint16)
        chosen = separates[: plan.n_candidates]
        boundaries = ends[: plan.n_candidates][chosen]
        cuts[: len(chosen)][chosen] = [_cut_at(ordered, end) for end in boundaries]
        return BinnedColumn(feature, plan, bins, cuts, chosen)
    if feature.kind is Kind.FLAG:
        chosen_cuts = np.array([0.5], dtype=np.float32)
    else:
        chosen_cuts = _group_cuts(ordered, plan.n_bins)
    cuts[: len(chosen_cuts)] = chosen_cuts
    bins[order] = np.searchsorted(chosen_cuts, ordered, side="right").astype(np.uint16)
    return BinnedColumn(feature, plan, bins, cuts, valid)


def midpoint(below: np.float32, above: np.float32) -> np.float32:
    """A float32 cut with `below < cut <= above`; between the two values whenever one exists."""
    middle = np.float32((np.float64(below) + np.float64(above)) / 2)
    return middle if below < middle else above


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _ends(ordered: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Positions p with ordered[p - 1] < ordered[p]: where a cut may lie."""
    return np.flatnonzero(ordered[1:] > ordered[:-1]) + 1


def _cut_at(ordered: npt.NDArray[np.float32], end: int) -> np.float32:
    """The cut between sorted positions `end - 1` and `end`; above everything when there is nothing above."""
    return midpoint(ordered[end - 1], ordered[end]) if end < len(ordered) else ABOVE_ALL


def even_cuts(sizes: npt.NDArray[np.int64], count: int, first: float = 1.0, last: float = 1.0) -> npt.NDArray[np.int64]:
    """Where to cut a sequence of groups into parts that are as equal as the groups allow.

    A group of more than a fair part of all rows, such as the zeros of a column of mostly zeros, counts as one part
    however large it is; counted in full it would use up the cuts that the other groups need.

    Parameters
    ----------
    sizes
        int64, shape (groups,): rows of each group.
    count
        Number of cuts, less than `groups`.
    first, last
        Sizes wanted of the first and the last part, if a part between two cuts has 1; their sum is a whole number.

    Returns
    -------
    int64, shape (count,), ascending: after which group each cut lies.
    """
    below = np.cumsum(_capped(sizes, round(first + count - 1 + last)))
    places = np.empty(count, dtype=np.int64)
    place, reached = -1, 0.0
    for number in range(count):
        wanted = first if number == 0 else 1.0
        target = reached + (below[-1] - reached) * wanted / (wanted + count - 1 - number + last)
        right = int(np.searchsorted(below, target))
        nearest = right - int(right > 0 and target - below[right - 1] < below[right] - target)
        leaving_groups_for_the_rest = len(sizes) - 1 - count + number
        place = int(np.clip(nearest, place + 1, leaving_groups_for_the_rest))
        reached = float(below[place])
        places[number] = place
    return places


def _capped(sizes: npt.NDArray[np.int64], parts: int) -> npt.NDArray[np.float64]:
    """The sizes, with the cap at which they sum up to `parts` times the cap; `parts` at most as many as the sizes."""
    descending = np.sort(sizes)[::-1][:parts].astype(np.float64)
    without_larger = sizes.sum() - np.cumsum(descending) + descending
    caps = without_larger / np.arange(parts, 0, -1)
    capped: npt.NDArray[np.float64] = np.minimum(sizes, caps[np.argmax(descending <= caps)])
    return capped


def _group_cuts(ordered: npt.NDArray[np.float32], n_bins: int) -> npt.NDArray[np.float32]:
    """At most `n_bins - 1` cuts between neighbouring values, see `even_cuts`."""
    positions = _ends(ordered)
    if len(positions) >= n_bins:
        sizes = np.diff(positions, prepend=0, append=len(ordered))
        positions = positions[even_cuts(sizes, n_bins - 1)]
    return np.array([_cut_at(ordered, p) for p in positions], dtype=np.float32)


def _fill_slots(
    ordered: npt.NDArray[np.float32], n_missing: int, plan: BinPlan
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Spread the sorted values of a continuous column over its slot bins.

    Bin after bin takes about an equal part of the values left, ending at the nearest position between two different
    values that leaves room for the rest; where ties leave no such position it is filled to the brim and its boundary
    separates nothing. The missing rows follow in bins of their own. It coarsens where it must, it never fails.

    Returns
    -------
    ends
        int64, shape (slot_bins,): number of sorted values in bins 0 to j.
    separates
        bool, shape (slot_bins,): whether boundary j lies between two different values, or between the present and
        the missing rows.
    """
    rows, capacity = len(ordered), plan.capacity
    bins_for_values = plan.slot_bins - -(-n_missing // capacity)
    positions = _ends(ordered)
    ends = np.full(plan.slot_bins, rows, dtype=np.int64)
    separates = np.zeros(plan.slot_bins, dtype=np.bool_)
    end = 0
    for boundary in range(bins_for_values):
        left, bins_left = rows - end, bins_for_values - boundary
        target = end + max(1, round(left / bins_left))
        lowest = max(end + 1, rows - (bins_left - 1) * capacity)
        first, last = np.searchsorted(positions, [lowest, end + capacity + 1])
        if first < last:
            nearest = int(np.clip(np.searchsorted(positions, target), first, last - 1))
            if nearest > first and target - positions[nearest - 1] < positions[nearest] - target:
                nearest -= 1
            end = int(positions[nearest])
            separates[boundary] = True
        else:
            end = min(end + capacity, rows)
        ends[boundary] = end
        if end == rows:
            separates[boundary] = n_missing > 0 and rows > 0
            break
    return ends, separates

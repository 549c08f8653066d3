"""The public space of candidate splits, and what each owner keeps private of it.

Every participant numbers bins and candidates alike, from public facts. Bins of all features stand one after the other
in job order, each feature's bins followed by one for its missing rows if it has any. Candidates of a numeric feature:
missing rows right, ascending, then (with missing) missing rows left, descending. Of a categorical feature: each
category against the rest with missing rows among the rest, then (with missing) with the missing rows beside the
category. A candidate's left side is a contiguous range of bins, or all but one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import WORD, Words, pack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import SharedBits, bits_shape
from veilboost.tables.binning import BinnedColumn, BinPlan, Layout, plan_bins
from veilboost.tables.schema import Feature

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CandidateSpace:
    """Public numbering of bins and candidates.

    Attributes
    ----------
    features, plans
        In job order.
    owners
        Position of each feature's owner.
    bin_starts
        Shape (features + 1,): first bin of each feature in the common numbering.
    candidate_starts
        Shape (features + 1,): first candidate of each feature.
    rows
        Rows of the table.
    """

    features: tuple[Feature, ...]
    plans: tuple[BinPlan, ...]
    owners: tuple[int, ...]
    bin_starts: Ints
    candidate_starts: Ints
    rows: int

    @classmethod
    def of(cls, features: Sequence[Feature], owners: Sequence[int], rows: int, max_bin: int) -> CandidateSpace:
        """The space of these features; `owners` are positions among the participants."""
        plans = tuple(plan_bins(feature, rows, max_bin) for feature in features)
        bins = [plan.n_bins + feature.missing for plan, feature in zip(plans, features, strict=True)]
        directions = [plan.n_candidates * (1 + feature.missing) for plan, feature in zip(plans, features, strict=True)]
        return cls(tuple(features), plans, tuple(owners), _starts(bins), _starts(directions), rows)

    @property
    def n_candidates(self) -> int:
        return int(self.candidate_starts[-1])

    @property
    def n_bins(self) -> int:
        return int(self.bin_starts[-1])

    def describe(self, candidate: int) -> tuple[int, int, bool]:
        """Feature, cut or category number, and default direction (left) of a candidate."""
        feature = int(np.searchsorted(self.candidate_starts, candidate, side="right")) - 1
        place = candidate - int(self.candidate_starts[feature])
        count = self.plans[feature].n_candidates
        first, place = place < count, place % count
        if self.features[feature].categorical:
            return feature, place, first
        return (feature, place, False) if first else (feature, count - 1 - place, True)

    @cached_property
    def codes(self) -> Words:
        """What a model says of a split on each candidate, but for a numeric cut: uint64, shape (candidates,).

        Bit 0 is 1, bit 1 the default direction (left), bits 2 to 32 the feature, bits 33 to 63 the category. The
        number of the candidate itself would tell more: where a cut lies among its owner's bins.
        """
        codes = np.empty(self.n_candidates, dtype=WORD)
        for feature, plan in enumerate(self.plans):
            start, stop = int(self.candidate_starts[feature]), int(self.candidate_starts[feature + 1])
            second = np.arange(stop - start) >= plan.n_candidates
            categorical = self.features[feature].categorical
            default_left = ~second if categorical else second
            category = np.arange(stop - start) % plan.n_candidates * categorical
            codes[start:stop] = 1 | default_left.astype(np.int64) << 1 | feature << 2 | category << 33
        return codes

    def number(self, feature: int, place: int, default_left: bool) -> int:
        """The inverse of `describe`."""
        start, count = int(self.candidate_starts[feature]), self.plans[feature].n_candidates
        if self.features[feature].categorical:
            return start + (place if default_left else count + place)
        return start + (2 * count - 1 - place if default_left else place)


@dataclass(frozen=True)
class Sides:
    """Which bins are on the left of each candidate of some features, as ranges of the common numbering of bins.

    The left side of candidate k is `whole[k]` times the node, plus `sign[k]` times the bins first[k] to last[k] - 1,
    plus `missing_sign[k]` times bin missing[k]. Where the candidate sends missing rows the less preferred way,
    second[k] is the position of their bin in `missing_bins`, else -1.
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


def sides_of(space: CandidateSpace, features: Sequence[int]) -> Sides:
    """The left sides of all candidates of the given features."""
    columns: list[list[Ints]] = [[] for _ in range(8)]
    missing_bins: list[int] = []
    for feature in features:
        plan, start = space.plans[feature], int(space.bin_starts[feature])
        count = plan.n_candidates
        place, one = np.arange(count), np.ones(count, dtype=np.int64)
        zero, missing_bin = 0 * one, (start + plan.n_bins) * one
        missing = space.features[feature].missing
        if space.features[feature].categorical:
            variants = [(one, -one, start + place, start + place + 1, zero)]
            if missing:
                variants.append((one, -one, start + place, start + place + 1, -one))
        else:
            variants = [(zero, one, start * one, start + place + 1, zero)]
            if missing:
                variants.append((zero, one, start * one, start + place[::-1] + 1, one))
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


def share_validity(
    session: Session, space: CandidateSpace, columns: Sequence[BinnedColumn | None]
) -> SharedBits | None:
    """Share which candidates separate two different values: private for continuous columns, else always true.

    Parameters
    ----------
    columns
        Own columns by feature; None for those of the others.

    Returns
    -------
    SharedBits
        One plane of `n_candidates` bits; None when no column needs it.
    """
    continuous = [f for f, plan in enumerate(space.plans) if plan.layout is Layout.DIRECT]
    if not continuous:
        return None
    shape = bits_shape(space.n_candidates)
    public = np.ones(space.n_candidates, dtype=np.bool_)
    for feature in continuous:
        public[space.candidate_starts[feature] : space.candidate_starts[feature + 1]] = False
    total: SharedBits | None = None
    for owner in sorted({space.owners[feature] for feature in continuous}):
        words: Words | None = None
        if owner == session.holder:
            private = np.zeros(space.n_candidates, dtype=np.bool_)
            for feature in continuous:
                column = columns[feature]
                if space.owners[feature] == owner and column is not None:
                    both = [column.valid, column.valid[::-1]] if column.feature.missing else [column.valid]
                    start = space.candidate_starts[feature]
                    private[start : start + len(both) * len(column.valid)] = np.concatenate(both)
            words = pack_bits(private)
        part = session.share_bits(owner, words, shape, space.n_candidates)
        total = part if total is None else total ^ part
    assert total is not None
    return total ^ pack_bits(public)


def share_cuts(session: Session, space: CandidateSpace, columns: Sequence[BinnedColumn | None]) -> SharedBits:
    """Share the float32 cut of every numeric candidate, as 32 planes of `n_candidates` bits; zero for categories."""
    shape = bits_shape(space.n_candidates, 32)
    total: SharedBits | None = None
    for owner in sorted(set(space.owners)):
        words: Words | None = None
        if owner == session.holder:
            patterns = np.zeros(space.n_candidates, dtype=np.uint32)
            for feature, column in enumerate(columns):
                if space.owners[feature] == owner and column is not None and not column.feature.categorical:
                    both = [column.cuts, column.cuts[::-1]] if column.feature.missing else [column.cuts]
                    start = space.candidate_starts[feature]
                    patterns[start : start + len(both) * len(column.cuts)] = np.concatenate(both).view(np.uint32)
            words = pack_bits((patterns[None, :] >> np.arange(32, dtype=np.uint32)[:, None] & 1).astype(np.bool_))
        part = session.share_bits(owner, words, shape, space.n_candidates)
        total = part if total is None else total ^ part
    assert total is not None
    return total


def _starts(sizes: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]).astype(np.int64)

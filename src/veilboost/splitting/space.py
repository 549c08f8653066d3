"""The public numbering of bins and candidate splits.

Every participant numbers bins and candidates alike, from public facts. Bins of all features stand one after the other
in job order, each feature's bins followed by one for its missing rows if it has any. Candidates of a numeric feature:
missing rows right, ascending, then (with missing) missing rows left, descending. Of a categorical feature: each
category against the rest with missing rows among the rest, then (with missing) with the missing rows beside the
category. A candidate's left side is a contiguous range of bins, or all but one of them.

Of a partitioned column (`trees.category_sets`) candidate k sends the first k + 1 categories right, in an order that
depends on the node and stays secret (`partitions.py`): missing rows left, ascending, then missing rows right,
descending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import WORD, WORD_BITS, Words, words_for
from veilboost.tables.binning import BinPlan
from veilboost.tables.schema import Feature

Ints = npt.NDArray[np.int64]

#: Where the category, or the bits of a set of categories, begin in the code of a split.
FIRST_CATEGORY_BIT = 33


@dataclass(frozen=True)
class SplitSpace:
    """Public numbering of bins and candidates.

    Attributes
    ----------
    features, plans
        In job order; a plan's bins and candidates are those of the split search.
    bin_starts
        Shape (features + 1,): first bin of each feature in the common numbering.
    candidate_starts
        Shape (features + 1,): first candidate of each feature.
    """

    features: tuple[Feature, ...]
    plans: tuple[BinPlan, ...]
    bin_starts: Ints
    candidate_starts: Ints

    @cached_property
    def partitioned(self) -> frozenset[int]:
        """Categorical features that are split into sets of categories."""
        numbered = enumerate(zip(self.features, self.plans, strict=True))
        return frozenset(
            f for f, (feature, plan) in numbered if feature.categorical and plan.n_candidates < plan.n_bins
        )

    @property
    def n_candidates(self) -> int:
        return int(self.candidate_starts[-1])

    @property
    def n_bins(self) -> int:
        return int(self.bin_starts[-1])

    def permitted(self, candidates: Ints, features: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
        """Column sampling by node, of some candidates: shape (nodes, candidates).

        None when all nodes may use all columns that these candidates are of.

        Parameters
        ----------
        features
            Shape (nodes, features): the columns that each node may use.
        """
        numbers = np.searchsorted(self.candidate_starts, candidates, side="right") - 1
        mask: npt.NDArray[np.bool_] = features[:, numbers]
        return None if mask.all() else mask

    def of_candidates(self, of_features: Ints) -> Ints:
        """What holds of each candidate's feature, shape (candidates,)."""
        return np.repeat(of_features, np.diff(self.candidate_starts))

    def describe(self, candidate: int) -> tuple[int, int, bool]:
        """Feature, number of the cut, category or place, and default direction (left) of a candidate."""
        feature = int(np.searchsorted(self.candidate_starts, candidate, side="right")) - 1
        place = candidate - int(self.candidate_starts[feature])
        count = self.plans[feature].n_candidates
        first, place = place < count, place % count
        if feature in self.partitioned:
            return feature, place if first else count - 1 - place, first
        if self.features[feature].categorical:
            return feature, place, first
        return (feature, place, False) if first else (feature, count - 1 - place, True)

    @property
    def code_bits(self) -> int:
        """Bits of the code of a split: 64, or 128 where a set of categories needs them."""
        widest = max((self.plans[feature].n_bins for feature in self.partitioned), default=0)
        return WORD_BITS * words_for(FIRST_CATEGORY_BIT + widest)

    @cached_property
    def codes(self) -> Words:
        """What a model says of a split on each candidate, but for a numeric cut: uint64 (candidates, words).

        Bit 0 is 1, bit 1 the default direction (left), bits 2 to 32 the feature, bits 33 to 63 the category, or in
        partitioned columns room for a bit of each category that goes right, also in a second
        word. The number of the candidate itself would tell more: where a cut lies among its owner's bins.
        """
        codes = np.zeros((self.n_candidates, words_for(self.code_bits)), dtype=WORD)
        for feature, plan in enumerate(self.plans):
            start, stop = int(self.candidate_starts[feature]), int(self.candidate_starts[feature + 1])
            second = np.arange(stop - start) >= plan.n_candidates
            categorical = self.features[feature].categorical
            default_left = ~second if categorical else second
            category = np.arange(stop - start) % plan.n_candidates * (categorical and feature not in self.partitioned)
            codes[start:stop, 0] = (
                1 | default_left.astype(np.int64) << 1 | feature << 2 | category << FIRST_CATEGORY_BIT
            )
        return codes

    def number(self, feature: int, place: int, default_left: bool) -> int:
        """The inverse of `describe`."""
        start, count = int(self.candidate_starts[feature]), self.plans[feature].n_candidates
        if feature in self.partitioned:
            return start + (place if default_left else 2 * count - 1 - place)
        if self.features[feature].categorical:
            return start + (place if default_left else count + place)
        return start + (2 * count - 1 - place if default_left else place)


def starts_of(features: Sequence[Feature], plans: Sequence[BinPlan]) -> tuple[Ints, Ints]:
    """First bins and first candidates of features with these plans, shape (features + 1,) each."""
    pairs = list(zip(plans, features, strict=True))
    bins = [plan.n_bins + feature.missing for plan, feature in pairs]
    candidates = [plan.n_candidates * (1 + feature.missing) for plan, feature in pairs]
    return starts(bins), starts(candidates)


def starts(sizes: Sequence[int]) -> Ints:
    """Where each of some consecutive ranges begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]).astype(np.int64)

"""The public space of candidate splits, and what each owner keeps private of it.

Every participant numbers bins and candidates alike, from public facts. Bins of all features stand one after the other
in job order, each feature's bins followed by one for its missing rows if it has any. Candidates of a numeric feature:
missing rows right, ascending, then (with missing) missing rows left, descending. Of a categorical feature: each
category against the rest with missing rows among the rest, then (with missing) with the missing rows beside the
category. A candidate's left side is a contiguous range of bins, or all but one of them.

Of a partitioned column (`trees.category_sets`) candidate k sends the first k + 1 categories right, in an order that
depends on the node and stays secret (`partitions.py`): missing rows left, ascending, then missing rows right,
descending.

Where the rows of a numeric column lie with several owners, its bins are its candidates: bin k holds the sums of all
that is left of cut k, which `pooling.py` computes from the owners' fine bins. Those stand in a numbering of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import WORD, WORD_BITS, Words, words_for
from veilboost.tables.binning import BinnedColumn, BinPlan, Layout, plan_bins
from veilboost.tables.pieces import BinnedPiece, PiecePlan, plan_pieces
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import is_partitioned

Ints = npt.NDArray[np.int64]

#: Where the category, or the bits of a set of categories, begin in the code of a split.
FIRST_CATEGORY_BIT = 33

#: What an owner has of a column after binning.
Binned = BinnedColumn | BinnedPiece


@dataclass(frozen=True)
class Piece:
    """One owner's rows of one feature; public.

    Attributes
    ----------
    feature, owner
        Positions.
    rows
        Range of the rows of the table.
    plan
        Shape of the bins that the owner sorts these rows into.
    proposal
        What this owner adds to the candidates of a column that lies with several; None for all other columns.
    """

    feature: int
    owner: int
    rows: slice
    plan: BinPlan
    proposal: PiecePlan | None = None


@dataclass(frozen=True)
class CandidateSpace:
    """Public numbering of bins and candidates.

    Attributes
    ----------
    features, plans
        In job order; a plan's bins and candidates are those of the split search.
    pieces
        Of every feature the parts that its owners hold, in order of the rows.
    bin_starts
        Shape (features + 1,): first bin of each feature in the common numbering.
    candidate_starts
        Shape (features + 1,): first candidate of each feature.
    piece_starts
        Shape (pieces + 1,): first of the bins of each piece, a numbering that is the common one when every feature has
        a single owner.
    block_rows
        Rows of each block of rows, in order.
    """

    features: tuple[Feature, ...]
    plans: tuple[BinPlan, ...]
    pieces: tuple[Piece, ...]
    bin_starts: Ints
    candidate_starts: Ints
    piece_starts: Ints
    block_rows: tuple[int, ...]

    @classmethod
    def of(
        cls,
        features: Sequence[Feature],
        owners: Sequence[int | Sequence[int]],
        rows: int | Sequence[int],
        max_bin: int,
        max_cat_to_onehot: int,
    ) -> CandidateSpace:
        """The space of these features.

        Parameters
        ----------
        owners
            Of each feature the position of its owner, or of its owners block by block.
        rows
            Rows of the table, or of each of its blocks.
        """
        block_rows = (rows,) if isinstance(rows, int) else tuple(rows)
        plans, pieces = [], []
        for number, (feature, holders) in enumerate(zip(features, owners, strict=True)):
            own = _pieces_of(number, feature, (holders,) if isinstance(holders, int) else holders, block_rows, max_bin)
            plan = _search_plan(feature, own)
            if is_partitioned(feature, max_cat_to_onehot):
                plan = replace(plan, n_candidates=plan.n_bins - 1)
            plans.append(plan)
            pieces += own
        bins = [plan.n_bins + feature.missing for plan, feature in zip(plans, features, strict=True)]
        directions = [plan.n_candidates * (1 + feature.missing) for plan, feature in zip(plans, features, strict=True)]
        piece_bins = [piece.plan.n_bins + features[piece.feature].missing for piece in pieces]
        return cls(
            tuple(features),
            tuple(plans),
            tuple(pieces),
            _starts(bins),
            _starts(directions),
            _starts(piece_bins),
            block_rows,
        )

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(self.block_rows)

    @property
    def n_piece_bins(self) -> int:
        return int(self.piece_starts[-1])

    @cached_property
    def holders(self) -> tuple[int, ...]:
        """Owners that hold cells, in order."""
        return tuple(sorted({piece.owner for piece in self.pieces}))

    @property
    def pooled(self) -> tuple[int, ...]:
        """Features whose candidates come from several owners."""
        return tuple(feature for feature, plan in enumerate(self.plans) if plan.layout is Layout.POOLED)

    @cached_property
    def partitioned(self) -> frozenset[int]:
        """Categorical features that are split into sets of categories."""
        numbered = enumerate(zip(self.features, self.plans, strict=True))
        return frozenset(
            f for f, (feature, plan) in numbered if feature.categorical and plan.n_candidates < plan.n_bins
        )

    def pieces_of(self, feature: int) -> list[int]:
        """Numbers of a feature's pieces, in order of the rows."""
        return [number for number, piece in enumerate(self.pieces) if piece.feature == feature]

    def rows_of(self, owner: int) -> slice:
        """The rows whose cells an owner holds; none if it holds no feature."""
        for piece in self.pieces:
            if piece.owner == owner:
                return piece.rows
        return slice(0, 0)

    def places_of(self, piece: int) -> Ints:
        """Candidates, counted within the feature, that the owner of a piece of a pooled feature proposes."""
        feature = self.pieces[piece].feature
        counts = [self.pieces[other].proposal.cuts for other in self.pieces_of(feature) if other < piece]  # type: ignore[union-attr]
        own = self.pieces[piece].proposal
        assert own is not None
        return sum(counts) + np.arange(own.cuts)

    @property
    def n_candidates(self) -> int:
        return int(self.candidate_starts[-1])

    @property
    def n_bins(self) -> int:
        return int(self.bin_starts[-1])

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


def _pieces_of(
    number: int, feature: Feature, holders: Sequence[int], block_rows: Sequence[int], max_bin: int
) -> list[Piece]:
    """The parts of a feature: one for all rows, or one per block."""
    if len(holders) == 1:
        rows = sum(block_rows)
        return [Piece(number, holders[0], slice(0, rows), plan_bins(feature, rows, max_bin))]
    starts = _starts(block_rows)
    blocks = [slice(int(first), int(last)) for first, last in pairwise(starts)]
    if feature.categorical or feature.kind is Kind.FLAG:
        plans = [plan_bins(feature, rows, max_bin) for rows in block_rows]
        return [Piece(number, *part) for part in zip(holders, blocks, plans, strict=True)]
    proposals = plan_pieces(feature, block_rows, max_bin)
    return [
        Piece(number, holder, rows, proposal.fine, proposal)
        for holder, rows, proposal in zip(holders, blocks, proposals, strict=True)
    ]


def _search_plan(feature: Feature, pieces: Sequence[Piece]) -> BinPlan:
    """Bins and candidates of a feature in the split search."""
    cuts = [piece.proposal.cuts for piece in pieces if piece.proposal is not None]
    if not cuts:
        return pieces[0].plan
    # With missing rows, one candidate more: all present rows left.
    count = sum(cuts) + feature.missing
    return BinPlan(Layout.POOLED, count, 0, 0, count)


def _starts(sizes: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]).astype(np.int64)

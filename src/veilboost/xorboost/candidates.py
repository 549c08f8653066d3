"""The public space of candidate splits, and what each owner keeps private of it.

The common numbering is that of `splitting.space`.

Where the rows of a numeric column lie with several owners, its bins are its candidates: bin k holds the sums of all
that is left of cut k, which `pooling.py` computes from the owners' fine bins. Those stand in a numbering of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from veilboost.splitting.space import Ints, SplitSpace, starts, starts_of
from veilboost.tables.binning import BinnedColumn, BinPlan, Layout, plan_bins
from veilboost.tables.pieces import BinnedPiece, PiecePlan, plan_pieces
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import is_partitioned

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
class CandidateSpace(SplitSpace):
    """Public numbering of bins and candidates.

    Attributes
    ----------
    pieces
        Of every feature the parts that its owners hold, in order of the rows.
    piece_starts
        Shape (pieces + 1,): first of the bins of each piece, a numbering that is the common one when every feature has
        a single owner.
    block_rows
        Rows of each block of rows, in order.
    """

    pieces: tuple[Piece, ...]
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
        piece_bins = [piece.plan.n_bins + features[piece.feature].missing for piece in pieces]
        return cls(
            tuple(features), tuple(plans), *starts_of(features, plans), tuple(pieces), starts(piece_bins), block_rows
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


def _pieces_of(
    number: int, feature: Feature, holders: Sequence[int], block_rows: Sequence[int], max_bin: int
) -> list[Piece]:
    """The parts of a feature: one for all rows, or one per block."""
    if len(holders) == 1:
        rows = sum(block_rows)
        return [Piece(number, holders[0], slice(0, rows), plan_bins(feature, rows, max_bin))]
    blocks = [slice(int(first), int(last)) for first, last in pairwise(starts(block_rows))]
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

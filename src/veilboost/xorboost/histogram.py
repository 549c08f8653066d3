"""Histograms of shared gradients over all owners' columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilboost.mpc.ring import WORD
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.xorboost.candidates import Binned, CandidateSpace
from veilboost.xorboost.cells import OwnerCells
from veilboost.xorboost.pooling import PooledColumns


class TableCells:
    """All owners' cells, and what brings together the columns that lie with several of them.

    Parameters
    ----------
    columns
        This participant's binned columns by feature; None for those of others.
    """

    def __init__(self, session: Session, space: CandidateSpace, columns: Sequence[Binned | None]) -> None:
        self.space = space
        self.owners = [OwnerCells(session, space, owner, columns) for owner in space.holders]
        self.pooled = PooledColumns(session, space, columns) if space.pooled else None
        self._wanted = [space.rows_of(owner) for owner in range(len(session.owners))]

    def __repr__(self) -> str:
        return f"TableCells(owners={len(self.owners)}, redacted)"

    def sum_per_bin(self, session: Session, vectors: Shared, active: frozenset[int]) -> Shared:
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
        1. Every owner sends each other owner its share of the vectors, of the rows of which that one has cells, under a
           mask of its own: one message for all columns.
        2. `OwnerCells.histogram` for each owner of columns.
        3. Bins of the same categories add up over blocks of rows; pooled columns go through `PooledColumns.sums`.
        """
        exchanged = session.exchange_masked(vectors, self._wanted)
        total: Shared | None = None
        for own in self.owners:
            part = own.histogram(exchanged.of(own.owner), active)
            total = part if total is None else total + part
        assert total is not None
        return self._in_common_bins(total, active)

    def _in_common_bins(self, by_piece: Shared, active: frozenset[int]) -> Shared:
        """Sums per bin of every piece, shape (piece bins, vectors), as sums per bin of the common numbering."""
        space = self.space
        if len(space.pieces) == len(space.features):
            return by_piece
        shape = (space.n_bins, by_piece.shape[1])
        words = None if by_piece.hollow else np.zeros(shape, dtype=WORD)
        for number, piece in enumerate(space.pieces):
            own = np.arange(space.piece_starts[number], space.piece_starts[number + 1])
            common = np.arange(space.bin_starts[piece.feature], space.bin_starts[piece.feature + 1])
            if piece.proposal is not None:  # of a pooled column, only the missing rows add up
                missing = int(space.features[piece.feature].missing)
                own, common = own[len(own) - missing :], common[len(common) - missing :]
            if words is not None:
                words[common] += by_piece.words[own]
        if self.pooled is not None and active & set(space.pooled):
            places, sums = self.pooled.sums(by_piece, active)
            if words is not None:
                words[places] = sums.words
        return Shared(by_piece.holder, words, shape)

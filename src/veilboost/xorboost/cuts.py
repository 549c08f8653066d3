"""What owners share of their columns' candidates at the beginning: which are valid, and the cuts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import Words, pack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import SharedBits, bits_shape
from veilboost.tables.binning import ABOVE_ALL, BinnedColumn, Layout
from veilboost.tables.schema import Feature
from veilboost.xorboost.candidates import Binned, CandidateSpace


def share_validity(session: Session, space: CandidateSpace, columns: Sequence[Binned | None]) -> SharedBits | None:
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
    continuous = [piece for piece in space.pieces if space.plans[piece.feature].layout is Layout.DIRECT]
    if not continuous:
        return None
    shape = bits_shape(space.n_candidates)
    public = np.ones(space.n_candidates, dtype=np.bool_)
    for piece in continuous:
        public[space.candidate_starts[piece.feature] : space.candidate_starts[piece.feature + 1]] = False
    total: SharedBits | None = None
    for owner in sorted({piece.owner for piece in continuous}):
        words: Words | None = None
        if owner == session.holder:
            private = np.zeros(space.n_candidates, dtype=np.bool_)
            for piece in continuous:
                column = columns[piece.feature]
                if piece.owner == owner and isinstance(column, BinnedColumn):
                    private[_both_ways(space, piece.feature)] = _there_and_back(column.valid, column.feature)
            words = pack_bits(private)
        part = session.share_bits(owner, words, shape, space.n_candidates)
        total = part if total is None else total ^ part
    assert total is not None
    return total ^ pack_bits(public)


def share_cuts(session: Session, space: CandidateSpace, columns: Sequence[Binned | None]) -> SharedBits:
    """Share the float32 cut of every numeric candidate, as 32 planes of `n_candidates` bits; zero for categories."""
    shape = bits_shape(space.n_candidates, 32)
    total: SharedBits | None = None
    for owner in space.holders:
        words: Words | None = None
        if owner == session.holder:
            cuts = np.zeros(space.n_candidates, dtype=np.float32)
            for number, piece in enumerate(space.pieces):
                column = columns[piece.feature]
                if piece.owner == owner and column is not None and not column.feature.categorical:
                    cuts[_both_ways(space, piece.feature)] = _cuts_of(space, number, column)
            patterns = cuts.view(np.uint32)
            words = pack_bits((patterns[None, :] >> np.arange(32, dtype=np.uint32)[:, None] & 1).astype(np.bool_))
        part = session.share_bits(owner, words, shape, space.n_candidates)
        total = part if total is None else total ^ part
    assert total is not None
    return total


def _cuts_of(space: CandidateSpace, number: int, column: Binned) -> npt.NDArray[np.float32]:
    """What the owner of a piece puts in for the cuts of a feature's candidates, both ways; zero where others do."""
    piece = space.pieces[number]
    if isinstance(column, BinnedColumn):  # flags have the same cut everywhere
        first = number == space.pieces_of(piece.feature)[0]
        return _there_and_back(column.cuts if first else np.zeros_like(column.cuts), column.feature)
    cuts = np.zeros(space.plans[piece.feature].n_candidates, dtype=np.float32)
    cuts[space.places_of(number)] = column.cuts
    if column.feature.missing and column.plan.number == 0:
        cuts[-1] = ABOVE_ALL
    return _there_and_back(cuts, column.feature)


def _both_ways(space: CandidateSpace, feature: int) -> slice:
    return slice(int(space.candidate_starts[feature]), int(space.candidate_starts[feature + 1]))


def _there_and_back(values: npt.NDArray[Any], feature: Feature) -> npt.NDArray[Any]:
    """What holds for a numeric feature's candidates with missing rows right, then with missing rows left."""
    return np.concatenate([values, values[::-1]]) if feature.missing else values

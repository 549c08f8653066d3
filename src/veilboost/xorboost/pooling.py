"""Columns whose rows lie with several owners: one owner's cuts on all owners' rows.

docs/protocols/pooling.md. Every owner's cuts are candidates for everybody, and nobody learns another's cut or even how
it lies among its own values. A shared bit matrix says, once per job, which fine bins of which owner are left of which
cut. Sums per candidate and routing both go through that matrix, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc import kernels
from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.select import to_ring as bits_to_ring
from veilboost.mpc.protocols.shared_incidence import SharedIncidence
from veilboost.mpc.ring import WORD, Words, pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate
from veilboost.splitting.space import Ints
from veilboost.tables.binning import ABOVE_ALL
from veilboost.tables.pieces import BinnedPiece
from veilboost.xorboost.candidates import Binned, CandidateSpace

#: Comparisons at a time, to bound memory.
_BATCH = 1 << 18


@dataclass(frozen=True)
class _Matrix:
    """Where one piece's matrix stands: rows are its fine bins, columns the candidates of its feature."""

    piece: int
    feature: int
    bins: int
    candidates: int
    first_entry: int
    first_bin: int  # among the fine bins of all pooled pieces


class PooledColumns:
    """The shared bit matrices of all pooled columns.

    Parameters
    ----------
    columns
        This participant's binned columns by feature; None for those of others.

    Notes
    -----
    Setup, once per job:

    1. Every owner shares, as integers in the order of float32, its cuts and the middle values of its fine bins; and its
       own matrix entries for its own cuts, which it knows.
    2. Comparisons of every owner's middles with all others' cuts give the other entries: a bin is left of a cut if its
       middle is below it.
    3. `SharedIncidence` opens the matrices under masks.
    """

    def __init__(self, session: Session, space: CandidateSpace, columns: Sequence[Binned | None]) -> None:
        self.session = session
        self.space = space
        self._matrices = _matrices(space)
        self._of_feature = {f: [i for i, m in enumerate(self._matrices) if m.feature == f] for f in space.pooled}
        entries = _entries(session, space, self._matrices, columns)
        self._incidence = SharedIncidence(session, [(m.bins, m.candidates) for m in self._matrices], entries)

    def __repr__(self) -> str:
        return f"PooledColumns(features={len(self.space.pooled)}, redacted)"

    def sums(self, by_piece: Shared, active: frozenset[int]) -> tuple[Ints, Shared]:
        """Left sums of the candidates of the active pooled features.

        Parameters
        ----------
        by_piece
            Sums per bin of all pieces, shape (piece bins, vectors).

        Returns
        -------
        places
            Their bins in the common numbering: one per candidate.
        sums
            Shape (places, vectors).
        """
        space, used = self.space, self._active(active)
        fine = np.concatenate([self._fine_bins(self._matrices[i]) for i in used])
        products = self._incidence.sums(by_piece[fine], used)
        places, totals, start = [], [], 0
        for feature in sorted({self._matrices[i].feature for i in used}):
            count = space.plans[feature].n_candidates
            total: Shared | None = None
            for _ in self._of_feature[feature]:
                part = products[start : start + count]
                total = part if total is None else total + part
                start += count
            assert total is not None
            totals.append(total)
            places.append(space.bin_starts[feature] + np.arange(count))
        return np.concatenate(places), concatenate(totals)

    def tables(self, winners: SharedBits, active: frozenset[int]) -> tuple[Ints, Words | None]:
        """Routing tables of the fine bins of the active pooled features, present rows only.

        Parameters
        ----------
        winners
            One-hot planes (nodes, candidates), at most 64 nodes.

        Returns
        -------
        places
            Their bins in the numbering of pieces.
        tables
            This owner's XOR share: uint64, shape (places,), one bit per node; None at the dealer.
        """
        space, used = self.space, self._active(active)
        columns = None
        if not winners.hollow:
            bits = unpack_bits(winners.words, winners.count).view(np.bool_)
            won = kernels.gather_words(pack_bits(bits), winners.count)  # one word per candidate, one bit per node
            columns = np.concatenate([self._of_both_ways(won, self._matrices[i].feature) for i in used])
        found = self._incidence.lookup(columns, used)
        return np.concatenate([space.piece_starts[m.piece] + np.arange(m.bins) for m in self._chosen(used)]), found

    def _of_both_ways(self, words: Words, feature: int) -> Words:
        """A candidate's words with missing rows right and left, XORed."""
        start, count = int(self.space.candidate_starts[feature]), self.space.plans[feature].n_candidates
        both = words[start : start + count]
        if self.space.features[feature].missing:
            both = both ^ words[start + count : start + 2 * count][::-1]
        return both

    def _active(self, active: frozenset[int]) -> list[int]:
        return [number for number, matrix in enumerate(self._matrices) if matrix.feature in active]

    def _chosen(self, used: Sequence[int]) -> list[_Matrix]:
        return [self._matrices[number] for number in used]

    def _fine_bins(self, matrix: _Matrix) -> Ints:
        return np.asarray(self.space.piece_starts[matrix.piece] + np.arange(matrix.bins))


def _matrices(space: CandidateSpace) -> list[_Matrix]:
    matrices, entry, first_bin = [], 0, 0
    for feature in space.pooled:
        candidates = space.plans[feature].n_candidates
        for piece in space.pieces_of(feature):
            bins = space.pieces[piece].plan.n_bins
            matrices.append(_Matrix(piece, feature, bins, candidates, entry, first_bin))
            entry += bins * candidates
            first_bin += bins
    return matrices


def _entries(
    session: Session, space: CandidateSpace, matrices: Sequence[_Matrix], columns: Sequence[Binned | None]
) -> Shared:
    """All matrices one after the other, entries 0 and 1."""
    by_owner = [[m for m in matrices if space.pieces[m.piece].owner == owner] for owner in range(len(session.owners))]
    own_at, middles_at, cuts_at = [], np.empty(_bins_of(matrices), np.int64), {}
    shared, position = [], 0
    for owner, own in enumerate(by_owner):
        if not own:
            continue
        words = None
        if owner == session.holder:
            words = np.concatenate([_inputs(columns[m.feature]) for m in own])
        size = 0
        for m in own:
            places = _own_places(space, m)
            middles_at[m.first_bin : m.first_bin + m.bins] = position + size + np.arange(m.bins)
            size += m.bins
            cuts_at[m.piece] = position + size + np.arange(_cuts_of(space, m))
            size += _cuts_of(space, m)
            entries = m.first_entry + np.arange(m.bins)[:, None] * m.candidates + places
            own_at.append((entries.reshape(-1), position + size + np.arange(entries.size)))
            size += entries.size
        shared.append(session.share(owner, words, (size,)))
        position += size
    inputs = concatenate(shared)
    middles, cuts, targets = _comparisons(space, matrices, middles_at, cuts_at)
    values = [inputs[source] for _, source in own_at]
    for first in range(0, len(targets), _BATCH):
        part = slice(first, first + _BATCH)
        gaps = inputs[middles[part]] - inputs[cuts[part]]
        below = bits_to_ring(session, negative_planes(session, gaps.reshape(1, gaps.size)))
        values.append(below.reshape(below.size))
    order = np.argsort(np.concatenate([entries for entries, _ in own_at] + [targets]), kind="stable")
    return concatenate(values)[order]


def _comparisons(
    space: CandidateSpace, matrices: Sequence[_Matrix], middles_at: Ints, cuts_at: dict[int, Ints]
) -> tuple[Ints, Ints, Ints]:
    """Of every entry that no single owner knows: where its middle and its cut are, and where it belongs."""
    middles, cuts, targets = [], [], []
    for m in matrices:
        bins = np.arange(m.bins)
        for other in space.pieces_of(m.feature):
            if other == m.piece:
                continue
            places = space.places_of(other)
            middles.append(np.repeat(middles_at[m.first_bin + bins], len(places)))
            cuts.append(np.tile(cuts_at[other], m.bins))
            targets.append((m.first_entry + bins[:, None] * m.candidates + places).reshape(-1))
    return np.concatenate(middles), np.concatenate(cuts), np.concatenate(targets)


def _own_places(space: CandidateSpace, matrix: _Matrix) -> Ints:
    """Candidates, counted within the feature, that a piece's owner compares alone: its own, and all present left."""
    places = space.places_of(matrix.piece)
    if space.features[matrix.feature].missing:
        places = np.append(places, matrix.candidates - 1)
    return places


def _cuts_of(space: CandidateSpace, matrix: _Matrix) -> int:
    return len(space.places_of(matrix.piece))


def _inputs(column: Binned | None) -> Words:
    """What an owner shares for one piece: middles and cuts as ordered integers, then its own entries."""
    assert isinstance(column, BinnedPiece)
    cuts = column.cuts
    if column.feature.missing:
        cuts = np.append(cuts, ABOVE_ALL)
    own = column.middles[:, None] < cuts
    return np.concatenate([_ordered(column.middles), _ordered(column.cuts), own.reshape(-1).astype(WORD)])


def _ordered(values: npt.NDArray[np.float32]) -> Words:
    """Finite float32 as integers below 2^32 in the same order."""
    bits = values.view(np.uint32)
    flipped = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return to_ring(flipped.astype(np.int64))


def _bins_of(matrices: Sequence[_Matrix]) -> int:
    return sum(matrix.bins for matrix in matrices)

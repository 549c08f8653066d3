"""One owner's cells of the table, ready to be summed per bin and looked up without anyone learning a row's bin.

A column's layout (tables/binning.py) decides how: DENSE columns and missing-value indicators in a masked 0/1 matrix,
DIRECT ones in permuted slots, GROUPED ones in permuted slots whose bins a second, small masked matrix regroups
privately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Exchanged, Session
from veilboost.mpc.shares import Shared
from veilboost.tables.binning import BinnedColumn, Layout
from veilboost.xorboost.candidates import Binned, CandidateSpace

Bins = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class _Part:
    """One piece's place in one incidence: position there, and the piece bins that its bins there stand for."""

    piece: int
    position: int
    bins: npt.NDArray[np.int64]


class OwnerCells:
    """The incidences of one owner's pieces of features.

    Parameters
    ----------
    space
        The public candidate space.
    owner
        Position of the owner among the participants.
    columns
        The owner's binned columns by feature, None for all others; only Nones elsewhere than at the owner.

    Attributes
    ----------
    rows
        Range of the rows that this owner has cells of.

    Notes
    -----
    Setup sends uniformly distributed messages only, once per job; see docs/protocols/incidence.md.
    """

    def __init__(self, session: Session, space: CandidateSpace, owner: int, columns: Sequence[Binned | None]) -> None:
        self.session = session
        self.space = space
        self.owner = owner
        self.rows = space.rows_of(owner)
        count = self.rows.stop - self.rows.start
        own = [number for number, piece in enumerate(space.pieces) if piece.owner == owner]
        private = _private(space, own, columns) if session.holder == owner else None
        plans = {p: space.pieces[p].plan for p in own}
        missing = {p: space.features[space.pieces[p].feature].missing for p in own}
        self._in_slots = [p for p in own if plans[p].layout is not Layout.DENSE]
        self._slot_place = {p: position for position, p in enumerate(self._in_slots)}
        self._grouped = [self._part(p, i) for i, p in enumerate(p for p in own if plans[p].layout is Layout.GROUPED)]
        dense = [p for p in own if plans[p].layout is Layout.DENSE]
        indicated = [p for p in own if plans[p].layout is Layout.DIRECT and missing[p]]
        self._dense = [self._part(p, i) for i, p in enumerate(dense)]
        # The indicator's first bin is the missing rows; the second, the present ones, is of no interest.
        self._indicators = [
            _Part(p, len(dense) + i, space.piece_starts[p + 1 : p + 2] - 1) for i, p in enumerate(indicated)
        ]
        slot_plans = [SlotPlan(plans[p].slot_bins, plans[p].capacity) for p in self._in_slots]
        sizes = np.cumsum([plan.bins for plan in slot_plans], dtype=np.int64)
        self._slot_starts = np.concatenate([[0], sizes]).astype(int)
        slots, groups = None, None
        if private is not None:
            placed = [place_in_slots(private[p]) for p in self._in_slots]
            slots = np.stack([rows for rows, _ in placed]) if placed else None
            groups = [g for p, (_, g) in zip(self._in_slots, placed, strict=True) if plans[p].layout is Layout.GROUPED]
        self._permuted: PermutedIncidence | None = None
        if self._in_slots:
            self._permuted = PermutedIncidence(session, owner, slot_plans, count, slots)
        self._regrouping: DenseIncidence | None = None
        if self._grouped:
            blocks = [
                Block(int(self._slot_starts[self._slot_place[part.piece]]), plans[part.piece].slot_bins, len(part.bins))
                for part in self._grouped
            ]
            joined = None if groups is None else np.concatenate(groups)
            self._regrouping = DenseIncidence(session, owner, blocks, joined)
        self._rows: DenseIncidence | None = None
        if dense or indicated:
            blocks = [Block(0, count, len(part.bins)) for part in self._dense]
            blocks += [Block(0, count, 2) for _ in indicated]
            row_bins = None
            if private is not None:
                row_bins = np.concatenate(
                    [private[p].bins for p in dense]
                    + [(private[p].bins < private[p].plan.n_bins).astype(np.uint16) for p in indicated]
                )
            self._rows = DenseIncidence(session, owner, blocks, row_bins)

    def histogram(self, vectors: Exchanged, active: frozenset[int]) -> Shared:
        """Sums per bin of shared vectors.

        Parameters
        ----------
        vectors
            Shape (rows of this owner, vectors).
        active
            Features to sum.

        Returns
        -------
        Shared
            Shape (bins of all pieces, vectors); zero at bins of features that are not active or not this owner's.
        """
        width = vectors.value.shape[1]
        total = None if self.session.dealing else np.zeros((self.space.n_piece_bins, width), dtype=WORD)
        slots = self._active(self._in_slots, active)
        if self._permuted is not None and slots:
            sums = self._permuted.histogram(vectors, [self._slot_place[p] for p in slots])
            by_slot_bin = self._spread(sums, slots, width)
            for p in slots:
                if total is not None and self.space.pieces[p].plan.layout is Layout.DIRECT:
                    start, count = self._slot_starts[self._slot_place[p]], self.space.pieces[p].plan.slot_bins
                    total[self.space.piece_starts[p] : self.space.piece_starts[p] + count] = by_slot_bin.words[
                        start : start + count
                    ]
            grouped = self._active_parts(self._grouped, active)
            if self._regrouping is not None and grouped:
                everything = slice(0, by_slot_bin.shape[0])
                nothing = slice(0, 0)
                wanted = [everything if o == self.owner else nothing for o in range(len(self.session.owners))]
                exchanged = self.session.exchange_masked(by_slot_bin, wanted).of(self.owner)
                _place(total, self._regrouping.histogram(exchanged, [p.position for p in grouped]), grouped, False)
        dense = self._active_parts(self._dense, active)
        indicators = self._active_parts(self._indicators, active)
        if self._rows is not None and dense + indicators:
            sums = self._rows.histogram(vectors, [p.position for p in dense + indicators])
            cut = sum(len(p.bins) for p in dense)
            _place(total, sums[:cut], dense, False)
            _place(total, sums[cut:], indicators, True)
        return Shared(self.session.holder, total, (self.space.n_piece_bins, width))

    def lookup(self, tables: Words | None, active: frozenset[int], octets: int) -> Words | None:
        """XOR over this owner's active features of the table entry at each row's bin, in XOR shares.

        Parameters
        ----------
        tables
            Share of the tables: uint64, shape (bins of all pieces,); None at the dealer.
        octets
            Bytes of an entry that count: 1, 2, 4 or 8.

        Returns
        -------
        uint64 array, shape (rows of this owner,)
            None at the dealer.
        """
        count = self.rows.stop - self.rows.start
        results: list[Words | None] = []
        slots = self._active(self._in_slots, active)
        if self._permuted is not None and slots:
            by_slot_bin = None if tables is None else np.zeros(int(self._slot_starts[-1]), dtype=WORD)
            grouped = self._active_parts(self._grouped, active)
            if self._regrouping is not None and grouped:
                wanted = None if tables is None else np.concatenate([tables[p.bins] for p in grouped])
                slot_bins = int(self._slot_starts[-1])
                by_slot_bin = self._regrouping.lookup(wanted, [p.position for p in grouped], slot_bins, octets)
            if by_slot_bin is not None and tables is not None:
                for p in slots:
                    if self.space.pieces[p].plan.layout is Layout.DIRECT:
                        start, bins = self._slot_starts[self._slot_place[p]], self.space.pieces[p].plan.slot_bins
                        first = self.space.piece_starts[p]
                        by_slot_bin[start : start + bins] = tables[first : first + bins]
                places = [self._slot_place[p] for p in slots]
                by_slot_bin = np.concatenate(
                    [by_slot_bin[self._slot_starts[i] : self._slot_starts[i + 1]] for i in places]
                )
            results.append(self._permuted.lookup(by_slot_bin, [self._slot_place[p] for p in slots], octets))
        dense = self._active_parts(self._dense, active)
        indicators = self._active_parts(self._indicators, active)
        if self._rows is not None and dense + indicators:
            wanted = None
            if tables is not None:
                nothing = np.zeros(1, dtype=WORD)
                parts = [tables[p.bins] for p in dense]
                for indicator in indicators:
                    parts += [tables[indicator.bins], nothing]
                wanted = np.concatenate(parts)
            positions = [p.position for p in dense + indicators]
            results.append(self._rows.lookup(wanted, positions, count, octets))
        if self.session.dealing:
            return None
        total = np.zeros(count, dtype=WORD)
        for result in results:
            if result is not None:
                total ^= result
        return total

    def _part(self, piece: int, position: int) -> _Part:
        return _Part(piece, position, np.arange(self.space.piece_starts[piece], self.space.piece_starts[piece + 1]))

    def _active(self, pieces: Sequence[int], active: frozenset[int]) -> list[int]:
        return [p for p in pieces if self.space.pieces[p].feature in active]

    def _active_parts(self, parts: Sequence[_Part], active: frozenset[int]) -> list[_Part]:
        return [part for part in parts if self.space.pieces[part.piece].feature in active]

    def _spread(self, sums: Shared, slots: Sequence[int], width: int) -> Shared:
        """Sums of the active pieces at their places among all slot bins."""
        shape = (int(self._slot_starts[-1]), width)
        if sums.hollow:
            return Shared(None, None, shape)
        full = np.zeros(shape, dtype=WORD)
        start = 0
        for p in slots:
            place = self._slot_place[p]
            count = self.space.pieces[p].plan.slot_bins
            full[self._slot_starts[place] : self._slot_starts[place] + count] = sums.words[start : start + count]
            start += count
        return Shared(self.session.holder, full)


def place_in_slots(column: BinnedColumn) -> tuple[Bins, Bins]:
    """Put the rows of a column into slot bins of limited capacity.

    Returns
    -------
    slot_bins
        uint16, shape (rows,): slot bin of each row, at most `capacity` rows in each.
    groups
        uint16, shape (slot_bins,): the bin (n_bins for missing rows) that each slot bin belongs to; for DIRECT columns
        present values are in their own bin and missing rows in the bins above.
    """
    plan, bins = column.plan, column.bins
    if plan.layout is Layout.DIRECT:
        slots = bins.copy()
        missing = np.flatnonzero(bins == plan.n_bins)
        first_free = int(bins[bins < plan.n_bins].max(initial=0)) + 1 if len(missing) < len(bins) else 0
        slots[missing] = first_free + np.arange(len(missing)) // plan.capacity
        return slots, np.arange(plan.slot_bins, dtype=np.uint16)
    n_groups = plan.n_bins + column.feature.missing
    sizes = np.bincount(bins, minlength=n_groups)
    whole_bins = -(-sizes // plan.capacity)
    first = np.concatenate([[0], np.cumsum(whole_bins)])
    order = np.argsort(bins, kind="stable")
    rank = np.empty(len(bins), dtype=np.int64)
    rank[order] = np.arange(len(bins)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    slots = (first[bins] + rank // plan.capacity).astype(np.uint16)
    groups = np.full(plan.slot_bins, n_groups - 1, dtype=np.uint16)
    groups[: first[-1]] = np.repeat(np.arange(n_groups, dtype=np.uint16), whole_bins)
    return slots, groups


def _private(space: CandidateSpace, own: Sequence[int], columns: Sequence[Binned | None]) -> dict[int, BinnedColumn]:
    """The owner's binned columns by piece; of a pooled column the fine bins."""
    private = {}
    for piece in own:
        column = columns[space.pieces[piece].feature]
        assert column is not None
        private[piece] = column if isinstance(column, BinnedColumn) else column.column
    return private


def _place(total: Words | None, sums: Shared, parts: Sequence[_Part], indicators: bool) -> None:
    """Copy sums of consecutive parts to their piece bins; of an indicator only the first of its two."""
    if total is None:
        return
    start = 0
    for part in parts:
        count = len(part.bins)
        total[part.bins] = sums.words[start : start + count]
        start += 2 if indicators else count

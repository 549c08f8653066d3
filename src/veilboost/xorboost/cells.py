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
from veilboost.xorboost.candidates import CandidateSpace

Bins = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class _Part:
    """One feature's place in one incidence: position there, and the common bins that its bins there stand for."""

    feature: int
    position: int
    common_bins: npt.NDArray[np.int64]


class OwnerCells:
    """The incidences of one owner's features.

    Parameters
    ----------
    space
        The public candidate space.
    owner
        Position of the owner among the participants.
    columns
        The owner's binned columns by feature, None for all others; only Nones elsewhere than at the owner.

    Notes
    -----
    Setup sends uniformly distributed messages only, once per job; see docs/protocols/incidence.md.
    """

    def __init__(
        self, session: Session, space: CandidateSpace, owner: int, columns: Sequence[BinnedColumn | None]
    ) -> None:
        self.session = session
        self.space = space
        self.owner = owner
        own = [f for f, holder in enumerate(space.owners) if holder == owner]
        mine = [columns[f] for f in own] if session.holder == owner else None
        private = None if mine is None else {f: c for f, c in zip(own, mine, strict=True) if c is not None}
        layouts = {f: space.plans[f].layout for f in own}
        self._in_slots = [f for f in own if layouts[f] is not Layout.DENSE]
        self._slot_place = {f: position for position, f in enumerate(self._in_slots)}
        self._grouped = [self._part(f, i) for i, f in enumerate(f for f in own if layouts[f] is Layout.GROUPED)]
        dense = [f for f in own if layouts[f] is Layout.DENSE]
        indicated = [f for f in own if layouts[f] is Layout.DIRECT and space.features[f].missing]
        self._dense = [self._part(f, i) for i, f in enumerate(dense)]
        # The indicator's first bin is the missing rows; the second, the present ones, is of no interest.
        self._indicators = [
            _Part(f, len(dense) + i, space.bin_starts[f + 1 : f + 2] - 1) for i, f in enumerate(indicated)
        ]
        plans = [SlotPlan(space.plans[f].slot_bins, space.plans[f].capacity) for f in self._in_slots]
        self._slot_starts = np.concatenate([[0], np.cumsum([plan.bins for plan in plans], dtype=np.int64)]).astype(int)
        slots, groups = None, None
        if private is not None:
            placed = [place_in_slots(private[f]) for f in self._in_slots]
            slots = np.stack([rows for rows, _ in placed]) if placed else None
            groups = [g for f, (_, g) in zip(self._in_slots, placed, strict=True) if layouts[f] is Layout.GROUPED]
        self._permuted: PermutedIncidence | None = None
        if self._in_slots:
            self._permuted = PermutedIncidence(session, owner, plans, space.rows, slots)
        self._regrouping: DenseIncidence | None = None
        if self._grouped:
            blocks = [
                Block(
                    int(self._slot_starts[self._slot_place[p.feature]]),
                    space.plans[p.feature].slot_bins,
                    len(p.common_bins),
                )
                for p in self._grouped
            ]
            joined = None if groups is None else np.concatenate(groups)
            self._regrouping = DenseIncidence(session, owner, blocks, joined)
        self._rows: DenseIncidence | None = None
        if dense or indicated:
            blocks = [Block(0, space.rows, len(part.common_bins)) for part in self._dense]
            blocks += [Block(0, space.rows, 2) for _ in indicated]
            row_bins = None
            if private is not None:
                row_bins = np.concatenate(
                    [private[f].bins for f in dense]
                    + [(private[f].bins < private[f].plan.n_bins).astype(np.uint16) for f in indicated]
                )
            self._rows = DenseIncidence(session, owner, blocks, row_bins)

    def histogram(self, vectors: Exchanged, active: frozenset[int]) -> Shared:
        """Sums per bin of shared vectors of shape (rows, vectors).

        Returns
        -------
        Shared
            Shape (all bins of the common numbering, vectors); zero at bins of features that are not active or not this
            owner's.
        """
        width = vectors.value.shape[1]
        total = None if self.session.dealing else np.zeros((self.space.n_bins, width), dtype=WORD)
        slots = [f for f in self._in_slots if f in active]
        if self._permuted is not None and slots:
            sums = self._permuted.histogram(vectors, [self._slot_place[f] for f in slots])
            by_slot_bin = self._spread(sums, slots, width)
            for f in slots:
                if total is not None and self.space.plans[f].layout is Layout.DIRECT:
                    start, count = self._slot_starts[self._slot_place[f]], self.space.plans[f].slot_bins
                    total[self.space.bin_starts[f] : self.space.bin_starts[f] + count] = by_slot_bin.words[
                        start : start + count
                    ]
            grouped = [part for part in self._grouped if part.feature in active]
            if self._regrouping is not None and grouped:
                exchanged = self.session.exchange_masked(by_slot_bin)
                _place(total, self._regrouping.histogram(exchanged, [p.position for p in grouped]), grouped, False)
        dense = [part for part in self._dense if part.feature in active]
        indicators = [part for part in self._indicators if part.feature in active]
        if self._rows is not None and dense + indicators:
            sums = self._rows.histogram(vectors, [p.position for p in dense + indicators])
            cut = sum(len(p.common_bins) for p in dense)
            _place(total, sums[:cut], dense, False)
            _place(total, sums[cut:], indicators, True)
        return Shared(self.session.holder, total, (self.space.n_bins, width))

    def lookup(self, tables: Words | None, active: frozenset[int], octets: int) -> Words | None:
        """XOR over this owner's active features of the table entry at each row's bin, in XOR shares.

        Parameters
        ----------
        tables
            Share of the tables: uint64, shape (all bins of the common numbering,); None at the dealer.
        octets
            Bytes of an entry that count: 1, 2, 4 or 8.

        Returns
        -------
        uint64 array, shape (rows,)
            None at the dealer.
        """
        results: list[Words | None] = []
        slots = [f for f in self._in_slots if f in active]
        if self._permuted is not None and slots:
            by_slot_bin = None if tables is None else np.zeros(int(self._slot_starts[-1]), dtype=WORD)
            grouped = [part for part in self._grouped if part.feature in active]
            if self._regrouping is not None and grouped:
                wanted = None if tables is None else np.concatenate([tables[p.common_bins] for p in grouped])
                count = int(self._slot_starts[-1])
                by_slot_bin = self._regrouping.lookup(wanted, [p.position for p in grouped], count, octets)
            if by_slot_bin is not None and tables is not None:
                for f in slots:
                    if self.space.plans[f].layout is Layout.DIRECT:
                        start, bins = self._slot_starts[self._slot_place[f]], self.space.plans[f].slot_bins
                        first = self.space.bin_starts[f]
                        by_slot_bin[start : start + bins] = tables[first : first + bins]
                places = [self._slot_place[f] for f in slots]
                by_slot_bin = np.concatenate(
                    [by_slot_bin[self._slot_starts[i] : self._slot_starts[i + 1]] for i in places]
                )
            results.append(self._permuted.lookup(by_slot_bin, [self._slot_place[f] for f in slots], octets))
        dense = [part for part in self._dense if part.feature in active]
        indicators = [part for part in self._indicators if part.feature in active]
        if self._rows is not None and dense + indicators:
            wanted = None
            if tables is not None:
                nothing = np.zeros(1, dtype=WORD)
                parts = [tables[p.common_bins] for p in dense]
                for indicator in indicators:
                    parts += [tables[indicator.common_bins], nothing]
                wanted = np.concatenate(parts)
            positions = [p.position for p in dense + indicators]
            results.append(self._rows.lookup(wanted, positions, self.space.rows, octets))
        if self.session.dealing:
            return None
        total = np.zeros(self.space.rows, dtype=WORD)
        for result in results:
            if result is not None:
                total ^= result
        return total

    def _part(self, feature: int, position: int) -> _Part:
        return _Part(feature, position, np.arange(self.space.bin_starts[feature], self.space.bin_starts[feature + 1]))

    def _spread(self, sums: Shared, slots: Sequence[int], width: int) -> Shared:
        """Sums of the active features at their places among all slot bins."""
        shape = (int(self._slot_starts[-1]), width)
        if sums.hollow:
            return Shared(None, None, shape)
        full = np.zeros(shape, dtype=WORD)
        start = 0
        for f in slots:
            place = self._slot_place[f]
            count = self.space.plans[f].slot_bins
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


def _place(total: Words | None, sums: Shared, parts: Sequence[_Part], indicators: bool) -> None:
    """Copy sums of consecutive parts to their common bins; of an indicator only the first of its two."""
    if total is None:
        return
    start = 0
    for part in parts:
        count = len(part.common_bins)
        total[part.common_bins] = sums.words[start : start + count]
        start += 2 if indicators else count

"""Incidence in the permuted layout: histograms and lookups over columns of many bins.

docs/protocols/incidence.md. One owner, the *member*, knows for every row and feature the row's bin. Two linear maps of
that private 0/1 matrix M are wanted on shared vectors: M^T x (sum per bin) and M t (read a table at each row's bin).
This is share translation (M. Chase, E. Ghosh, O. Poburinnaya, "Secret-shared shuffle", ASIACRYPT 2020) with a dealer:
slots are permuted by a permutation that the member and the dealer know, and the others learn only which bin a
permuted slot belongs to, which is uniformly random because every bin has a public number of slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from veilboost.mpc import kernels
from veilboost.mpc.prg import Stream
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Exchanged, Session
from veilboost.mpc.shares import Shared

Slot = TypeVar("Slot", np.uint16, np.uint32)

#: Words of one chunk of slots that travel in one frame.
CHUNK_WORDS = 1 << 20


@dataclass(frozen=True)
class SlotPlan:
    """The public shape of one feature: `bins` bins of `capacity` slots each."""

    bins: int
    capacity: int

    @property
    def slots(self) -> int:
        return self.bins * self.capacity


class PermutedIncidence:
    """The private matrices of one member's features, ready for use.

    Parameters
    ----------
    member
        Position of the owner who knows the bins.
    plans
        One per feature; bins * capacity >= rows.
    rows
        Number of rows.
    bins
        uint16, shape (features, rows): bin of every row, at most `capacity` rows in each. None except at the member.

    Notes
    -----
    Setup, once:

    1. The member and the dealer expand a uniformly random permutation alpha of each feature's slots. Slot i < rows
       stands for row i; the others are dummies, which the member assigns to the bins that have room.
    2. The member sends the others tau: the bin of the slot that alpha puts at place s, for every s.
    """

    def __init__(
        self,
        session: Session,
        member: int,
        plans: Sequence[SlotPlan],
        rows: int,
        bins: npt.NDArray[np.uint16] | None,
    ) -> None:
        self.session = session
        self.member = member
        self.plans = tuple(plans)
        self.rows = rows
        self.slot_starts = _starts([plan.slots for plan in plans])
        self.bin_starts = _starts([plan.bins for plan in plans])
        self.total_bins = int(self.bin_starts[-1])
        self._others = [owner for owner in range(len(session.owners)) if owner != member]
        self._bins = bins
        # Of every feature and row its place among the feature's slots, at the member; the inverse, of every place its
        # row (`rows` for dummies), at the dealer.
        self._places: kernels.Slots | None = None
        self._row_at: kernels.Slots | None = None
        self._tau: npt.NDArray[np.uint16] = np.empty(0, dtype=np.uint16)
        self._setup()

    def __repr__(self) -> str:
        return f"PermutedIncidence(member={self.member}, features={len(self.plans)}, rows={self.rows}, redacted)"

    def _setup(self) -> None:
        session = self.session
        stream = session.streams(session.next_number()).get(self.member)
        total = int(self.slot_starts[-1])
        narrow = np.dtype(np.uint8 if all(plan.bins <= 256 for plan in self.plans) else np.uint16)
        if stream is not None and session.dealing:
            self._row_at = np.empty(total, dtype=np.uint32)
        if self._bins is not None:
            self._places = np.empty((len(self.plans), self.rows), dtype=np.uint32)
            self._tau = np.empty(total, dtype=np.uint16)
        for feature, plan in enumerate(self.plans):
            if stream is None:
                break
            places = kernels.shuffle(stream.words(plan.slots + kernels.SHUFFLE_SPARE), plan.slots)
            own = slice(self.slot_starts[feature], self.slot_starts[feature + 1])
            if self._row_at is not None:
                self._row_at[own][places] = np.minimum(np.arange(plan.slots), self.rows)
            if self._bins is not None and self._places is not None:
                self._places[feature] = places[: self.rows]
                self._tau[own][places] = _fill(self._bins[feature], plan)
        payload = None
        if self._bins is not None:
            payload = np.ascontiguousarray(self._tau.astype(narrow)).view(np.uint8)
        received = session.pass_masked(self.member, self._others, payload, total * narrow.itemsize)
        if received is not None:
            self._tau = received.view(narrow).astype(np.uint16)

    def histogram(self, vectors: Exchanged, features: Sequence[int]) -> Shared:
        """Sums per bin, [M^T x], of shared vectors x.

        Parameters
        ----------
        vectors
            Shape (rows, vectors), after `Session.exchange_masked`: the member has z = x minus the others' masks a_Q.
        features
            Public: positions of the features to sum.

        Returns
        -------
        Shared
            Shape (bins of these features, vectors).

        Notes
        -----
        For a chunk of features at a time:

        1. Every other owner Q expands b_Q, one row of uniform words per slot; its share is b_Q summed by tau.
        2. The dealer sends the member c = alpha(sum of the a_Q, zero at dummies) - sum of the b_Q.
        3. The member's share is z summed by its own bins plus c summed by tau.
        """
        session, width = self.session, vectors.value.shape[1]
        bin_starts = _starts([self.plans[feature].bins for feature in features])
        shape = (int(bin_starts[-1]), width)
        sums = None if session.dealing else np.zeros(shape, dtype=WORD)
        masks = None
        if vectors.masks is not None:
            # One more row, of zeros, stands for the dummies.
            masks = np.zeros((self.rows + 1, width), dtype=WORD)
            for owner in self._others:
                masks[:-1] += vectors.masks[owner]
        for first, last in self._chunks(features, width):
            chunk = np.asarray(features[first:last], dtype=np.int64)
            slot_starts = _starts([self.plans[feature].slots for feature in chunk])
            slots = (int(slot_starts[-1]), width)
            streams = session.streams(session.next_number())
            correction = partial(self._correction, masks, chunk, slots, streams)
            dealt = session.deal(self.member, correction, slots)
            if sums is None:
                continue
            words = streams[session.holder].words(*slots) if dealt is None else dealt  # type: ignore[index]
            kernels.add_slots(words, self._of_chunk(self._tau, chunk), slot_starts, bin_starts[first:last], sums)
            if self._bins is not None and vectors.total is not None:
                kernels.add_rows(vectors.total, self._bins[chunk], bin_starts[first:last], sums)
        return Shared(session.holder, sums, shape)

    def lookup(self, tables: Words | None, features: Sequence[int], octets: int) -> Words | None:
        """Read XOR-shared tables at every row's bin and XOR over the features: [M t].

        Parameters
        ----------
        tables
            This owner's share: uint64, shape (bins of these features,), of which the low 8 * octets bits count. None at
            the dealer.
        octets
            1, 2, 4 or 8: bytes of a table entry.

        Returns
        -------
        uint64 array, shape (rows,)
            This owner's share; None at the dealer.

        Notes
        -----
        1. Every other owner Q sends the member its table spread over the slots by tau, XOR a stream w_Q.
        2. The member undoes alpha: it reads that at its rows' slots, adds its own table at its own bins, XOR over
           features.
        3. The dealer sends the member e = the w_Q at the rows' slots, XOR over features, XOR the streams d_Q; Q's share
           is d_Q.
        """
        session = self.session
        table_type = np.dtype(f"<u{octets}")
        bin_starts = _starts([self.plans[feature].bins for feature in features])
        table = None if tables is None else tables.astype(table_type)
        rows = np.zeros(self.rows + 1, dtype=table_type)  # the last one collects dummies, at the dealer
        for first, last in self._chunks(features, 1):
            chunk = np.asarray(features[first:last], dtype=np.int64)
            slot_starts = _starts([self.plans[feature].slots for feature in chunk])
            count = int(slot_starts[-1])
            streams = session.streams(session.next_number())
            for owner in self._others:
                slots = None
                if owner in streams:
                    slots = streams[owner].octets(count * octets).view(table_type)
                payload = None
                if table is not None and slots is not None and owner == session.holder:
                    kernels.xor_slots(
                        table, self._of_chunk(self._tau, chunk), slot_starts, bin_starts[first:last], slots
                    )
                    payload = slots.view(np.uint8)
                received = session.pass_masked(owner, [self.member], payload, count * octets)
                if received is not None:
                    slots = received.view(table_type)
                if self._places is not None and slots is not None:
                    kernels.xor_permuted(slots, self._places[chunk], slot_starts, rows[:-1])
                if self._row_at is not None and slots is not None:
                    kernels.xor_scattered(slots, self._of_chunk(self._row_at, chunk), rows)
            if table is not None and self._bins is not None:
                kernels.xor_rows(table, self._bins[chunk], bin_starts[first:last], rows[:-1])
        return finish_lookup(session, self.member, rows[:-1].astype(WORD), octets)

    def _correction(
        self,
        masks: Words | None,
        chunk: npt.NDArray[np.int64],
        slots: tuple[int, int],
        streams: Mapping[int, Stream],
    ) -> Words:
        """The dealer's part of `histogram`: alpha(sum of the a_Q) - sum of the b_Q."""
        assert masks is not None and self._row_at is not None
        first, *others = self._others
        words = streams[first].words(*slots)
        for owner in others:
            words += streams[owner].words(*slots)
        kernels.subtract_from_gathered(masks, self._of_chunk(self._row_at, chunk), words)
        return words

    def _chunks(self, features: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
        """Ranges of `features` of at most about CHUNK_WORDS slots times vectors."""
        first, words = 0, 0
        for position, feature in enumerate(features):
            size = self.plans[feature].slots * width
            if words and words + size > CHUNK_WORDS:
                yield first, position
                first, words = position, 0
            words += size
        if first < len(features):
            yield first, len(features)

    def _of_chunk(self, slots: npt.NDArray[Slot], chunk: npt.NDArray[np.int64]) -> npt.NDArray[Slot]:
        """The slots of some features, one after another; without a copy where the features are neighbours."""
        if np.array_equal(chunk, np.arange(chunk[0], chunk[0] + len(chunk))):
            return slots[self.slot_starts[chunk[0]] : self.slot_starts[chunk[-1] + 1]]
        return np.concatenate([slots[self.slot_starts[feature] : self.slot_starts[feature + 1]] for feature in chunk])


def finish_lookup(session: Session, member: int, rows: Words, octets: int) -> Words | None:
    """Step 3 of a lookup: the dealer corrects the member's words, the others take streams as their shares."""
    streams = session.streams(session.next_number())
    table_type = np.dtype(f"<u{octets}")
    others = [owner for owner in range(len(session.owners)) if owner != member]

    def correction() -> Words:
        words = rows.astype(table_type)
        for owner in others:
            words ^= streams[owner].octets(words.nbytes).view(table_type)
        return pad_words(words)

    dealt = session.deal(member, correction, (-(-rows.size * octets // WORD.itemsize),))
    if session.dealing:
        return None
    if dealt is not None:
        return rows ^ dealt.view(table_type)[: rows.size].astype(WORD)
    own = streams[next(iter(streams))]
    return own.octets(rows.size * octets).view(table_type).astype(WORD)


def pad_words(values: kernels.Table) -> Words:
    """Narrow integers as whole words."""
    octets = np.ascontiguousarray(values).view(np.uint8)
    return np.pad(octets, (0, -octets.size % WORD.itemsize)).view(WORD)


def _fill(row_bins: npt.NDArray[np.uint16], plan: SlotPlan) -> npt.NDArray[np.uint16]:
    """Bins of all slots: the rows' own, then dummies that fill every bin to its capacity."""
    taken = np.bincount(row_bins, minlength=plan.bins)
    if taken.max(initial=0) > plan.capacity or len(taken) > plan.bins:
        raise ValueError("rows do not fit their bins: the column was not binned with this plan")
    dummies = np.repeat(np.arange(plan.bins, dtype=np.uint16), plan.capacity - taken)
    return np.concatenate([row_bins, dummies])


def _starts(sizes: Sequence[int]) -> kernels.Starts:
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]).astype(np.int64)

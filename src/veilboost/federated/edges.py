"""Cuts of numeric columns: quantiles of all clients' cells, found by comparing counts under secret sharing.

docs/protocols/federated.md. A float32 is mapped to a uint32 of the same order, and the search for a cut goes down the
bits of that number: 32 steps, in each of which the clients count their cells below a threshold, and all that comes out
is whether the sum lies below, within or above the range of ranks that the cut may have. A cut is the first threshold,
and so the one with the fewest bits, whose rank is within half a bin of the quantile, or within five where bins are
smaller. Where many equal cells straddle the quantile there is none such, and the cut lies just above their value, which
is known from then on: it is that of more than `LEAST_EQUAL` cells, and of more than a bin's. What comes out at each
step follows from the cut where the search ends, so that the cuts of all quantiles are all that is disclosed.

Frequent values, such as the zeros of a column of mostly zeros, would use up the quantiles that the other cells need. So
there is a second turn: as many quantiles as cuts are left, of the cells that have none of the frequent values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import ProtocolError
from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, stack
from veilboost.tables.binning import ABOVE_ALL

Keys = npt.NDArray[np.uint32]
Float32 = npt.NDArray[np.float32]

STEPS = 32

#: No value becomes known by a cut just above it unless more cells have it: nobody's own, and of no small group.
LEAST_EQUAL = 10

#: The entry in the ledger.
EDGES = "edges of every numeric column"
_SIGN = np.uint32(1 << 31)


def to_keys(values: Float32) -> Keys:
    """float32 as uint32 of the same order; -0.0 as 0.0. NaN has no place in it."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def from_keys(keys: Keys) -> Float32:
    """The inverse of `to_keys`: a cut with `x < cut` exactly for the cells whose keys are below.

    Keys above every finite number become the largest one, those below every one the smallest.
    """
    values = np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
    below_all = np.where(np.isnan(values) | (values < -ABOVE_ALL), -ABOVE_ALL, values)
    finite = np.where(keys >= to_keys(np.array([ABOVE_ALL]))[0], ABOVE_ALL, below_all)
    return np.asarray(finite + np.float32(0.0), dtype=np.float32)


@dataclass
class EdgeSearch:
    """The public state of the search; the same at clients and aggregators.

    Attributes
    ----------
    columns, cuts
        Columns, and quantiles of each: k / (cuts + 1) for k = 1 to cuts.
    step
        Steps of this turn that are done, up to `STEPS`.
    turn
        0, or 1 for the second one.
    low
        uint32, shape (columns, cuts): every threshold up to this one has too low a rank.
    found
        bool, shape (columns, cuts): `low` is the cut, or there is nothing to find.
    targets
        int64, shape (columns,): how many quantiles of each column are searched; the others count as found.
    heavy
        Of each column the frequent values whose cells do not count, as keys.
    known
        Of each column the cuts of the first turn, as keys; not at clients.
    """

    columns: int
    cuts: int
    step: int = 0
    turn: int = 0

    def __post_init__(self) -> None:
        self.low = np.zeros((self.columns, self.cuts), dtype=np.uint32)
        self.found = np.zeros((self.columns, self.cuts), dtype=np.bool_)
        self.targets = np.full(self.columns, self.cuts, dtype=np.int64)
        self.heavy = [np.zeros(0, dtype=np.uint32)] * self.columns
        self.known = self.heavy

    def again(self) -> EdgeSearch:
        """The second turn, after the first."""
        search = EdgeSearch(self.columns, self.cuts, turn=1)
        search.known = self._keys()
        search.heavy = [np.unique(low[~found]) for low, found in zip(self.low, self.found, strict=True)]
        search.targets = self.cuts - np.array([len(keys) for keys in search.known], dtype=np.int64)
        search.found = np.arange(self.cuts) >= search.targets[:, np.newaxis]
        return search

    @property
    def number(self) -> int:
        """How many steps of both turns come before the next."""
        return self.turn * STEPS + self.step

    @property
    def thresholds(self) -> Keys:
        """Where to count next, shape (columns, cuts); of cuts that are found, these."""
        return np.where(self.found, self.low, self.low | np.uint32(1 << (STEPS - 1 - self.step)))

    @property
    def finished(self) -> bool:
        return self.step == STEPS

    def advance(self, below: npt.NDArray[np.bool_], above: npt.NDArray[np.bool_]) -> None:
        """Take the outcome of a step, shape (columns, cuts): whether the ranks are too low, or too high."""
        thresholds, searching = self.thresholds, ~self.found
        within = searching & ~below & ~above
        self.low = np.where(searching & (below | within), thresholds, self.low)
        self.found |= within
        self.step += 1

    def to_json(self) -> dict[str, Any]:
        """For the question of the next step."""
        return {
            "step": self.step,
            "low": self.low.astype(">u4").tobytes().hex(),
            "found": np.packbits(self.found).tobytes().hex(),
            "turn": self.turn,
            "heavy": [keys.astype(">u4").tobytes().hex() for keys in self.heavy],
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], columns: int, cuts: int) -> EdgeSearch:
        """The inverse of `to_json`; ProtocolError where it does not fit."""
        search = cls(columns, cuts)
        try:
            step, size = fields["step"], columns * cuts
            low = np.frombuffer(bytes.fromhex(fields["low"]), dtype=">u4").astype(np.uint32)
            found = np.unpackbits(np.frombuffer(bytes.fromhex(fields["found"]), dtype=np.uint8))[:size]
            heavy = [np.frombuffer(bytes.fromhex(keys), dtype=">u4").astype(np.uint32) for keys in fields["heavy"]]
            turn = fields["turn"]
            sound = type(step) is int and 0 <= step < STEPS and low.size == found.size == size
            sound = sound and type(turn) is int and turn in (0, 1) and len(heavy) == columns
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise ProtocolError("the server's search for cuts cannot be read: is it on another version?")
        search.step, search.turn, search.heavy = step, turn, heavy
        search.low, search.found = low.reshape(columns, cuts), found.astype(np.bool_).reshape(columns, cuts)
        return search

    def edges(self) -> list[Float32]:
        """The different cuts of each column, of both turns, ascending; at most `cuts`.

        Of a value with many cells both sides are cuts, if there is room.
        """
        chosen = []
        for keys in self._keys():
            values = np.unique(from_keys(keys))
            chosen.append(values[values < ABOVE_ALL])
        return chosen

    def _keys(self) -> list[Keys]:
        chosen = []
        for low, found, known, targets in zip(self.low, self.found, self.known, self.targets, strict=True):
            low, found = low[:targets], found[:targets]
            heavy = low[~found]
            cuts = np.unique(np.concatenate([known, low[found], heavy + np.uint32(1)]))[: self.cuts]
            for key in np.setdiff1d(heavy, cuts):
                if len(cuts) < self.cuts:
                    cuts = np.union1d(cuts, [key]).astype(np.uint32)
            chosen.append(cuts)
        return chosen


def count_below(ordered: Keys, thresholds: Keys) -> npt.NDArray[np.int64]:
    """How many of a column's present cells, sorted, lie below each threshold."""
    return np.searchsorted(ordered, thresholds, side="left").astype(np.int64)


def note_edges(session: Session, columns: int, cuts: int, turns: int) -> None:
    """Enter in the ledger what the search is about to disclose."""
    why = "clients bin by them; what each step of the search tells follows from the cut of each quantile"
    session.note(EDGES, why, (columns, turns * cuts))


def decide(session: Session, counts: Shared, present: Shared, search: EdgeSearch) -> None:
    """One step of the search: compare ranks with their ranges and take the outcome, which everybody learns.

    Parameters
    ----------
    counts
        Shape (columns, cuts): cells below each threshold.
    present
        Shape (columns,): cells that are not missing.

    Notes
    -----
    With K - 1 quantiles of a column the rank of cut k may be (k - 1/2) n / K to (k + 1/2) n / K, and within c / 2 of
    k n / K for c = `LEAST_EQUAL`. It is too low if 2 K count < (2 k - 1) n and 2 K count < 2 k n - c K, and too high if
    2 K count > (2 k + 1) n and 2 K count > 2 k n + c K. Two comparisons each; the conjunctions are published, zeros in
    place of those of cuts that are found already.
    """
    columns, cuts = search.columns, search.cuts
    bins = np.repeat(search.targets + 1, cuts).reshape(columns, cuts)
    number = np.broadcast_to(np.arange(1, cuts + 1), (columns, cuts))
    doubled = counts * to_ring(2 * bins)
    all_cells = present.reshape(columns, 1).broadcast_to((columns, cuts))
    room = to_ring(LEAST_EQUAL * bins)
    below_middle = doubled - all_cells * to_ring(2 * number)
    gaps = [
        doubled - all_cells * to_ring(2 * number - 1),
        all_cells * to_ring(2 * number + 1) - doubled,
        below_middle + room,
        room - below_middle,
    ]
    planes = negative_planes(session, stack(gaps).reshape(4, columns * cuts))
    planes = conjunction(session, planes[:2], planes[2:])
    if not session.dealing:
        # What would be told of a cut that is found already is zero, and the message as long as ever.
        planes = planes & pack_bits(~search.found.reshape(-1))
    words = session.publish(planes, EDGES)
    if words is None:
        search.step += 1
        return
    below, above = unpack_bits(words, planes.count).astype(np.bool_).reshape(2, columns, cuts)
    search.advance(below, above)

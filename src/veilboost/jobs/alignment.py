"""Row alignment by id: owners find their common rows before the training, docs/protocols/alignment.md.

The label holder of each block of rows finds out, with each other owner of the block's columns, which ids both have, by
private set intersection [Mea86] [HFH99] as `veilboost.tables.alignment` computes it. Dealer and analyst take no part;
with the sizes of the blocks they state the same ledger (`disclosures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.prg import derive_key
from veilboost.mpc.transport.base import Octets, Transport
from veilboost.tables.alignment import (
    POINT_BYTES,
    Join,
    Points,
    Rows,
    are_different,
    arrange,
    check_points,
    choose_rows,
    fresh_scalar,
    hash_to_group,
    in_order,
    is_in_order,
    match,
    raise_to,
)

#: Receiver of what every participant learns, the dealer and the analyst too.
EVERYBODY: Final = "all participants"

#: Rows of a table, at most.
MOST_ROWS: Final = 50_000_000

_COUNT: Final = np.dtype("<i8")


class Exchange(NamedTuple):
    """Two owners that intersect their ids; `holder` holds labels and learns which of its ids `other` has."""

    holder: str
    other: str


@dataclass(frozen=True)
class GridPlan:
    """Who holds which rows; public, from the job file.

    Attributes
    ----------
    parties
        All owners, in the order of the job file.
    blocks
        For each block of rows the parties that hold columns of it, the label holder included.
    label_holders
        For each block the party that holds its labels.
    """

    parties: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    label_holders: tuple[str, ...]

    def __post_init__(self) -> None:
        sound = len(self.blocks) == len(self.label_holders) > 0
        sound = sound and all(holder in block for holder, block in zip(self.label_holders, self.blocks, strict=True))
        if not sound or not all(set(block) <= set(self.parties) for block in self.blocks):
            raise ValueError("every block needs a label holder, which holds rows of it and is one of the parties")

    def others(self, block: int) -> tuple[str, ...]:
        """The parties of a block but its label holder, in the order of `parties`."""
        members = set(self.blocks[block]) - {self.label_holders[block]}
        return tuple(party for party in self.parties if party in members)

    def labelled_by(self, holder: str) -> list[int]:
        """The blocks whose labels a party holds."""
        return [block for block, name in enumerate(self.label_holders) if name == holder]

    def exchanges(self) -> list[Exchange]:
        """Every two parties that intersect their ids, once, in an order that all agree on."""
        pairs = {
            Exchange(self.label_holders[block], other)
            for block in range(len(self.blocks))
            for other in self.others(block)
        }
        place = self.parties.index
        return sorted(pairs, key=lambda pair: (place(pair.holder), place(pair.other)))


@dataclass(frozen=True, repr=False, eq=False)
class Alignment:
    """What a party knows after the alignment.

    Attributes
    ----------
    rows
        int64: positions in one's own table of the rows of the blocks that this party holds, block after block, -1 where
        its table has no such row. Secret; all parties of a block have its rows in the same order.
    block_rows
        Number of rows of every block, also of those of others; public from now on.
    disclosures
        The ledger of the alignment, the same at everybody.
    """

    rows: Rows
    block_rows: tuple[int, ...]
    disclosures: list[Disclosure]

    def __repr__(self) -> str:
        return f"Alignment(block_rows={self.block_rows}, redacted)"


def align(
    transport: Transport, plan: GridPlan, name: str, ids: Sequence[str], key: bytes, job_hash: bytes, join: Join
) -> Alignment:
    """Find the rows of all blocks together with the other parties; for parties only.

    Parameters
    ----------
    name
        This party.
    ids
        The ids of its table, in one spelling and all different, see `veilboost.tables.alignment.read_ids`.
    key
        32 bytes that only this party knows, the same at every start (its storage key): decides in which order the rows
        of its blocks stand.
    join
        "inner": a block has the rows whose ids all its parties have. "left": all rows of the label holder's table; see
        `veilboost.tables.alignment.choose_rows`.

    Raises
    ------
    ProtocolError
        When a party sent something that the protocol does not expect; it is named.
    PeerMismatch
        When a block would have no rows: the same line at every party, and nobody but label holders has learnt anything
        then.
    PeerLost
        When a party is gone.

    Notes
    -----
    Let L hold the labels of some blocks, P be another owner of columns of them, X and Y their ids, H the hash to the
    group. For every such pair:

    1. L draws a scalar a and sends P {H(x)^a}; P draws a scalar b and sends L {H(y)^b}: the number, then the points in
       the order of their encodings.
    2. P returns each of L's points to the power of b, in the same order. L raises P's points to a and compares: it
       knows now which of its ids P has, and the position of each among P's points.
    3. L chooses the rows of its blocks and tells all parties how many they are. All compare what they were told, and
       stop here if a block is empty.
    4. L sends P, for every block that P holds rows of, the position of every row's id among P's points, -1 where P has
       no such id. The rows stand in an order that L's key decides, so it tells nothing.

    Parties send before they receive in every step, so they wait for each other in no circle.
    """
    me = _Party(transport, plan, name, ids, job_hash, join)
    me.send_points()  # step 1
    me.raise_points()  # step 2
    chosen = me.choose()
    block_rows = me.agree([len(rows) for rows in chosen])  # step 3
    order_key = derive_key(key, b"order of aligned rows")
    arranged = {
        block: arrange(rows, ids, order_key, job_hash, block)
        for block, rows in zip(plan.labelled_by(name), chosen, strict=True)
    }
    rows = me.send_positions(arranged, block_rows)  # step 4
    return Alignment(rows, block_rows, disclosures(plan, block_rows))


def disclosures(plan: GridPlan, block_rows: Sequence[int]) -> list[Disclosure]:
    """The ledger of an alignment, as every participant states it from public facts.

    The shape is empty where only the two parties know it: one flag for each row of the receiver's table.
    """
    entries = []
    for holder, other in plan.exchanges():
        entries += [
            Disclosure(other, "number of rows of another table", f"row alignment by id: {holder}'s table", (1,), None),
            Disclosure(holder, "number of rows of another table", f"row alignment by id: {other}'s table", (1,), None),
            Disclosure(holder, "which of its ids another table has", f"row alignment by id: {other}'s table", (), None),
        ]
        entries += [
            Disclosure(
                other,
                "which of its ids are rows of a block",
                f"row alignment by id: block {block + 1}, whose labels {holder} holds",
                (block_rows[block],),
                None,
            )
            for block in plan.labelled_by(holder)
            if other in plan.blocks[block]
        ]
    entries.append(
        Disclosure(EVERYBODY, "number of rows of every block", "row alignment by id", (len(block_rows),), None)
    )
    return entries


class _Party:
    """One party in the middle of an alignment.

    Attributes
    ----------
    scalars
        By exchange, one's own: fresh, used for this exchange only.
    order
        By exchange: which row each of the points that were sent belongs to.
    found
        By other owner, where this party holds the labels: the position of each of its rows among the other's points, -1
        where there is none.
    """

    def __init__(
        self, transport: Transport, plan: GridPlan, name: str, ids: Sequence[str], job_hash: bytes, join: Join
    ) -> None:
        if not 1 <= len(ids) <= MOST_ROWS:
            raise ValueError(f"a table to align has 1 to {MOST_ROWS} rows")
        self.transport, self.plan, self.name, self.ids, self.join = transport, plan, name, ids, join
        self.job_hash = job_hash
        self.exchanges = [pair for pair in plan.exchanges() if name in pair]
        self.scalars = {pair: fresh_scalar() for pair in self.exchanges}
        self.order: dict[Exchange, Rows] = {}
        self.found: dict[str, Rows] = {}

    def send_points(self) -> None:
        """Step 1, the sending half: numbers and blinded ids."""
        if not self.exchanges:
            return
        hashed = hash_to_group(self.ids, self.job_hash)
        for pair in self.exchanges:
            blinded = raise_to(hashed, self.scalars[pair])
            self.order[pair] = in_order(blinded)
            self._send_counts(_peer(pair, self.name), [len(self.ids)])
            self.transport.send(_peer(pair, self.name), blinded[self.order[pair]].ravel())

    def raise_points(self) -> None:
        """The rest of step 1, and step 2."""
        theirs = {}
        for pair in self.exchanges:
            peer = _peer(pair, self.name)
            (count,) = self._receive_counts(peer, 1, 1)
            points = self._receive_points(peer, count)
            if not is_in_order(points):
                raise _unexpected(peer, "blinded ids that are not in order, or two that are the same")
            try:
                theirs[pair] = raise_to(points, self.scalars[pair])
            except ValueError as error:
                raise _unexpected(peer, f"a blinded id that {error}") from None
            if pair.other == self.name:
                self.transport.send(peer, theirs[pair].ravel())
        for pair in self.exchanges:
            if pair.holder == self.name:
                self._match(pair, theirs[pair])

    def choose(self) -> list[Rows]:
        """The rows of one's own blocks, still in the order of the table."""
        own_blocks = [self.plan.others(block) for block in self.plan.labelled_by(self.name)]
        return choose_rows(self.found, own_blocks, len(self.ids), self.join) if own_blocks else []

    def agree(self, own_sizes: Sequence[int]) -> tuple[int, ...]:
        """Step 3: the sizes of all blocks, the same at everybody, none of them 0."""
        peers = [party for party in self.plan.parties if party != self.name]
        sizes = np.zeros(len(self.plan.blocks), dtype=_COUNT)
        sizes[self.plan.labelled_by(self.name)] = own_sizes
        for peer in peers:
            if own_sizes:
                self._send_counts(peer, own_sizes)
        for peer in peers:
            blocks = self.plan.labelled_by(peer)
            if blocks:
                sizes[blocks] = self._receive_counts(peer, len(blocks), 0)
        for peer in peers:
            self._send_counts(peer, sizes)
        for peer in peers:
            if self._receive_counts(peer, len(sizes), 0) != sizes.tolist():
                raise _unexpected(peer, f"numbers of rows that differ from those that {self.name} was told")
        for block in np.flatnonzero(sizes == 0).tolist():
            raise PeerMismatch(_nothing_in(self.plan, block, self.join))
        return tuple(sizes.tolist())

    def send_positions(self, arranged: dict[int, Rows], block_rows: Sequence[int]) -> Rows:
        """Step 4: tell the others where their rows are; one's own rows of all blocks that one holds."""
        for pair in self.exchanges:
            if pair.holder == self.name:
                for block in self._common_blocks(pair):
                    positions = self.found[pair.other][arranged[block]]
                    self.transport.send(pair.other, positions.astype(_COUNT).view(np.uint8))
        rows = dict(arranged)
        for pair in self.exchanges:
            if pair.other == self.name:
                for block in self._common_blocks(pair):
                    rows[block] = self._receive_rows(pair, block_rows[block])
        return np.concatenate([np.empty(0, dtype=np.int64), *(rows[block] for block in sorted(rows))])

    def _match(self, pair: Exchange, theirs: Points) -> None:
        """The rest of step 2 at the label holder: compare what comes back with the other's points, raised to both."""
        returned = self._receive_points(pair.other, len(self.ids))
        try:
            check_points(returned)
        except ValueError as error:
            raise _unexpected(pair.other, f"a point that {error}") from None
        if not are_different(returned):
            raise _unexpected(pair.other, "two points that are the same")
        found = np.empty(len(self.ids), dtype=np.int64)
        found[self.order[pair]] = match(returned, theirs)
        self.found[pair.other] = found

    def _receive_rows(self, pair: Exchange, count: int) -> Rows:
        positions = self.transport.receive(pair.holder, count * _COUNT.itemsize).view(_COUNT).astype(np.int64)
        present = positions[positions >= 0]
        least = -1 if self.join == "left" else 0
        if positions.min() < least or positions.max() >= len(self.ids) or len(np.unique(present)) < len(present):
            raise _unexpected(pair.holder, "positions of rows that are not there, or one of them twice")
        return np.where(positions < 0, -1, self.order[pair][positions])

    def _common_blocks(self, pair: Exchange) -> list[int]:
        return [block for block in self.plan.labelled_by(pair.holder) if pair.other in self.plan.blocks[block]]

    def _send_counts(self, peer: str, counts: Sequence[int] | Rows) -> None:
        self.transport.send(peer, np.array(counts, dtype=_COUNT).view(np.uint8))

    def _receive_counts(self, peer: str, number: int, least: int) -> list[int]:
        counts = self.transport.receive(peer, number * _COUNT.itemsize).view(_COUNT)
        if counts.min() < least or counts.max() > MOST_ROWS:
            raise _unexpected(peer, f"a number of rows that is not between {least} and {MOST_ROWS}")
        return [int(count) for count in counts]

    def _receive_points(self, peer: str, count: int) -> Points:
        points: Octets = self.transport.receive(peer, count * POINT_BYTES)
        return points.reshape(count, POINT_BYTES)


def _peer(pair: Exchange, name: str) -> str:
    return pair.other if pair.holder == name else pair.holder


def _unexpected(peer: str, what: str) -> ProtocolError:
    return ProtocolError(f"{peer} sent {what}, while rows were aligned by id: are both on the same version?")


def _nothing_in(plan: GridPlan, block: int, join: Join) -> str:
    """Why a block is empty, in one line."""
    holder, others = plan.label_holders[block], " and ".join(plan.others(block))
    which = f"block {block + 1} of the rows ({holder} with {others})"
    if join == "inner":
        return f"no id is in the tables of all owners of {which}: give all the same column of ids, spelled alike"
    return f"no id of {holder}'s belongs to {which}: give all the same column of ids, spelled alike"

"""Common rows of parties with different columns, by private set intersection on the id.

docs/protocols/alignment.md; Diffie-Hellman on hashed ids after C. Meadows, "A more efficient cryptographic matchmaking
protocol", IEEE S&P 1986, and B. Huberman, M. Franklin, T. Hogg, "Enhancing privacy and trust in electronic
communities", EC 1999. It runs between the holder of the labels of each block of rows and every other party of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hmac import digest as hmac_digest
from secrets import SystemRandom

import numpy as np
import numpy.typing as npt

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.jobs.grid import Grid
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.transport.base import Octets, Transport
from veilboost.tables.alignment import (
    POINT_BYTES,
    blind,
    draw_scalar,
    from_octets,
    hash_to_group,
    private_order,
    to_octets,
)

Rows = npt.NDArray[np.int64]

#: Ids of one table at most.
MOST_IDS = 1 << 26

_WHY = "rows are matched by id"

#: What the ledger says of it.
IDS_COUNTED = "number of ids of another party"
IDS_SHARED = "which of its ids another party has"
IDS_TRAINED = "which of its ids are rows of the training"
BLOCK_ROWS = "number of rows of each block"
EVERYBODY = "all participants"
_NUMBER_BYTES = 8


@dataclass(frozen=True)
class Alignment:
    """Which rows are trained on.

    Attributes
    ----------
    rows
        int64: for every row of the blocks that this party holds, in order, its place in this party's table; -1 where
        the table has no such row (only when all rows of the label's holder are kept).
    block_rows
        Rows of each block; public from then on.
    """

    rows: Rows
    block_rows: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Alignment(block_rows={self.block_rows}, redacted)"


@dataclass(frozen=True)
class Matching:
    """What is public about whose rows are matched.

    Attributes
    ----------
    parties
        Names, in the order of the job file.
    grid
        Which rows each holds.
    holders
        Names of the label's holders, one for all blocks or one for each.
    left
        Whether all rows of the label's holders are kept, not only those that all parties have.
    least_rows
        With fewer rows of all blocks together there is no training, and no party is told which of its ids are rows.
    """

    parties: tuple[str, ...]
    grid: Grid
    holders: tuple[str, ...]
    left: bool
    least_rows: int = 1

    def holder_of(self, block: int) -> str:
        """The label's holder of a block."""
        return self.holders[block if len(self.holders) > 1 else 0]

    def blocks_of(self, party: str) -> list[int]:
        """The blocks whose rows a party holds."""
        own = self.grid.block_of[self.parties.index(party)]
        return list(range(self.grid.blocks)) if own is None else [own]

    def others(self, block: int) -> list[str]:
        """The parties of a block that its rows are matched with."""
        names = [self.parties[position] for position in self.grid.parties_of(block)]
        return [name for name in names if name != self.holder_of(block)]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Label's holder and other party, each two once."""
        blocks = range(self.grid.blocks)
        return list(dict.fromkeys((self.holder_of(block), other) for block in blocks for other in self.others(block)))


def align(
    transport: Transport,
    matching: Matching,
    ids: Sequence[str],
    key: bytes,
    job_hash: bytes,
    on_sizes: Callable[[tuple[int, ...]], None] = lambda block_rows: None,
    on_notice: Callable[[str], None] = lambda text: None,
) -> Alignment:
    """Find the common rows.

    Parameters
    ----------
    ids
        Of the rows of this party's table, all different.
    key
        This party's storage key, which fixes the order of rows in which a resumed training finds them again.
    on_sizes
        Called with the rows of each block before a party is told which of its ids are rows.
    on_notice
        Called with what this party has learned in numbers, in words for its own operator.

    Raises
    ------
    PeerMismatch
        When the parties of a block have no row in common, or all blocks together too few.
    ProtocolError
        When a party sends what is none of this.

    Notes
    -----
    For every label's holder L with ids X and every other party P of its rows with ids Y; H hashes to the group:

    1. L and P draw scalars a and b, and send each other H(X)^a and H(Y)^b, each in a random order of its own.
    2. P sends back (H(X)^a)^b in the order received.
    3. L raises H(Y)^b to a, and so learns which of its ids P has, and at which place of P's message. P has learned
       nothing.
    4. L tells everybody how many rows each block has, and P, for every row of the block, its place in P's message. The
       rows are in an order that L's key draws.
    """
    me = transport.name
    own = _Own(ids, job_hash, len(matching.pairs))
    mine = [pair for pair in matching.pairs if me in pair]
    orders: dict[str, Rows] = {}
    scalars: dict[str, bytes] = {}
    for holder, other in mine:
        peer = other if holder == me else holder
        scalars[peer], orders[peer] = draw_scalar(), _shuffled(len(ids))
        transport.send(peer, _number(len(ids)))
        transport.send(peer, to_octets(blind([own.points[row] for row in orders[peer]], scalars[peer])))
    for holder, other in mine:
        if other == me:
            received = _receive_points(transport, holder, None)
            transport.send(holder, to_octets(_raise(received, scalars[holder], holder)))
    found: dict[str, Rows] = {}
    for holder, other in mine:
        if holder == me:
            theirs = _raise(_receive_points(transport, other, None), scalars[other], other)
            ours = _receive_points(transport, other, len(ids))
            # Those that come back are only compared, with points that have been checked.
            places = {point: place for place, point in enumerate(theirs)}
            found[other] = np.full(len(ids), -1, dtype=np.int64)
            found[other][orders[other]] = [places.get(point, -1) for point in ours]
            both = int((found[other] >= 0).sum())
            on_notice(f"{other} has {both:,} of the {len(ids):,} ids of this table, and lacks {len(ids) - both:,}")
    rows = _own_rows(matching, me, ids, found, key, job_hash) if me in matching.holders else {}
    block_rows = _agree_on_sizes(transport, matching, {block: len(chosen) for block, chosen in rows.items()})
    on_sizes(block_rows)
    for block, chosen in rows.items():
        for other in matching.others(block):
            transport.send(other, np.ascontiguousarray(found[other][chosen]).view(np.uint8))
    for block in matching.blocks_of(me):
        holder = matching.holder_of(block)
        if holder != me:
            places_at = _receive_places(transport, holder, block_rows[block], len(ids), matching.left)
            rows[block] = np.where(places_at < 0, -1, orders[holder][places_at])
    chosen_rows = np.concatenate([rows[block] for block in matching.blocks_of(me)])
    used = len(np.unique(chosen_rows[chosen_rows >= 0]))
    on_notice(f"{used:,} of the {len(ids):,} ids of this table are rows of the training, {len(ids) - used:,} are not")
    return Alignment(chosen_rows, block_rows)


def disclosures_of(matching: Matching, block_rows: Sequence[int] | None) -> list[Disclosure]:
    """The entries of the ledger, from public facts: a size that only two parties know is not in them.

    `block_rows` None: those before a party is told which of its ids are rows.
    """
    entries = []
    for holder, other in matching.pairs:
        for receiver, whose in ((holder, other), (other, holder)):
            entries.append(Disclosure(receiver, IDS_COUNTED, f"{_WHY}: how many ids {whose} has", (1,), None))
        entries.append(Disclosure(holder, IDS_SHARED, f"{_WHY}: which ids {other} has too", (1,), None))
    for block, size in enumerate(block_rows or ()):
        for other in matching.others(block):
            why = f"{_WHY}: which ids are rows of {matching.holder_of(block)}"
            entries.append(Disclosure(other, IDS_TRAINED, why, (size,), None))
    blocks = matching.grid.blocks
    entries.append(Disclosure(EVERYBODY, BLOCK_ROWS, "the shape of the training is public", (blocks,), None))
    return entries


class _Own:
    """A party's own ids in the group; hashed only if it is matched with somebody."""

    def __init__(self, ids: Sequence[str], job_hash: bytes, pairs: int) -> None:
        self.points = hash_to_group(ids, job_hash) if pairs else []

    def __repr__(self) -> str:
        return f"_Own(ids={len(self.points)}, redacted)"


def _own_rows(
    matching: Matching, me: str, ids: Sequence[str], found: dict[str, Rows], key: bytes, job_hash: bytes
) -> dict[int, Rows]:
    """At a label's holder: the rows of each of its blocks, as places in its table, in the order that its key draws."""
    order = private_order(ids, hmac_digest(key, b"veilboost order of rows", "sha256"), job_hash)
    blocks = [block for block in range(matching.grid.blocks) if matching.holder_of(block) == me]
    kept: dict[int, npt.NDArray[np.bool_]] = {}
    somewhere = np.zeros(len(ids), dtype=np.bool_)
    for block in blocks:
        others = matching.others(block)
        here = [other for other in others if len(matching.blocks_of(other)) < matching.grid.blocks or len(blocks) == 1]
        if matching.left:
            chosen = np.ones(len(ids), dtype=np.bool_)
            if len(blocks) > 1:
                chosen = np.any([found[other] >= 0 for other in here], axis=0)
        else:
            chosen = np.all([found[other] >= 0 for other in others], axis=0)
            if not others:
                chosen = np.ones(len(ids), dtype=np.bool_)
        somewhere |= chosen
        kept[block] = chosen
    if matching.left and not somewhere.all():  # rows that nobody else has join the first block
        kept[blocks[0]] = kept[blocks[0]] | ~somewhere
    return {block: order[chosen[order]] for block, chosen in kept.items()}


def _agree_on_sizes(transport: Transport, matching: Matching, own: dict[int, int]) -> tuple[int, ...]:
    """Every label's holder tells all parties how many rows its blocks have."""
    for size in own.values():
        for peer in matching.parties:
            if peer != transport.name:
                transport.send(peer, _number(size))
    sizes = []
    for block in range(matching.grid.blocks):
        holder = matching.holder_of(block)
        size = own[block] if holder == transport.name else _receive_number(transport, holder, 0)
        if size == 0:
            whom = ", ".join([holder, *matching.others(block)])
            raise PeerMismatch(f"{whom} have no id in common: check that their tables write the same ids alike")
        sizes.append(size)
    if sum(sizes) < matching.least_rows:
        raise PeerMismatch(
            f"matching by id leaves {sum(sizes)} rows, and a training needs at least {matching.least_rows} in all: "
            "check that the tables write the same ids alike"
        )
    return tuple(sizes)


def _receive_points(transport: Transport, peer: str, count: int | None) -> list[bytes]:
    """Points of a peer; how many comes first unless it is known."""
    if count is None:
        count = _receive_number(transport, peer, 1)
    points = from_octets(transport.receive(peer, count * POINT_BYTES))
    if len(set(points)) < len(points):
        raise ProtocolError(f"{peer} sent the same blinded id twice while rows were matched")
    return points


def _raise(points: Sequence[bytes], scalar: bytes, peer: str) -> list[bytes]:
    try:
        return blind(points, scalar)
    except ValueError:
        raise ProtocolError(f"{peer} sent a blinded id that is none while rows were matched") from None


def _receive_places(transport: Transport, holder: str, count: int, ids: int, left: bool) -> Rows:
    """For every row of a block its place in this party's message."""
    places = transport.receive(holder, count * _NUMBER_BYTES).view(np.int64)
    present = places[places >= 0]
    sound = len(np.unique(present)) == len(present) and bool((places < ids).all()) and bool((places >= -1).all())
    if not sound or (len(present) < count and not left):
        raise ProtocolError(f"{holder} sent places of rows that cannot be while rows were matched")
    return places


def _receive_number(transport: Transport, peer: str, least: int) -> int:
    number = int(transport.receive(peer, _NUMBER_BYTES).view(np.int64)[0])
    if not least <= number <= MOST_IDS:
        raise ProtocolError(f"{peer} sent a number of ids that cannot be while rows were matched")
    return number


def _number(value: int) -> Octets:
    return np.array([value], dtype=np.int64).view(np.uint8)


def _shuffled(count: int) -> Rows:
    """A uniformly random order."""
    order = list(range(count))
    SystemRandom().shuffle(order)
    return np.array(order, dtype=np.int64)

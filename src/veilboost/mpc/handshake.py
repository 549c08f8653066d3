"""Greeting: participants make sure that they run the same job, and begin a fresh epoch.

docs/protocols/sharing.md. The epoch hashes 32 fresh random bytes of every participant, so that the streams of
correlated randomness differ at every start, whatever happened before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from secrets import token_bytes

import numpy as np

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.prg import KEY_BYTES, derive_key
from veilboost.mpc.session import OwnerSession
from veilboost.mpc.transport.base import LARGEST_GREETING, Octets, Transport
from veilboost.version import __version__

_MOST_ROWS = 1 << 40


@dataclass(frozen=True)
class Greeting:
    """What participants tell each other first; all of it public.

    Attributes
    ----------
    name
        Of the participant.
    job
        Hash of the job file, hexadecimal.
    nonce
        32 fresh random bytes, hexadecimal.
    rows
        Rows of an owner's table; None for others, and where owners find their common rows after the greeting.
    version
        Of veilboost.
    checkpoints
        Of an owner that wants to continue: number of trees and epoch, hexadecimal, of each checkpoint that it has. None
        for others.
    """

    name: str
    job: str
    nonce: str
    rows: int | None
    version: str
    checkpoints: dict[str, str] | None = None

    def to_bytes(self) -> bytes:
        return json.dumps(self.__dict__, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes, peer: str) -> Greeting:
        try:
            fields = json.loads(data)
            greeting = cls(**fields)
            sound = all(isinstance(getattr(greeting, key), str) for key in ("name", "job", "nonce", "version"))
            sound = sound and (greeting.rows is None or (type(greeting.rows) is int and greeting.rows > 0))
            sound = sound and len(greeting.nonce) == 64 and greeting.version.isprintable()
            sound = sound and (greeting.checkpoints is None or _are_checkpoints(greeting.checkpoints))
        except (ValueError, TypeError, RecursionError):
            sound = False
        if not sound or greeting.name != peer:
            raise ProtocolError(f"{peer} sent a greeting that cannot be read: is it on another version of veilboost?")
        return greeting


@dataclass(frozen=True)
class Meeting:
    """The outcome of the greetings.

    Attributes
    ----------
    context
        Hash of job and epoch: what all keys of this run are bound to.
    block_rows
        Rows of each block; none where owners find their common rows after the greeting.
    trees_done
        After how many trees all continue; 0 at a start from the beginning.
    """

    context: bytes
    block_rows: tuple[int, ...]
    trees_done: int = 0


def greet(
    transport: Transport,
    owners: Sequence[str],
    job_hash: bytes,
    rows: int | None,
    checkpoints: Mapping[int, str] | None = None,
    *,
    block_of: Sequence[int | None] | None = None,
    aligned: bool = True,
    members: Sequence[str] | None = None,
) -> Meeting:
    """Exchange greetings with all peers.

    Parameters
    ----------
    rows
        Of this owner's table; None elsewhere, and everywhere unless `aligned`.
    block_of
        Of every owner the block whose rows it holds, None if it holds all; by default all hold all.
    aligned
        Whether the rows of the tables belong together as they are.
    members
        Those whose random bytes make the epoch, in order; None: all. Others, who may not even be connected with each
        other, hold no keys of the epoch.
    checkpoints
        At an owner that wants to continue: the epoch of its checkpoint after each tree.

    Raises
    ------
    PeerMismatch
        When a participant has another job file, another version or another number of rows.

    Notes
    -----
    1. Everybody sends everybody name, job hash, version, 32 fresh random bytes and, for owners, the number of rows.
    2. The epoch is the hash of all names and random bytes, in order of the names.
    3. Everybody sends everybody the hash of job and epoch; all must be equal.
    4. A resumed training continues after the last tree of which all owners have a checkpoint of the same epoch.
    """
    offered = None if checkpoints is None else {str(number): epoch for number, epoch in checkpoints.items()}
    own = Greeting(transport.name, job_hash.hex(), token_bytes(32).hex(), rows, __version__, offered)
    greetings = {own.name: own}
    for peer in transport.peers:
        transport.send(peer, _octets(own.to_bytes()))
    for peer in transport.peers:
        greetings[peer] = Greeting.from_bytes(transport.receive_text(peer, LARGEST_GREETING), peer)
    for peer in transport.peers:
        _compare(own, greetings[peer])
    counts = {name: greetings[name].rows for name in owners}
    block_rows = _agreed_rows(counts, block_of or [None] * len(counts)) if aligned else ()
    epoch = hashlib.sha256()
    for name in sorted(greetings if members is None else members):
        epoch.update(f"{name} {greetings[name].nonce}\n".encode())
    context = hashlib.sha256(job_hash + epoch.digest()).digest()
    for peer in transport.peers:
        transport.send(peer, _octets(context))
    for peer in transport.peers:
        if not compare_digest(transport.receive(peer, len(context)).tobytes(), context):
            raise PeerMismatch(f"{peer} has met other participants than {own.name}: restart all of them")
    return Meeting(context, block_rows, _common_tree({name: greetings[name].checkpoints for name in owners}))


def announce_rows(transport: Transport, receivers: Sequence[str], block_rows: Sequence[int]) -> None:
    """An owner tells those who are none how many rows each block has, where that was not known at the greeting."""
    message = _octets(json.dumps(list(block_rows)).encode())
    for peer in receivers:
        transport.send(peer, message)


def hear_rows(transport: Transport, owners: Sequence[str], blocks: int) -> tuple[int, ...]:
    """What all owners announce with `announce_rows`; PeerMismatch if they do not agree."""
    heard: dict[str, tuple[int, ...]] = {}
    for peer in owners:
        text = transport.receive_text(peer, LARGEST_GREETING)
        try:
            sizes = json.loads(text)
        except (ValueError, RecursionError):
            sizes = None
        sound = isinstance(sizes, list) and len(sizes) == blocks
        if not sound or not all(type(size) is int and 0 < size < _MOST_ROWS for size in sizes):
            raise ProtocolError(f"{peer} did not say how many rows there are: is it on another version of veilboost?")
        heard[peer] = tuple(sizes)
    if len(set(heard.values())) > 1:
        raise PeerMismatch(f"{' and '.join(heard)} do not agree on the number of common rows: restart all of them")
    return heard[owners[0]]


def owner_session(transport: Transport, owners: Sequence[str], dealer: str, meeting: Meeting) -> OwnerSession:
    """An owner's session: its key comes from the dealer, those for sharings of zero from the other owners.

    Of every two owners the earlier one draws their key. All keys are bound to this job and epoch.
    """
    me = list(owners).index(transport.name)
    pair_keys = {}
    for other, peer in enumerate(owners):
        if other > me:
            pair_keys[other] = token_bytes(KEY_BYTES)
            transport.send(peer, _octets(pair_keys[other]))
    for other, peer in enumerate(owners):
        if other < me:
            pair_keys[other] = transport.receive(peer, KEY_BYTES).tobytes()
    secret = transport.receive(dealer, KEY_BYTES).tobytes()
    return OwnerSession(
        transport,
        owners,
        dealer,
        derive_key(secret, meeting.context),
        {other: derive_key(key, meeting.context) for other, key in pair_keys.items()},
    )


def dealer_session(transport: Transport, owners: Sequence[str], meeting: Meeting) -> DealerSession:
    """The dealer's session: it draws a key for every owner."""
    keys = []
    for owner in owners:
        secret = token_bytes(KEY_BYTES)
        transport.send(owner, _octets(secret))
        keys.append(derive_key(secret, meeting.context))
    return DealerSession(transport, owners, keys)


def _compare(own: Greeting, other: Greeting) -> None:
    if other.version != own.version:
        raise PeerMismatch(
            f"{other.name} runs veilboost {other.version}, {own.name} runs {own.version}: install the same version"
        )
    if other.job != own.job:
        raise PeerMismatch(
            f"{other.name} and {own.name} have different job files: give both the same file, byte for byte"
        )


def _are_checkpoints(value: object) -> bool:
    return isinstance(value, dict) and all(
        number.isdecimal() and isinstance(epoch, str) and len(epoch) == 64 for number, epoch in value.items()
    )


def _common_tree(offered: Mapping[str, Mapping[str, str] | None]) -> int:
    """The last tree of which all owners have a checkpoint of the same epoch; 0 if there is none."""
    resuming = [name for name, checkpoints in offered.items() if checkpoints is not None]
    if not resuming:
        return 0
    for name, checkpoints in offered.items():
        if checkpoints is None:
            raise PeerMismatch(f"{resuming[0]} resumes but {name} does not: start all parties with --resume, or none")
    common = set.intersection(*(set((checkpoints or {}).items()) for checkpoints in offered.values()))
    return max((int(number) for number, _ in common), default=0)


def _agreed_rows(counts: Mapping[str, int | None], block_of: Sequence[int | None]) -> tuple[int, ...]:
    """Rows of each block, if all that hold it say the same."""
    first: dict[int | None, tuple[str, int]] = {}
    for (name, count), block in zip(counts.items(), block_of, strict=True):
        if count is None:
            raise ProtocolError(f"{name} did not say how many rows it has")
        other, expected = first.setdefault(block, (name, count))
        if count != expected:
            raise PeerMismatch(
                f"{other} has {expected} rows but {name} has {count}: "
                "give all parties the same patients in the same order"
            )
    sizes = tuple(first[block][1] for block in sorted(block for block in first if block is not None))
    if sizes and None in first and first[None][1] != sum(sizes):
        name, count = first[None]
        raise PeerMismatch(
            f"{name} has {count} rows but the parties that hold parts of the rows have {' + '.join(map(str, sizes))}: "
            f"give {name} the rows of all of them, one party's after the other's"
        )
    return sizes or (first[None][1],)


def _octets(data: bytes) -> Octets:
    return np.frombuffer(data, dtype=np.uint8)

"""A session: one participant's view of one run of a public program.

Everything that a participant sends passes through this module, in one of these forms:

- `Session.open_masked`: value plus a uniform one-time mask, to all owners;
- `Session.exchange_masked`: own share minus a uniform one-time mask of one's own, to all owners;
- `Session.pass_masked`: words that the caller has masked with a stream or drawn uniformly (incidence only);
- `Session.share`: uniform shares of an owner's own input;
- `Session.disclose`: a value for one receiver, entered in the ledger; `Session.publish`: one for everybody;
- `Session.deal`: the dealer's corrections, uniform for who receives them.

All participants number correlations alike, so that the stream of a number is expanded once by each owner that needs it
and by the dealer; a session never gives a number out twice.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import cast

import numpy as np

from veilboost.errors import MaskReuseError
from veilboost.mpc.correlations import AnyMask, Correlation, Domain, Field, Mask
from veilboost.mpc.ledger import EVERYONE, Disclosure
from veilboost.mpc.phases import Phases
from veilboost.mpc.prg import KEY_BYTES, Stream
from veilboost.mpc.ring import WORD, WORD_BITS, Words
from veilboost.mpc.shares import Shape, Shared, SharedBits, SharedLanes
from veilboost.mpc.transport.base import Octets, Transport

Opening = tuple[Shared, Mask[Shared]] | tuple[SharedBits, Mask[SharedBits]] | tuple[SharedLanes, Mask[SharedLanes]]


@dataclass(frozen=True)
class Dealt:
    """What a participant holds of one correlation."""

    masks: Sequence[AnyMask]
    derived: Sequence[Shared | SharedBits | SharedLanes]

    def ring_mask(self, position: int) -> Mask[Shared]:
        return cast("Mask[Shared]", self.masks[position])

    def bits_mask(self, position: int) -> Mask[SharedBits]:
        return cast("Mask[SharedBits]", self.masks[position])

    def lanes_mask(self, position: int) -> Mask[SharedLanes]:
        return cast("Mask[SharedLanes]", self.masks[position])

    def ring(self, position: int) -> Shared:
        return cast(Shared, self.derived[position])

    def bits(self, position: int) -> SharedBits:
        return cast(SharedBits, self.derived[position])


@dataclass(frozen=True)
class Exchanged:
    """A shared value of which every owner has sent the others its share minus a mask of its own.

    Attributes
    ----------
    value
        The shared value.
    total
        Own share plus the others' masked shares, which is the value minus the others' masks, of the rows that this
        owner wanted; None at the dealer.
    masks
        Every owner's mask: only at the dealer.
    wanted
        Which rows each owner has received.
    """

    value: Shared
    total: Words | None
    masks: Sequence[Words] | None
    wanted: Sequence[slice]
    holder: int | None

    def __repr__(self) -> str:
        return f"Exchanged(shape={self.value.shape}, redacted)"

    def of(self, owner: int) -> Exchanged:
        """The rows that one owner wanted; with the total only at that owner."""
        part = self.wanted[owner]
        masks = None if self.masks is None else [mask[part] for mask in self.masks]
        everything = [slice(None)] * len(self.wanted)
        return Exchanged(self.value[part], self.total if self.holder == owner else None, masks, everything, self.holder)


class Session(ABC):
    """What the owners' and the dealer's sessions have in common.

    Attributes
    ----------
    owners
        Names of the owners in the order of the job file.
    dealer
        Name of the dealer.
    holder
        Position of this participant among the owners; None at the dealer.
    rounds
        Communication rounds so far, as an owner counts them.
    ledger
        Disclosures so far; the same at every owner.
    phases
        Where time and bytes go.
    on_note
        Called when `note` has made an entry, before any of it is published.
    exact
        Whether truncation is exact, so that results are functions of the inputs and not of coins; the same everywhere.
    """

    def __init__(self, transport: Transport, owners: Sequence[str], dealer: str, holder: int | None) -> None:
        self.transport = transport
        self.owners = tuple(owners)
        self.dealer = dealer
        self.holder = holder
        self.rounds = 0
        self.ledger: list[Disclosure] = []
        self.phases = Phases(transport.bytes_sent)
        self.exact = False
        self.on_note: Callable[[], None] = lambda: None
        self._next_number = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.transport.name!r}, owners={self.owners}, redacted)"

    @property
    def dealing(self) -> bool:
        """Whether this is the dealer, whose shares are hollow."""
        return self.holder is None

    def next_number(self) -> int:
        """A correlation number that has not been used in this epoch."""
        number = self._next_number
        if number >= 1 << 63:
            raise MaskReuseError("this epoch has used up its correlation numbers; resume the job to begin a new epoch")
        self._next_number += 1
        return number

    def constant(self, words: Words) -> Shared:
        """A public array as a shared one."""
        zeros = None if self.dealing else np.zeros(words.shape, dtype=WORD)
        return Shared(self.holder, zeros, words.shape) + words

    @abstractmethod
    def streams(self, number: int) -> dict[int, Stream]:
        """The streams of a correlation number by owner: one's own at an owner, all of them at the dealer."""

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Leave a part of the public program out at the owners (`OwnerSession.idle`); the dealer does not."""
        yield

    @abstractmethod
    def correlate(self, correlation: Correlation) -> Dealt:
        """The next correlation of the public program."""

    @abstractmethod
    def deal(self, receiver: int, make: Callable[[], Words], shape: Shape) -> Words | None:
        """The dealer computes words and sends them to one owner, who gets them; the others get None."""

    @abstractmethod
    def open_masked(self, *openings: Opening) -> list[Words]:
        """Open value + mask (ring) or value XOR mask (bits) to all owners, all in one round.

        Each mask is spent. Every owner learns sums of its peers' uniformly random words only. Not for the dealer.
        """

    @abstractmethod
    def exchange_masked(self, value: Shared, wanted: Sequence[slice] | None = None) -> Exchanged:
        """Every owner sends its share minus a fresh uniform mask of its own to all others, in one round.

        Parameters
        ----------
        wanted
            Public: which rows (first axis) each owner receives; None: all rows go to all.
        """

    @abstractmethod
    def pass_masked(self, sender: int, receivers: Sequence[int], payload: Octets | None, size: int) -> Octets | None:
        """One owner sends `size` uniformly distributed bytes to others; receivers get them, everybody else None."""

    @abstractmethod
    def share(self, owner: int, words: Words | None, shape: Shape) -> Shared:
        """An owner shares its own input; the others and the dealer pass None."""

    @abstractmethod
    def share_bits(self, owner: int, words: Words | None, shape: Shape, count: int) -> SharedBits:
        """An owner shares its own packed bits; the others and the dealer pass None."""

    @abstractmethod
    def disclose(self, value: Shared | SharedBits, to: str, what: str, why: str) -> Words | None:
        """Let one participant learn a value; the entry in the ledger says what and why.

        Shares are made fresh with a sharing of zero, from keys that only the owners know, before they leave: they say
        no more than their sum, even to a receiver that works together with the dealer.
        """

    def note(self, what: str, why: str, shape: Shape) -> None:
        """Enter in the ledger what `publish` is about to let everybody learn, in one piece or in many."""
        self.ledger.append(Disclosure(EVERYONE, what, why, shape, None if self.dealing else self.rounds))
        self.on_note()

    def publish(self, value: Shared | SharedBits, what: str | None) -> Words | None:
        """Let everybody learn a value: all owners get it, and may tell others; None at the dealer.

        Shares are made fresh as in `disclose`.

        Parameters
        ----------
        what
            The entry in the ledger (`note`) that this value is a part of, or follows from. None only for values that
            are the same whatever the secrets are.

        Raises
        ------
        ValueError
            There is no such entry.
        """
        if what is not None and not any(e.receiver == EVERYONE and e.value == what for e in self.ledger):
            raise ValueError(f"nothing may be published that the ledger does not have: {what}")
        return self._publish(value)

    @abstractmethod
    def _publish(self, value: Shared | SharedBits) -> Words | None: ...

    def _enter(self, value: Shared | SharedBits, to: str, what: str, why: str) -> None:
        shape = value.shape if isinstance(value, Shared) else (*value.shape[:-1], value.count)
        self.ledger.append(Disclosure(to, what, why, shape, None if self.dealing else self.rounds))


class OwnerSession(Session):
    """The session of a data owner.

    Parameters
    ----------
    key
        The key of this epoch that this owner has in common with the dealer.
    pair_keys
        The key of this epoch that this owner has in common with each other owner, by position. The dealer does not know
        them.
    """

    def __init__(
        self, transport: Transport, owners: Sequence[str], dealer: str, key: bytes, pair_keys: Mapping[int, bytes]
    ) -> None:
        super().__init__(transport, owners, dealer, tuple(owners).index(transport.name))
        self._key = key
        self._pair_keys = dict(pair_keys)
        if set(self._pair_keys) != set(range(len(self.owners))) - {self.me}:
            raise ValueError("an owner needs one key in common with every other owner")
        self._disclosures = 0
        self._idle = False
        self._others = [peer for peer in self.owners if peer != transport.name]
        self._input_key = token_bytes(KEY_BYTES)
        self._inputs = 0

    @property
    def me(self) -> int:
        """Position of this owner."""
        return cast(int, self.holder)

    def streams(self, number: int) -> dict[int, Stream]:
        return {self.me: Stream(self._key, number)}

    def correlate(self, correlation: Correlation) -> Dealt:
        number = self.next_number()
        stream = self.streams(number)[self.me]
        if corrected_owner(number, len(self.owners)) == self.me and correlation.derived:
            drawn = split_words(stream.words(total_size(correlation.masks)), correlation.masks)
            corrections = self._receive_words(self.dealer, total_size(correlation.derived))
            drawn += split_words(corrections, correlation.derived)
        else:
            fields = [*correlation.masks, *correlation.derived]
            drawn = split_words(stream.words(total_size(fields)), fields)
        count = len(correlation.masks)
        masks = [Mask(f.hold(self.holder, w)) for f, w in zip(correlation.masks, drawn[:count], strict=True)]
        derived = [f.hold(self.holder, w) for f, w in zip(correlation.derived, drawn[count:], strict=True)]
        return Dealt(cast("list[AnyMask]", masks), derived)

    def deal(self, receiver: int, make: Callable[[], Words], shape: Shape) -> Words | None:
        if receiver != self.me:
            return None
        return self._receive_words(self.dealer, math.prod(shape)).reshape(shape)

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Leave a part of the public program out, at all owners alike: what comes of it means nothing.

        Masks and corrections are used up, so that all stay in step with the dealer, who does not know; nothing is sent.
        """
        self._idle = True
        try:
            yield
        finally:
            self._idle = False

    def open_masked(self, *openings: Opening) -> list[Words]:
        if self._idle:
            return [np.zeros(mask.spend().shape, dtype=WORD) for _, mask in openings]
        masked, domains = [], []
        for value, mask in openings:
            domain = _domain_of(value)
            words = domain.combine(value.words, mask.spend().words)
            if words.shape != mask.share.shape:
                raise MaskReuseError(
                    "a mask was about to be stretched over a larger array; this is a bug, please report it"
                )
            masked.append(words)
            domains.append(domain)
        sizes = np.cumsum([words.size for words in masked])
        message = masked[0].reshape(-1) if len(masked) == 1 else np.concatenate([words.reshape(-1) for words in masked])
        self.rounds += 1
        self._send_to_others(message)
        opened = [words.copy() for words in np.split(message, sizes[:-1])]
        for peer in self._others:
            theirs = np.split(self._receive_words(peer, message.size), sizes[:-1])
            for position, domain in enumerate(domains):
                opened[position] = domain.combine(opened[position], theirs[position])
        return [part.reshape(words.shape) for part, words in zip(opened, masked, strict=True)]

    def exchange_masked(self, value: Shared, wanted: Sequence[slice] | None = None) -> Exchanged:
        wanted = wanted or [slice(None)] * len(self.owners)
        mask = self.streams(self.next_number())[self.me].words(*value.shape)
        self.rounds += 1
        masked = value.words - mask
        for other, peer in enumerate(self.owners):
            if other != self.me and masked[wanted[other]].size:
                self.transport.send(peer, _octets(masked[wanted[other]]))
        total = value.words[wanted[self.me]].copy()
        for peer in self._others if total.size else ():
            total += self._receive_words(peer, total.size).reshape(total.shape)
        return Exchanged(value, total, None, wanted, self.me)

    def pass_masked(self, sender: int, receivers: Sequence[int], payload: Octets | None, size: int) -> Octets | None:
        self.rounds += 1
        if sender == self.me and payload is not None:
            for receiver in receivers:
                self.transport.send(self.owners[receiver], payload)
        elif self.me in receivers:
            return self.transport.receive(self.owners[sender], size)
        return None

    def share(self, owner: int, words: Words | None, shape: Shape) -> Shared:
        return Shared(self.holder, self._share(Domain.RING, owner, words, shape), shape)

    def share_bits(self, owner: int, words: Words | None, shape: Shape, count: int) -> SharedBits:
        return SharedBits(self.holder, self._share(Domain.BITS, owner, words, shape), count, shape)

    def disclose(self, value: Shared | SharedBits, to: str, what: str, why: str) -> Words | None:
        domain = Domain.RING if isinstance(value, Shared) else Domain.BITS
        self._enter(value, to, what, why)
        self.rounds += 1
        words = value.words if isinstance(value, Shared) else without_padding(value.words, value.count)
        fresh = domain.combine(words, self._zero_share(domain, value.shape))
        if to != self.transport.name:
            self.transport.send(to, _octets(fresh))
            return None
        total = fresh
        for peer in self._others:
            total = domain.combine(total, self._receive_words(peer, fresh.size).reshape(fresh.shape))
        return total

    def _publish(self, value: Shared | SharedBits) -> Words | None:
        domain = Domain.RING if isinstance(value, Shared) else Domain.BITS
        self.rounds += 1
        words = value.words if isinstance(value, Shared) else without_padding(value.words, value.count)
        fresh = np.ascontiguousarray(domain.combine(words, self._zero_share(domain, value.shape)))
        self._send_to_others(fresh)
        total = fresh
        for peer in self._others:
            total = domain.combine(total, self._receive_words(peer, fresh.size).reshape(fresh.shape))
        return total

    def _zero_share(self, domain: Domain, shape: Shape) -> Words:
        """This owner's share of zero: what it has in common with later owners minus what it has with earlier ones.

        R. Cramer, I. Damgard, Y. Ishai, "Share conversion, pseudorandom secret-sharing and applications to secure
        computation", TCC 2005. From keys between the owners, so that the dealer and the receiver together see no more
        than the sum.
        """
        number = self._disclosures
        self._disclosures += 1
        zero = np.zeros(shape, dtype=WORD)
        for other, key in self._pair_keys.items():
            common = Stream(key, number).words(*shape)
            zero = domain.combine(zero, common) if other > self.me else domain.remove(zero, common)
        return zero

    def _share(self, domain: Domain, owner: int, words: Words | None, shape: Shape) -> Words:
        self.rounds += 1
        if owner != self.me:
            size = math.prod(shape)
            return self._receive_words(self.owners[owner], size).reshape(shape)
        mine = np.ascontiguousarray(cast(Words, words)).reshape(shape)
        stream = Stream(self._input_key, self._inputs)
        self._inputs += 1
        for peer in self._others:
            theirs = stream.words(*shape)
            mine = domain.remove(mine, theirs)
            self.transport.send(peer, _octets(theirs))
        return mine

    def _send_to_others(self, words: Words) -> None:
        payload = _octets(words)
        for peer in self._others:
            self.transport.send(peer, payload)

    def _receive_words(self, peer: str, size: int) -> Words:
        return self.transport.receive(peer, size * WORD.itemsize).view(WORD)


def total_size(fields: Sequence[Field]) -> int:
    """Words of all of some fields."""
    return sum(field.size for field in fields)


def split_words(flat: Words, fields: Sequence[Field]) -> list[Words]:
    """Words that stand one after the other, as the arrays of some fields."""
    parts, start = [], 0
    for field in fields:
        parts.append(flat[start : start + field.size].reshape(field.shape))
        start += field.size
    return parts


def corrected_owner(number: int, owners: int) -> int:
    """The owner whose share of a correlation comes from the dealer: each in turn."""
    return number % owners


def _domain_of(value: Shared | SharedBits | SharedLanes) -> Domain:
    if isinstance(value, Shared):
        return Domain.RING
    return Domain.BITS if isinstance(value, SharedBits) else Domain.LANES


def without_padding(words: Words, count: int) -> Words:
    """Packed bits with the padding behind the last of `count` bits set to zero."""
    cleared = words.copy()
    if count % WORD_BITS:
        cleared[..., -1] &= np.uint64((1 << count % WORD_BITS) - 1)
    return cleared


def receive_disclosed(transport: Transport, owners: Sequence[str], field: Field) -> Words:
    """What a receiver outside the program (the analyst) does while the owners disclose an array to it."""
    total = np.zeros(field.shape, dtype=WORD)
    for peer in owners:
        words = transport.receive(peer, field.size * WORD.itemsize).view(WORD).reshape(field.shape)
        total = field.domain.combine(total, words)
    return total


def _octets(words: Words) -> Octets:
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8)

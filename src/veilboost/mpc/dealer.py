"""The dealer: runs the public program on hollow shares and makes the correlated randomness for it.

It receives nothing from the owners but their greetings: shapes and order are public, so it knows them itself. It runs
ahead of the owners as far as the transport lets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, cast

import numpy as np

from veilboost.mpc.correlations import AnyMask, Correlation, Mask
from veilboost.mpc.prg import Stream
from veilboost.mpc.ring import Words
from veilboost.mpc.session import Dealt, Exchanged, Opening, Session, corrected_owner, split_words, total_size
from veilboost.mpc.shares import Shape, Shared, SharedBits
from veilboost.mpc.transport.base import Octets, Transport


class DealerSession(Session):
    """The session of the dealer.

    Parameters
    ----------
    keys
        The keys of this epoch, one for each owner.
    """

    def __init__(self, transport: Transport, owners: Sequence[str], keys: Sequence[bytes]) -> None:
        super().__init__(transport, owners, transport.name, None)
        self._keys = tuple(keys)

    def streams(self, number: int) -> dict[int, Stream]:
        return {owner: Stream(key, number) for owner, key in enumerate(self._keys)}

    def correlate(self, correlation: Correlation) -> Dealt:
        number = self.next_number()
        corrected = corrected_owner(number, len(self.owners))
        masks, derived = correlation.masks, correlation.derived
        # Every owner draws its masks and, unless it is the one that is corrected, its parts of what is derived.
        drawn = {
            owner: split_words(stream.words(total_size(fields)), fields)
            for owner, stream in self.streams(number).items()
            for fields in ([*masks, *(() if owner == corrected else derived)],)
        }
        totals = drawn[0][: len(masks)]
        for owner in range(1, len(self.owners)):
            totals = [
                field.domain.combine(total, own)
                for field, total, own in zip(masks, totals, drawn[owner][: len(masks)], strict=True)
            ]
        earlier = [cast(Words, mask.total) for mask in correlation.earlier]
        values = correlation.derive(*totals, *earlier)
        corrections = []
        for position, (field, value) in enumerate(zip(derived, values, strict=True)):
            share = value
            for owner, words in drawn.items():
                if owner != corrected:
                    share = field.domain.remove(share, words[len(masks) + position])
            corrections.append(share.reshape(-1))
        if corrections:
            self._send(corrected, corrections[0] if len(corrections) == 1 else np.concatenate(corrections))
        hidden = [Mask(field.hold(None, None), total) for field, total in zip(masks, totals, strict=True)]
        return Dealt(cast("list[AnyMask]", hidden), [field.hold(None, None) for field in derived])

    def deal(self, receiver: int, make: Callable[[], Words], shape: Shape) -> Words | None:
        self._send(receiver, make())
        return None

    def open_masked(self, *openings: Opening) -> list[Words]:
        self._no_shares()

    def exchange_masked(self, value: Shared, wanted: Sequence[slice] | None = None) -> Exchanged:
        wanted = wanted or [slice(None)] * len(self.owners)
        streams = self.streams(self.next_number())
        return Exchanged(value, None, [stream.words(*value.shape) for stream in streams.values()], wanted, None)

    def pass_masked(self, sender: int, receivers: Sequence[int], payload: Octets | None, size: int) -> Octets | None:
        return None

    def share(self, owner: int, words: Words | None, shape: Shape) -> Shared:
        return Shared(None, None, shape)

    def share_bits(self, owner: int, words: Words | None, shape: Shape, count: int) -> SharedBits:
        return SharedBits(None, None, count, shape)

    def disclose(self, value: Shared | SharedBits, to: str, what: str, why: str) -> Words | None:
        self._enter(value, to, what, why)
        return None

    def _publish(self, value: Shared | SharedBits) -> Words | None:
        return None

    def _send(self, owner: int, words: Words) -> None:
        self.transport.send(self.owners[owner], np.ascontiguousarray(words).reshape(-1).view(np.uint8))

    def _no_shares(self) -> NoReturn:
        raise TypeError("the dealer holds no shares to open: return before this step where session.dealing")

"""What was sent to a peer and may have to be sent again."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from veilboost.errors import ProtocolError
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.frames import HEADER, Kind

#: What a frame costs beside its payload, about.
OVERHEAD = 256

_FIRST_RECORD = (1 << 14) - HEADER.size  # what of the payload fits a TLS record beside the header
_NOTHING = np.empty(0, dtype=np.uint8)


class Frame(NamedTuple):
    """A frame as it is written: header and beginning of the payload as one copy, the rest by reference."""

    head: bytes
    rest: Octets

    @property
    def memory(self) -> int:
        return len(self.head) + self.rest.nbytes + OVERHEAD


class Outbox:
    """Data frames sent to one peer, kept until it has acknowledged them. A frame sent again is the same bytes.

    Attributes
    ----------
    sent
        How many frames were made.
    acknowledged
        How many of them the peer has received.
    """

    def __init__(self, peer: str) -> None:
        self.sent = 0
        self.acknowledged = 0
        self._peer = peer
        self._kept: deque[Frame] = deque()
        # One thread adds frames and another one, which reads acknowledgements, removes them: a counter for each.
        self._added = self._removed = 0

    @property
    def memory(self) -> int:
        """Bytes of the frames that are kept."""
        return self._added - self._removed

    def add(self, payload: Octets, received: int) -> Frame:
        """Make the next frame; it says that `received` frames have come from the peer."""
        frame = make_frame(Kind.DATA, payload, self.sent, received)
        self._kept.append(frame)
        self._added += frame.memory
        self.sent += 1
        return frame

    def acknowledge(self, count: int) -> None:
        """Forget the first `count` frames of all; an earlier count is no news.

        Raises
        ------
        ProtocolError
            When fewer have been sent.
        """
        if count > self.sent:
            raise ProtocolError(
                f"{self._peer} acknowledged {count} frames where {self.sent} were sent: are both on the same version?"
            )
        while self.acknowledged < count:
            self._removed += self._kept.popleft().memory
            self.acknowledged += 1

    def unacknowledged(self) -> list[Frame]:
        """The frames that must be sent again after a lost connection, in order."""
        return list(self._kept)


def make_frame(kind: Kind, payload: Octets, sequence: int, received: int) -> Frame:
    """A frame of any kind."""
    header = HEADER.pack(kind, payload.nbytes, sequence, received)
    if payload.nbytes <= _FIRST_RECORD:
        return Frame(b"".join((header, payload.data)), _NOTHING)  # one record, one system call
    return Frame(b"".join((header, payload[:_FIRST_RECORD].data)), payload[_FIRST_RECORD:])

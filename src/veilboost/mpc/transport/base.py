"""What a session needs of a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]

#: The first frame from every peer is its greeting, and no larger than this many bytes.
LARGEST_GREETING = 4096


class Transport(Protocol):
    """Ordered, reliable frames between one participant and each of its peers.

    Attributes
    ----------
    name
        This participant.
    peers
        The others it is connected with.
    bytes_sent
        Payload and frame headers sent to each peer so far; what the transport sends for itself (heartbeats, frames a
        second time after a lost connection) is not counted, so that the numbers follow from the public program.
    """

    name: str
    peers: Sequence[str]
    bytes_sent: dict[str, int]

    def send(self, peer: str, payload: Octets) -> None:
        """Send one message.

        The payload must never be changed afterwards, not by its owner either: it may be sent again after a lost
        connection, and must then be the same bytes under the same mask.
        """

    def receive(self, peer: str, size: int) -> Octets:
        """The next message, which the public program says has `size` bytes.

        Raises
        ------
        PeerLost
            When the peer is gone or silent for too long.
        ProtocolError
            When the message is of another size.
        """

    def receive_text(self, peer: str, limit: int) -> bytes:
        """The next message, of at most `limit` bytes: only for the handshake."""

    def close(self, reason: str | None = None) -> None:
        """Leave; with a reason, tell the peers why."""

"""What a session needs of a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]


class Transport(Protocol):
    """Ordered, reliable frames between one participant and each of its peers.

    Attributes
    ----------
    name
        This participant.
    peers
        The others it is connected with.
    bytes_sent
        Payload and frame headers sent to each peer so far.
    """

    name: str
    peers: Sequence[str]
    bytes_sent: dict[str, int]

    def send(self, peer: str, payload: Octets) -> None:
        """Send one frame. The payload must not be changed afterwards."""

    def receive(self, peer: str, size: int) -> Octets:
        """The next frame's payload, which the public program says has `size` bytes.

        Raises
        ------
        PeerLost
            When the peer is gone or silent for too long.
        ProtocolError
            When the frame is of another size.
        """

    def receive_text(self, peer: str, limit: int) -> bytes:
        """The next frame's payload, of at most `limit` bytes: only for the handshake."""

    def close(self, reason: str | None = None) -> None:
        """Leave; with a reason, tell the peers why."""

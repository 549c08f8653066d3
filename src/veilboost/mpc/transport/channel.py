"""A channel: the two connections with a peer, one for each direction.

A connection is never read and written by two threads at once then, which TLS would not bear.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from dataclasses import dataclass

from veilboost.mpc.transport.outbox import Frame

_ACK_AGE = 56  # offset of tcpi_last_ack_recv, milliseconds, in Linux's struct tcp_info


@dataclass(frozen=True)
class Channel:
    """The two connections with one peer.

    Attributes
    ----------
    outgoing, incoming
        What we write to and what we read from.
    generation
        0 for the connections of the meeting, more for those after a loss.
    """

    outgoing: ssl.SSLSocket
    incoming: ssl.SSLSocket
    generation: int = 0

    def write(self, frame: Frame) -> None:
        """Write a frame; one thread at a time.

        Raises
        ------
        OSError, ValueError
            When the connection is lost or closed.
        """
        sent = self.outgoing.send(frame.head)
        if sent < len(frame.head):
            self.outgoing.sendall(frame.head[sent:])
        if frame.rest.nbytes:
            self.outgoing.sendall(frame.rest.data)

    def takes_more(self) -> bool:
        """Whether a small frame can be written without waiting."""
        return _ready(self.outgoing, select.POLLOUT)

    def has_more(self) -> bool:
        """Whether bytes have come that nobody has read."""
        return _ready(self.incoming, select.POLLIN)

    def reaches_machine(self, seconds: float) -> bool:
        """Whether the peer's machine has acknowledged anything in the last seconds; False where nobody can tell."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        try:
            info = self.outgoing.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            (milliseconds,) = struct.unpack_from("=I", info, _ACK_AGE)
        except (OSError, struct.error):
            return False
        return bool(milliseconds < 1000 * seconds)

    def hang_up(self) -> None:
        """Shut both connections down; threads that are blocked in them wake up."""
        hang_up(self.outgoing)
        hang_up(self.incoming)

    def stop_reading(self) -> None:
        """Wake the thread that reads; what is on its way to the peer still gets there."""
        hang_up(self.incoming, socket.SHUT_RD)

    def close(self) -> None:
        """Give the connections back; nobody may be using them any more."""
        self.outgoing.close()
        self.incoming.close()


def hang_up(connection: ssl.SSLSocket, how: int = socket.SHUT_RDWR) -> None:
    """Shut a connection down, so that threads blocked in it wake up.

    Not with the socket's own `shutdown`: that drops the encryption first, and what another thread is sending at this
    moment could leave in the clear.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, how)


def _ready(connection: ssl.SSLSocket, what: int) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, what)
    except ValueError:  # closed
        return False
    return bool(poll.poll(0))

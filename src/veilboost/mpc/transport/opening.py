"""Openings: what both sides say first on a connection, and who may speak at all.

Both sides show certificates of the job's authority. Then the dialling side says what the connection is for, and the
other one answers. Both name a token that they have drawn for this session with this peer and that nobody else knows: at
the meeting they learn each other's, after a lost connection they recognise each other by it. So another process with
the same certificate, a second or an old one, cannot take a place in a session that is running.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from secrets import token_bytes
from typing import Any

from veilboost.errors import PeerLost, PeerMismatch

#: What the dialling side does on a connection.
SENDS, RECEIVES = b"S", b"R"

_OPENING = struct.Struct("<c32sIQ")
_NOT_EXPECTED, _NOT_THIS_SESSION = b"N", b"X"
_TOKEN_BYTES = 32
_CONNECT_SECONDS = 3.0  # for a connection; a new attempt is sooner there than the old one's packets sent again
_STEP_SECONDS = 10.0  # for every step of a TLS handshake and of an opening
_PAUSE_SECONDS = 0.05
_CALLERS = 64  # who may be at it at once


@dataclass(frozen=True)
class Opening:
    """What one side says first.

    Attributes
    ----------
    direction
        What the dialling side does on the connection.
    token
        The speaker's, for its session with the other one.
    generation
        Of the channel that the connection belongs to.
    received
        How many frames the speaker has received from the other one in this session.
    """

    direction: bytes
    token: bytes = field(repr=False)
    generation: int = 0
    received: int = 0

    def to_bytes(self) -> bytes:
        return _OPENING.pack(self.direction, self.token, self.generation, self.received)

    @classmethod
    def read(cls, connection: ssl.SSLSocket) -> Opening:
        """Take an opening from a connection; ConnectionError at its end."""
        data = b""
        while len(data) < _OPENING.size:
            piece = connection.recv(_OPENING.size - len(data))
            if not piece:
                raise ConnectionError("it hangs up: does it run the same job, and no other one?")
            data += piece
        return cls(*_OPENING.unpack(data))


def draw_token() -> bytes:
    """A token for a session with one peer."""
    return token_bytes(_TOKEN_BYTES)


def same_token(one: bytes, other: bytes) -> bool:
    """Compare two tokens in a time that says nothing of them."""
    return compare_digest(one, other)


def call(
    peer: str, address: tuple[str, int], context: ssl.SSLContext, opening: Opening, timeout: float
) -> tuple[ssl.SSLSocket, Opening]:
    """Dial a peer once and return the connection with its answer.

    Raises
    ------
    PeerMismatch
        When somebody else answers, or the peer does not expect this participant: another attempt is of no use.
    PeerLost
        When the peer runs, but has no session with this process.
    OSError
        When nobody answers.
    """
    where = f"{address[0]}:{address[1]}"
    connection: ssl.SSLSocket | None = None
    plain = socket.create_connection(address, timeout=min(_CONNECT_SECONDS, timeout))
    try:
        plain.settimeout(min(_STEP_SECONDS, timeout))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = wrap(context, plain)
        found = common_name(connection)
        if found != peer:
            raise PeerMismatch(f"{where} should be {peer} but is {found or 'nameless'}: check the addresses")
        connection.sendall(opening.to_bytes())
        # The answer comes only after our certificate has been accepted.
        answer = Opening.read(connection)
        if answer.direction == _NOT_EXPECTED:
            raise PeerMismatch(f"{peer} at {where} expects no such participant: give both the same job file")
        if answer.direction == _NOT_THIS_SESSION:
            raise PeerLost(
                f"{peer} at {where} is another process than before, or busy with other ones: start all roles again"
            )
        if answer.direction != opening.direction:
            raise ConnectionError("it does not answer in kind: is it on the same version?")
        return connection, answer
    except ssl.SSLCertVerificationError as error:
        close(plain)
        raise PeerMismatch(
            f"{peer} at {where} shows a certificate of another authority ({error.verify_message}): "
            "use the certificates made for this job"
        ) from None
    except BaseException:
        close(connection)
        close(plain)
        raise


class Door:
    """The port of a participant.

    Parameters
    ----------
    listener
        From `connect.listen`.
    context
        For accepting.
    take
        Called in a thread of its own with the name, the opening and the connection of everybody who shows a certificate
        of the authority. It answers and returns True, or returns False to have the connection closed, or raises
        PeerMismatch for who is not in the job and PeerLost for who has no part in this session.

    Attributes
    ----------
    refused
        Why the last connection that got nowhere was refused; a hint when somebody does not come.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        take: Callable[[str, Opening, ssl.SSLSocket], bool],
    ) -> None:
        self.refused = ""
        self._closed = False
        self._listener, self._context, self._take = listener, context, take
        self._free = threading.BoundedSemaphore(_CALLERS)
        self._thread = threading.Thread(target=self._open, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join(_STEP_SECONDS)
        self._listener.close()

    def _open(self) -> None:
        """Take connections until the listener is shut; one thread each, so that a stalled stranger delays nobody."""
        while not self._closed:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                time.sleep(_PAUSE_SECONDS)  # no descriptor is free, say; or the door is being closed
                continue
            if self._free.acquire(blocking=False):
                threading.Thread(target=self._welcome, args=(plain,), name="caller", daemon=True).start()
            else:
                close(plain)

    def _welcome(self, plain: socket.socket) -> None:
        connection: ssl.SSLSocket | None = None
        taken = False
        try:
            plain.settimeout(_STEP_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = wrap(self._context, plain, server_side=True)
            opening = Opening.read(connection)
            try:
                taken = self._take(common_name(connection), opening, connection)
            except (PeerMismatch, PeerLost) as error:
                self.refused = str(error)
                refusal = _NOT_EXPECTED if isinstance(error, PeerMismatch) else _NOT_THIS_SESSION
                connection.sendall(Opening(refusal, bytes(_TOKEN_BYTES)).to_bytes())
        except ssl.SSLError:
            self.refused = "somebody has called without a certificate of this job's authority"
        except OSError:
            pass
        finally:
            self._free.release()
            if not taken:
                close(connection)
                close(plain)


def wrap(context: ssl.SSLContext, plain: socket.socket, server_side: bool = False) -> ssl.SSLSocket:
    """Shake hands over a connection; whatever comes of it, no socket stays open that nobody has.

    When the peer is gone already, `wrap_socket` may raise what it meets without closing the SSLSocket that has taken
    over the descriptor of `plain` (CPython 3.11 to 3.13). Only its own frame has it.
    """
    try:
        return context.wrap_socket(plain, server_side=server_side)
    except OSError as error:
        trace = error.__traceback__
        while trace is not None:
            made = trace.tb_frame.f_locals.get("self")
            if isinstance(made, ssl.SSLSocket):
                close(made)
            trace = trace.tb_next
        raise


def common_name(connection: ssl.SSLSocket) -> str:
    """The name in the peer's verified certificate; empty if there is none."""
    certificate = connection.getpeercert() or {}
    subject: Any = certificate.get("subject", ())
    return next((str(value) for part in subject for key, value in part if key == "commonName"), "")


def close(connection: socket.socket | None) -> None:
    """Close a connection, if there is one, whatever its state."""
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()

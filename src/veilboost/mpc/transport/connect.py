"""Meeting: how participants find each other before the first frame.

Participants are ordered; each dials those before it and listens for those after it, so only the last needs no
address. Who cannot show a certificate of the job's authority for an expected name gets no further than the TLS
handshake.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from veilboost.errors import InputError, PeerLost, PeerMismatch
from veilboost.mpc.transport.tls import Channel, TlsTransport

_RETRY_SECONDS = 0.05
_STEP_SECONDS = 10.0  # for a TLS handshake and the first byte
_SENDS, _RECEIVES = b"S", b"R"  # what the dialling side does on a connection


def listen(name: str, host: str, port: int) -> socket.socket:
    """Open the port of a participant.

    Raises
    ------
    InputError
        When it is in use or not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{name} cannot listen at {host}:{port} ({reason}): stop the program that uses the port, "
            "or change the address in the job file"
        ) from None
    return listener


def connect(
    name: str,
    order: Sequence[str],
    addresses: Mapping[str, tuple[str, int]],
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    listener: socket.socket | None,
    wait_seconds: float,
) -> TlsTransport:
    """Connect with all other participants.

    Parameters
    ----------
    name
        This participant.
    order
        All participants, in the same order everywhere.
    addresses
        Host and port of each participant but the last.
    contexts
        TLS contexts for accepting and for dialling.
    listener
        From `listen`; None at the last participant. It is closed at the end.
    wait_seconds
        How long to wait for all to be there.

    Raises
    ------
    PeerLost
        When a participant is not there in time; it is named.
    PeerMismatch
        When another participant answers at an address.
    """
    deadline = time.monotonic() + wait_seconds
    place = list(order).index(name)
    earlier, later = list(order[:place]), list(order[place + 1 :])
    accepted: dict[tuple[str, bytes], ssl.SSLSocket] = {}
    arrived = threading.Condition()
    stop = threading.Event()
    if listener is not None and later:
        threading.Thread(
            target=_accept, args=(listener, contexts[0], set(later), accepted, arrived, stop), daemon=True
        ).start()
    channels: dict[str, Channel] = {}
    try:
        for peer in earlier:
            outgoing = _dial(peer, addresses[peer], contexts[1], _SENDS, deadline)
            incoming = _dial(peer, addresses[peer], contexts[1], _RECEIVES, deadline)
            channels[peer] = Channel(outgoing, incoming)
        with arrived:
            for peer in later:
                while (peer, _SENDS) not in accepted or (peer, _RECEIVES) not in accepted:
                    if not arrived.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                        raise PeerLost(f"{peer} did not connect within {wait_seconds:g} seconds: is it started?")
                channels[peer] = Channel(outgoing=accepted[peer, _RECEIVES], incoming=accepted[peer, _SENDS])
    except BaseException:
        for connection in [c for channel in channels.values() for c in (channel.outgoing, channel.incoming)]:
            connection.close()
        raise
    finally:
        stop.set()
        if listener is not None:
            listener.close()
    return TlsTransport(name, {peer: channels[peer] for peer in order if peer != name})


def common_name(connection: ssl.SSLSocket) -> str:
    """The name in the peer's verified certificate; empty if there is none."""
    certificate = connection.getpeercert() or {}
    subject: Any = certificate.get("subject", ())
    return next((str(value) for part in subject for key, value in part if key == "commonName"), "")


def _dial(
    peer: str, address: tuple[str, int], context: ssl.SSLContext, direction: bytes, deadline: float
) -> ssl.SSLSocket:
    where = f"{address[0]}:{address[1]}"
    refused: str | None = None
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise PeerLost(f"{peer} does not answer at {where}: {refused or 'is it started?'}")
        try:
            plain = socket.create_connection(address, timeout=min(_STEP_SECONDS, remaining))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = context.wrap_socket(plain)
            found = common_name(connection)
            if found != peer:
                connection.close()
                raise PeerMismatch(f"{where} should be {peer} but is {found or 'nameless'}: check the addresses")
            connection.sendall(direction)
            # The answer comes only after our certificate has been accepted.
            if connection.recv(1) != direction:
                raise ConnectionError("closed by the other side")
            return connection
        except ssl.SSLCertVerificationError as error:
            raise PeerMismatch(
                f"{peer} at {where} shows a certificate of another authority ({error.verify_message}): "
                "use the certificates made for this job"
            ) from None
        except OSError as error:
            refused = None if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error))
            time.sleep(_RETRY_SECONDS)


def _accept(
    listener: socket.socket,
    context: ssl.SSLContext,
    expected: set[str],
    accepted: dict[tuple[str, bytes], ssl.SSLSocket],
    arrived: threading.Condition,
    stop: threading.Event,
) -> None:
    """Take connections until the listener is closed; one thread each, so that a stalled stranger delays nobody."""
    while not stop.is_set():
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_welcome, args=(plain, context, expected, accepted, arrived), daemon=True).start()


def _welcome(
    plain: socket.socket,
    context: ssl.SSLContext,
    expected: set[str],
    accepted: dict[tuple[str, bytes], ssl.SSLSocket],
    arrived: threading.Condition,
) -> None:
    try:
        plain.settimeout(_STEP_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_side=True)
        peer, direction = common_name(connection), connection.recv(1)
        with arrived:
            if peer in expected and direction in (_SENDS, _RECEIVES) and (peer, direction) not in accepted:
                connection.sendall(direction)
                accepted[peer, direction] = connection
                arrived.notify_all()
                return
        connection.close()
    except OSError:
        with contextlib.suppress(OSError):
            plain.close()

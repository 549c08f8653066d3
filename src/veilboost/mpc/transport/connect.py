"""Meeting: how participants find each other before the first frame.

Participants are ordered; each dials those before it and listens for those after it, so only the last needs no
address. Who cannot show a certificate of the job's authority for an expected name gets no further than the TLS
handshake. A participant that leaves before all have met ends the meeting of those that it was connected with.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from veilboost.errors import InputError, PeerLost, PeerMismatch
from veilboost.mpc.transport.tls import LARGEST_FRAME, Channel, TlsTransport

_RETRY_SECONDS = 0.05
_LOOK_SECONDS = 0.5  # how often to look whether those who are connected are still there
_STEP_SECONDS = 10.0  # for a TLS handshake and the first byte
_SENDS, _RECEIVES = b"S", b"R"  # what the dialling side does on a connection
_NOT_EXPECTED = b"N"


@dataclass
class _Arrivals:
    """Who has dialled this participant.

    Attributes
    ----------
    expected
        Names of those who may.
    connections
        By name and by what the dialling side does on it.
    refused
        Why the last connection that got nowhere was refused; a hint when somebody does not come.
    """

    expected: frozenset[str]
    connections: dict[tuple[str, bytes], ssl.SSLSocket] = field(default_factory=dict)
    refused: str = ""
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False


def listen(name: str, host: str, port: int) -> socket.socket:
    """Open the port of a participant.

    Raises
    ------
    InputError
        When it is in use or not an address of this machine.
    """
    listener: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        _close(listener)
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
        When a participant is not there in time, or leaves before all are there; it is named.
    PeerMismatch
        When another participant answers at an address, or runs a job in which this one does not take part.
    """
    deadline = time.monotonic() + wait_seconds
    place = list(order).index(name)
    earlier, later = list(order[:place]), list(order[place + 1 :])
    arrivals = _Arrivals(frozenset(later))
    if listener is not None and later:
        threading.Thread(target=_accept, args=(listener, contexts[0], arrivals), daemon=True).start()
    channels: dict[str, Channel] = {}
    try:
        for peer in earlier:
            outgoing = _dial(peer, addresses[peer], contexts[1], _SENDS, deadline, channels, arrivals)
            try:
                incoming = _dial(peer, addresses[peer], contexts[1], _RECEIVES, deadline, channels, arrivals)
            except BaseException:
                outgoing.close()
                raise
            channels[peer] = Channel(outgoing, incoming)
        _await(later, channels, arrivals, deadline, wait_seconds)
    except BaseException as error:
        with arrivals.changed:
            arrivals.over = True
        channels |= _arrived(arrivals)
        channels = {peer: channel for peer, channel in channels.items() if channel.incoming.fileno() >= 0}
        # Those who are here already learn why, rather than wait for us.
        reason = str(error) if isinstance(error, InputError | PeerLost | PeerMismatch) else f"{name} failed"
        TlsTransport(name, channels).close(reason)
        raise
    finally:
        with arrivals.changed:
            arrivals.over = True
            used = [c for channel in channels.values() for c in (channel.outgoing, channel.incoming)]
            for connection in arrivals.connections.values():
                if connection not in used:
                    connection.close()
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
    return TlsTransport(name, {peer: channels[peer] for peer in order if peer != name})


def _await(
    later: Sequence[str], channels: dict[str, Channel], arrivals: _Arrivals, deadline: float, wait_seconds: float
) -> None:
    """Wait for those who dial us and enter their channels."""
    while True:
        with arrivals.changed:
            channels |= _arrived(arrivals)
            absent = [peer for peer in later if peer not in channels]
            if not absent:
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                hint = f" ({arrivals.refused})" if arrivals.refused else ""
                raise PeerLost(f"{absent[0]} did not connect within {wait_seconds:g} seconds: is it started?{hint}")
            arrivals.changed.wait(min(_LOOK_SECONDS, remaining))
        _check_still_there(channels)


def _arrived(arrivals: _Arrivals) -> dict[str, Channel]:
    """The channels of those who have dialled both connections."""
    found = arrivals.connections
    return {
        peer: Channel(outgoing=found[peer, _RECEIVES], incoming=found[peer, _SENDS])
        for peer in sorted(arrivals.expected)
        if (peer, _RECEIVES) in found and (peer, _SENDS) in found
    }


def _check_still_there(channels: Mapping[str, Channel]) -> None:
    """Raise PeerLost when one of the connected participants has hung up, with its reason if it gave one."""
    if not hasattr(select, "POLLRDHUP"):
        return
    for peer, channel in channels.items():
        poll = select.poll()
        poll.register(channel.incoming, select.POLLRDHUP)
        if poll.poll(0):
            transport = TlsTransport("", {peer: channel})
            try:
                while True:  # past its greeting, if it got that far
                    transport.receive_text(peer, LARGEST_FRAME)
            finally:
                transport.close()


def common_name(connection: ssl.SSLSocket) -> str:
    """The name in the peer's verified certificate; empty if there is none."""
    certificate = connection.getpeercert() or {}
    subject: Any = certificate.get("subject", ())
    return next((str(value) for part in subject for key, value in part if key == "commonName"), "")


def _dial(
    peer: str,
    address: tuple[str, int],
    context: ssl.SSLContext,
    direction: bytes,
    deadline: float,
    channels: Mapping[str, Channel],
    arrivals: _Arrivals,
) -> ssl.SSLSocket:
    where = f"{address[0]}:{address[1]}"
    refused: str | None = None
    next_look = time.monotonic() + _LOOK_SECONDS
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise PeerLost(f"{peer} does not answer at {where}: {refused or 'is it started?'}")
        if time.monotonic() > next_look:
            next_look = time.monotonic() + _LOOK_SECONDS
            with arrivals.changed:
                here = {**channels, **_arrived(arrivals)}
            _check_still_there(here)
        connection: ssl.SSLSocket | None = None
        try:
            plain = socket.create_connection(address, timeout=min(_STEP_SECONDS, remaining))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = context.wrap_socket(plain)
            found = common_name(connection)
            if found != peer:
                raise PeerMismatch(f"{where} should be {peer} but is {found or 'nameless'}: check the addresses")
            connection.sendall(direction)
            # The answer comes only after our certificate has been accepted.
            answer = connection.recv(1)
            if answer == _NOT_EXPECTED:
                raise PeerMismatch(f"{peer} at {where} expects no such participant: give both the same job file")
            if answer != direction:
                raise ConnectionError("it hangs up: does it run the same job, and no other one?")
            return connection
        except ssl.SSLCertVerificationError as error:
            raise PeerMismatch(
                f"{peer} at {where} shows a certificate of another authority ({error.verify_message}): "
                "use the certificates made for this job"
            ) from None
        except PeerMismatch:
            _close(connection)
            raise
        except OSError as error:
            _close(connection)
            refused = None if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error))
            time.sleep(_RETRY_SECONDS)


def _close(connection: socket.socket | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, arrivals: _Arrivals) -> None:
    """Take connections until the listener is closed; one thread each, so that a stalled stranger delays nobody."""
    while not arrivals.over:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_welcome, args=(plain, context, arrivals), daemon=True).start()


def _welcome(plain: socket.socket, context: ssl.SSLContext, arrivals: _Arrivals) -> None:
    connection: ssl.SSLSocket | None = None
    try:
        plain.settimeout(_STEP_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_side=True)
        peer, direction = common_name(connection), connection.recv(1)
        if peer not in arrivals.expected:
            arrivals.refused = f"{peer} has called, which is not in this job file"
            connection.sendall(_NOT_EXPECTED)
        else:
            with arrivals.changed:
                free = not arrivals.over and (peer, direction) not in arrivals.connections
                if free and direction in (_SENDS, _RECEIVES):
                    connection.sendall(direction)
                    arrivals.connections[peer, direction] = connection
                    arrivals.changed.notify_all()
                    return
    except ssl.SSLError:
        arrivals.refused = "somebody has called without a certificate of this job's authority"
    except OSError:
        pass
    _close(connection)
    _close(plain)

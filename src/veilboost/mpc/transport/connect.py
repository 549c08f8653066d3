"""Meeting: how participants find each other before the first frame.

Participants are ordered; each dials those before it and listens for those after it, so only the last needs no
address. Who cannot show a certificate of the job's authority for an expected name gets no further than the TLS
handshake. A participant that leaves before all have met ends the meeting of those that it was connected with.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from veilboost.errors import InputError, PeerLost, PeerMismatch
from veilboost.mpc.transport.channel import Channel
from veilboost.mpc.transport.frames import LARGEST_FRAME
from veilboost.mpc.transport.opening import RECEIVES, SENDS, Door, Opening, call, close, draw_token, same_token
from veilboost.mpc.transport.reconnect import Way
from veilboost.mpc.transport.tls import RECONNECT_SECONDS, TlsTransport

_RETRY_SECONDS = 0.05
_LOOK_SECONDS = 0.5  # how often to look whether those who are connected are still there


@dataclass
class _Arrivals:
    """Who has dialled this participant.

    Attributes
    ----------
    expected
        Names of those who may, with our token for each.
    connections
        By name and by what the dialling side does on it.
    tokens
        Of those who have dialled.
    transport
        After the meeting: it takes who comes back.
    """

    expected: dict[str, bytes] = field(repr=False)
    connections: dict[tuple[str, bytes], ssl.SSLSocket] = field(default_factory=dict)
    tokens: dict[str, bytes] = field(default_factory=dict, repr=False)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False
    transport: TlsTransport | None = None

    def take(self, peer: str, opening: Opening, connection: ssl.SSLSocket) -> bool:
        """Take a connection; see `opening.Door`."""
        if peer not in self.expected:
            raise PeerMismatch(f"{peer} has called, which is not in this job file")
        if opening.generation > 0 and self.transport is not None:
            return self.transport.welcome_back(peer, opening, connection)
        with self.changed:
            known = same_token(self.tokens.get(peer, opening.token), opening.token)
            if (opening.generation > 0 and peer not in self.tokens) or (self.over and not known):
                raise PeerLost(f"{peer} has called from another process")
            known = known and opening.generation == 0
            free = not self.over and (peer, opening.direction) not in self.connections
            if not known or not free or opening.direction not in (SENDS, RECEIVES):
                return False
            connection.sendall(Opening(opening.direction, self.expected[peer]).to_bytes())
            self.tokens[peer] = opening.token
            self.connections[peer, opening.direction] = connection
            self.changed.notify_all()
        return True

    def channels(self) -> dict[str, Channel]:
        """The channels of those who have dialled both connections."""
        found = self.connections
        return {
            peer: Channel(outgoing=found[peer, RECEIVES], incoming=found[peer, SENDS])
            for peer in self.expected
            if (peer, RECEIVES) in found and (peer, SENDS) in found
        }


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
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name with a part that is empty or too long
        close(listener)
        reason, code = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
        if isinstance(error, socket.gaierror | UnicodeError):
            mend = "check the host's name in the job file"
        elif code == errno.EADDRNOTAVAIL:
            mend = f"start {name} on the machine that has this address, or change it in the job file"
        elif code == errno.EADDRINUSE:
            mend = "stop the program that uses the port, or change the address in the job file"
        else:
            mend = "change the address in the job file"
        raise InputError(f"{name} cannot listen at {host}:{port} ({reason}): {mend}") from None
    return listener


def connect(
    name: str,
    order: Sequence[str],
    addresses: Mapping[str, tuple[str, int]],
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    listener: socket.socket | None,
    wait_seconds: float,
    reconnect_seconds: float = RECONNECT_SECONDS,
    on_absent: Callable[[Sequence[str]], None] = lambda names: None,
    silence_seconds: float | None = None,
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
        From `listen`; None at the last participant. It is closed with the transport, since peers whose connection is
        lost come back; at the end of the meeting if they may not, or if nobody dials this participant.
    wait_seconds
        How long to wait for all to be there.
    reconnect_seconds
        For how long a lost connection may be made again; 0 for not at all.
    on_absent
        Called now and then with the names of those who are not there yet.
    silence_seconds
        How long a peer may be silent afterwards, if longer than usual: one that waits for somebody who does not connect
        with us says nothing meanwhile.

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
    arrivals = _Arrivals({peer: draw_token() for peer in later})
    door = Door(listener, contexts[0], arrivals.take) if listener is not None else None
    channels: dict[str, Channel] = {}
    ways: dict[str, Way] = {}
    transport: TlsTransport | None = None

    def look() -> None:
        with arrivals.changed:
            here = {**channels, **arrivals.channels()}
        _check_still_there(here)
        on_absent([peer for peer in order if peer != name and peer not in here])

    try:
        for peer in earlier:
            token = draw_token()
            outgoing, answer = _dial(peer, addresses[peer], contexts[1], SENDS, token, deadline, look)
            try:
                incoming, again = _dial(peer, addresses[peer], contexts[1], RECEIVES, token, deadline, look)
            except BaseException:
                outgoing.close()
                raise
            channels[peer] = Channel(outgoing, incoming)
            if not same_token(answer.token, again.token):
                raise PeerLost(f"{peer} was started anew in the middle of the meeting: start all roles again")
            ways[peer] = Way(addresses[peer], token, answer.token)
        _await(later, channels, arrivals, door, deadline, wait_seconds, look)
        ways |= {peer: Way(None, arrivals.expected[peer], arrivals.tokens[peer]) for peer in later}
        channels = {peer: channels[peer] for peer in order if peer != name}
        transport = TlsTransport(name, channels, ways, contexts[1], reconnect_seconds, silence_seconds)
    except BaseException as error:
        with arrivals.changed:
            arrivals.over = True
        channels |= arrivals.channels()
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
            arrivals.transport = transport
        if door is not None:
            if transport is not None and later and reconnect_seconds > 0:
                transport.door = door
            else:
                door.close()
    return transport


def _await(
    later: Sequence[str],
    channels: dict[str, Channel],
    arrivals: _Arrivals,
    door: Door | None,
    deadline: float,
    wait_seconds: float,
    look: Callable[[], None],
) -> None:
    """Wait for those who dial us and enter their channels."""
    while True:
        with arrivals.changed:
            channels |= arrivals.channels()
            absent = [peer for peer in later if peer not in channels]
            if not absent:
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                hint = f" ({door.refused})" if door is not None and door.refused else ""
                raise PeerLost(f"{absent[0]} did not connect within {wait_seconds:g} seconds: is it started?{hint}")
            arrivals.changed.wait(min(_LOOK_SECONDS, remaining))
        look()


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


def _dial(
    peer: str,
    address: tuple[str, int],
    context: ssl.SSLContext,
    direction: bytes,
    token: bytes,
    deadline: float,
    look: Callable[[], None],
) -> tuple[ssl.SSLSocket, Opening]:
    """Dial a peer until it answers; the connection and its opening."""
    refused: str | None = None
    next_look = time.monotonic() + _LOOK_SECONDS
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            where = f"{address[0]}:{address[1]}"
            raise PeerLost(f"{peer} does not answer at {where}: {refused or 'is it started?'}")
        if time.monotonic() > next_look:
            next_look = time.monotonic() + _LOOK_SECONDS
            look()
        try:
            return call(peer, address, context, Opening(direction, token), remaining)
        except OSError as error:
            refused = None if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error))
            time.sleep(_RETRY_SECONDS)

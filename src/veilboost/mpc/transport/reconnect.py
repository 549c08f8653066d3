"""Coming together again after a connection is lost: the side that dialled at the meeting dials, the other one answers.

Before either side says how many frames it has received, nothing can come any more from the connection that was lost
(`Link.fence`).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from veilboost.errors import ParticipantError, PeerLost, PeerMismatch, ProtocolError
from veilboost.mpc.transport.channel import Channel
from veilboost.mpc.transport.link import Link, Loss
from veilboost.mpc.transport.opening import RECEIVES, SENDS, Opening, call, close, same_token

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_STEP_SECONDS = 10.0
#: A machine that refuses a connection has no process of the peer any more, once it has done so for a while.
_REFUSED_SECONDS = 2.0


@dataclass(frozen=True)
class Way:
    """How to come together with a peer again.

    Attributes
    ----------
    address
        Where to dial it; None if it dials us.
    own_token, token
        Ours and the peer's, as drawn for this session.
    """

    address: tuple[str, int] | None
    own_token: bytes = field(repr=False)
    token: bytes = field(repr=False)


def redial(link: Link, way: Way, context: ssl.SSLContext, fail: Callable[[Link, ParticipantError], None]) -> None:
    """Dial a peer until the link is up again or at its end; call `fail` when there is no hope."""
    assert way.address is not None
    where = f"{way.address[0]}:{way.address[1]}"
    generation, pause = link.generation, _FIRST_PAUSE_SECONDS
    refused_since: float | None = None
    while link.waiting:
        generation += 1
        connections: list[ssl.SSLSocket] = []
        try:
            received = link.fence()
            answers = []
            for direction in (SENDS, RECEIVES):
                opening = Opening(direction, way.own_token, generation, received)
                connection, answer = call(link.peer, way.address, context, opening, _STEP_SECONDS)
                connections.append(connection)
                answers.append(answer)
                if not same_token(answer.token, way.token):
                    raise PeerLost(f"{link.peer} at {where} is another process than before: start all roles again")
            outgoing, incoming = connections
            link.use(Channel(outgoing, incoming, generation), answers[0].received)
            return
        except (PeerMismatch, PeerLost, ProtocolError) as error:
            _close_all(connections)
            fail(link, error)
            return
        except OSError as error:
            _close_all(connections)
            if not isinstance(error, ConnectionRefusedError):
                refused_since = None
            elif refused_since is None:
                refused_since = time.monotonic()
            elif time.monotonic() - refused_since > _REFUSED_SECONDS:
                fail(link, PeerLost(f"lost the connection to {link.peer}: nothing listens at {where} any more"))
                return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class Returning:
    """Peers that dial us again."""

    def __init__(
        self, links: Mapping[str, Link], ways: Mapping[str, Way], fail: Callable[[Link, ParticipantError], None]
    ) -> None:
        self._links, self._ways, self._fail = links, ways, fail
        self._locks = {peer: threading.Lock() for peer in links}
        self._halves: dict[str, tuple[int, dict[bytes, ssl.SSLSocket]]] = {peer: (0, {}) for peer in links}

    def take(self, peer: str, opening: Opening, connection: ssl.SSLSocket) -> bool:
        """Take a connection of a peer that comes back; False if it is of an attempt that is over.

        Raises
        ------
        PeerLost
            When the caller has no part in this session.
        """
        way, link = self._ways[peer], self._links[peer]
        if way.address is not None or not same_token(opening.token, way.token):
            raise PeerLost(f"{peer} has called from another process")
        if opening.direction not in (SENDS, RECEIVES):
            return False
        with self._locks[peer]:
            generation, halves = self._halves[peer]
            if opening.generation <= link.generation or opening.generation < generation or not link.running:
                return False
            if opening.generation > generation:
                _close_all(list(halves.values()))
                halves = {}
                self._halves[peer] = (opening.generation, halves)
            if opening.direction in halves:
                return False
            link.lose(None, Loss.HUNG_UP)  # we may not have noticed yet
            received = link.fence()
            connection.sendall(Opening(opening.direction, way.own_token, opening.generation, received).to_bytes())
            halves[opening.direction] = connection
            if len(halves) == 2:
                self._halves[peer] = (opening.generation, {})
                channel = Channel(halves[RECEIVES], halves[SENDS], opening.generation)
                try:
                    link.use(channel, opening.received)
                except ProtocolError as error:
                    channel.close()
                    self._fail(link, error)
            return True

    def close(self) -> None:
        """Close what has come but was not used."""
        for peer, lock in self._locks.items():
            with lock:
                _close_all(list(self._halves[peer][1].values()))


def _close_all(connections: list[ssl.SSLSocket]) -> None:
    for connection in connections:
        close(connection)

"""Participants as processes, on one machine or many: frames over mutually authenticated TLS 1.3.

A link with every peer (`link.py`) survives the loss of its connections for a while. A participant that is idle sends a
heartbeat every few seconds, so that a dead or silent one is noticed and named. The first failure of a link is the end
of the session, for all of them.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from veilboost.errors import ParticipantError, PeerLost
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.channel import Channel
from veilboost.mpc.transport.frames import HEADER, LARGEST_FRAME
from veilboost.mpc.transport.link import LARGE, READ_AHEAD, Link, Loss
from veilboost.mpc.transport.opening import Door, Opening
from veilboost.mpc.transport.reconnect import Returning, Way, redial

#: How long to try to come together again after a connection is lost, unless told otherwise.
RECONNECT_SECONDS = 60.0

_WATCH_SECONDS = 0.5
_HEARTBEAT_SECONDS = 4.0
_SILENCE_SECONDS = 20.0
_LEAVE_SECONDS = 2.0
#: When the peer's machine has closed the connection and the peer is one that dials, it does so at once if it lives.
_RETURN_SECONDS = 10.0
#: Of the silence: how long ago the peer's machine must have acknowledged something to count as alive.
_ALIVE_PART = 0.7


class TlsTransport:
    """One participant's connections; made by `connect.connect`.

    Parameters
    ----------
    name
        This participant.
    channels
        The connections with every peer, handshakes done and names checked.
    ways
        How to come together with each peer again; without, a lost connection is the end.
    context
        For dialling.
    reconnect_seconds
        How long to try that.
    silence_seconds
        How long a peer may be silent; None: as long as is usual.

    Attributes
    ----------
    door
        The port of this participant, which is closed at the end.
    on_notice
        Called, by any thread, with a sentence for the operator when a connection is lost or there again.
    """

    def __init__(
        self,
        name: str,
        channels: Mapping[str, Channel],
        ways: Mapping[str, Way] | None = None,
        context: ssl.SSLContext | None = None,
        reconnect_seconds: float = 0.0,
        silence_seconds: float | None = None,
    ) -> None:
        self.name = name
        self._longer_silence = silence_seconds or 0.0
        self.peers: Sequence[str] = tuple(channels)
        self.bytes_sent = dict.fromkeys(channels, 0)
        self.door: Door | None = None
        self.on_notice: Callable[[str], None] = lambda text: None
        self._ways = dict(ways or {})
        self._context = context
        self._reconnect_seconds = reconnect_seconds if self._ways else 0.0
        self._failure: ParticipantError | None = None
        self._failed_at = 0.0
        self._announced: set[str] = set()
        self._deciding = threading.Lock()
        self._leaving, self._over, self._news = threading.Event(), threading.Event(), threading.Event()
        self._links: dict[str, Link] = {}
        for peer, channel in channels.items():
            self._links[peer] = Link(peer, channel, self._on_loss, self._on_end)
        for link in self._links.values():
            link.start()
        self._returning = Returning(self._links, self._ways, self._fail)
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"TlsTransport(name={self.name!r}, peers={self.peers})"

    def send(self, peer: str, payload: Octets) -> None:
        link, size = self._links[peer], payload.nbytes
        if size >= LARGE:
            self._expect(size)  # all others may be sending as much, and wait for us to read
        for start in range(0, max(size, 1), LARGEST_FRAME):
            part = payload[start : start + LARGEST_FRAME] if size > LARGEST_FRAME else payload
            link.send(part)
            self.bytes_sent[peer] += part.nbytes + HEADER.size
        if size > READ_AHEAD:
            self._expect(0)

    def receive(self, peer: str, size: int) -> Octets:
        return self._links[peer].receive(size)

    def receive_text(self, peer: str, limit: int) -> bytes:
        return self._links[peer].receive_text(limit)

    def close(self, reason: str | None = None) -> None:
        if self._leaving.is_set():
            return
        self._leaving.set()
        for link in self._links.values():
            link.sender.say(reason, _LEAVE_SECONDS)
            link.leave()
        if reason is None:
            self._await_goodbyes()
        self._over.set()
        if self.door is not None:
            self.door.close()
        for link in self._links.values():
            link.shut()
        self._thread.join(_LEAVE_SECONDS)
        for link in self._links.values():
            link.close(_LEAVE_SECONDS)
        self._returning.close()

    def welcome_back(self, peer: str, opening: Opening, connection: ssl.SSLSocket) -> bool:
        """Take a connection of a peer that has lost one; see `opening.Door`."""
        return self._reconnect_seconds > 0 and self._returning.take(peer, opening, connection)

    def _expect(self, size: int) -> None:
        """Have every link read ahead at least so many bytes."""
        for link in self._links.values():
            link.expect(size)

    def _await_goodbyes(self) -> None:
        """Stay until the peers have left too, or after a while at least have all that we sent.

        A peer whose connection is lost at this moment comes back, and must hear that we are done.
        """
        deadline = time.monotonic() + _SILENCE_SECONDS
        while not all(
            link.left
            or link.failure is not None
            or (link.sender.outbox.memory == 0 and not link.waiting and time.monotonic() > deadline)
            for link in self._links.values()
        ):
            self._news.wait(_WATCH_SECONDS)
            self._news.clear()

    def _on_end(self, link: Link, failure: ParticipantError | None) -> None:
        if failure is not None:
            self._fail(link, failure)
        self._news.set()

    def _on_loss(self, link: Link) -> None:
        self._news.set()
        if self._failure is not None or self._over.is_set():
            return
        how, _ = link.lost or (Loss.BROKEN, 0.0)
        way = self._ways.get(link.peer)
        if way is None or self._reconnect_seconds == 0:
            self._fail(
                link, PeerLost(_silent(link.peer, self._patient_for) if how is Loss.SILENT else _lost(link.peer))
            )
            return
        if way.address is not None and self._context is not None:
            arguments = (link, way, self._context, self._fail)
            threading.Thread(target=redial, args=arguments, name=f"dial {link.peer}", daemon=True).start()

    def _patience(self, link: Link, how: Loss) -> float:
        """How long to wait for another connection."""
        way = self._ways.get(link.peer)
        dials = way is not None and way.address is None
        return (
            min(_RETURN_SECONDS, self._reconnect_seconds) if how is Loss.HUNG_UP and dials else self._reconnect_seconds
        )

    def _fail(self, link: Link, failure: ParticipantError) -> None:
        """A link is at its end, and so is the session, unless it is over anyway."""
        with self._deciding:
            if self._leaving.is_set():
                ended: Sequence[Link] = (link,)
            else:
                ended = tuple(self._links.values())
                if self._failure is None:
                    self._failure, self._failed_at = failure, time.monotonic()
        for one in ended:
            one.fail(self._failure or failure)
        link.sender.release()
        self._news.set()

    @property
    def _patient_for(self) -> float:
        """How long a peer may be silent, in seconds."""
        return max(self._longer_silence, _SILENCE_SECONDS)

    def _watch(self) -> None:
        while not self._over.wait(min(_WATCH_SECONDS, _HEARTBEAT_SECONDS / 2)):
            for link in self._links.values():
                link.sender.beat(_HEARTBEAT_SECONDS)
                if link.running:
                    self._check(link)
                elif self._failure is not None and time.monotonic() - self._failed_at > _LEAVE_SECONDS:
                    link.sender.release()

    def _check(self, link: Link) -> None:
        """Whether a link is silent, or lost for too long."""
        if link.up:
            if link.silence() > self._patient_for:
                if self._reconnect_seconds == 0 or link.reaches_machine(_ALIVE_PART * _SILENCE_SECONDS):
                    self._fail(
                        link, PeerLost(_silent(link.peer, self._patient_for))
                    )  # the network does its part: the peer hangs
                else:
                    link.lose(None, Loss.SILENT)
            elif link.unwritable() > _LEAVE_SECONDS:
                link.lose(None, Loss.BROKEN)
            elif link.peer in self._announced:
                self._announced.remove(link.peer)
                self.on_notice(f"connected with {link.peer} again")
        elif link.lost is not None:
            how, since = link.lost
            patience = self._patience(link, how)
            what = _silent(link.peer, self._patient_for) if how is Loss.SILENT else _lost(link.peer)
            if time.monotonic() - since > patience:
                self._fail(link, PeerLost(f"{what}, and there was no way back within {patience:g} seconds"))
            elif link.peer not in self._announced and not self._leaving.is_set():
                self._announced.add(link.peer)
                self.on_notice(f"{what}; it has {patience:g} seconds to come back")


def _silent(peer: str, seconds: float) -> str:
    return f"{peer} has been silent for {seconds:g} seconds"


def _lost(peer: str) -> str:
    return f"lost the connection to {peer}"

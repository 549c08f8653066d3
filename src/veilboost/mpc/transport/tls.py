"""Participants as processes, on one machine or many: frames over mutually authenticated TLS 1.3.

Every two participants keep two connections, one for each direction, so that no connection is read and written by two
threads at once. One thread per peer reads frames into memory; the dealer is held back when an owner has not used what
it sent. A participant that is idle sends a heartbeat every few seconds, so that a dead or silent one is noticed and
named.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from veilboost.errors import PeerLost, ProtocolError
from veilboost.mpc.transport.base import Octets

_HEADER = struct.Struct("<BxxxIQ")  # kind, sequence number, payload bytes
#: No frame is larger; what does not fit travels in several.
LARGEST_FRAME = 1 << 28
#: Unread bytes of one peer beyond which its connection is not read.
_READ_AHEAD = 256 << 20
_HEARTBEAT_SECONDS = 4.0
_SILENCE_SECONDS = 20.0
_LEAVE_SECONDS = 2.0
_LONGEST_REASON = 1000


class _Kind(IntEnum):
    DATA = 1
    HEARTBEAT = 2
    ABORT = 3
    BYE = 4


@dataclass
class Channel:
    """The two connections with one peer."""

    outgoing: ssl.SSLSocket
    incoming: ssl.SSLSocket


class TlsTransport:
    """One participant's connections; made by `connect.connect`.

    Parameters
    ----------
    name
        This participant.
    channels
        The connections with every peer, handshakes done and names checked.
    """

    def __init__(self, name: str, channels: Mapping[str, Channel]) -> None:
        self.name = name
        self.peers: Sequence[str] = tuple(channels)
        self.bytes_sent = dict.fromkeys(channels, 0)
        self._channels = dict(channels)
        self._locks = {peer: threading.Lock() for peer in channels}
        self._last_sent = dict.fromkeys(channels, time.monotonic())
        self._sequence = dict.fromkeys(channels, 0)
        self._steps = dict.fromkeys(channels, 0)
        self._frames: dict[str, deque[Octets]] = {peer: deque() for peer in channels}
        self._unread = dict.fromkeys(channels, 0)
        self._gone: set[str] = set()
        self._failure: PeerLost | ProtocolError | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._over = False
        self._threads: list[threading.Thread] = []
        for peer, channel in channels.items():
            channel.incoming.settimeout(_SILENCE_SECONDS)
            channel.outgoing.settimeout(None)
            self._threads.append(threading.Thread(target=self._read, args=(peer,), name=f"read {peer}", daemon=True))
        self._threads.append(threading.Thread(target=self._beat, name="heartbeat", daemon=True))
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        return f"TlsTransport(name={self.name!r}, peers={self.peers})"

    def send(self, peer: str, payload: Octets) -> None:
        if self._failure is not None and peer in self._gone:
            raise self._failure
        try:
            for start in range(0, max(1, payload.nbytes), LARGEST_FRAME):
                self._write(peer, _Kind.DATA, payload[start : start + LARGEST_FRAME])
        except OSError as error:
            failure = self._failure or PeerLost(f"lost the connection to {peer}")
            raise failure from error

    def receive(self, peer: str, size: int) -> Octets:
        if size <= LARGEST_FRAME:
            return self._receive_frame(peer, size)
        payload = np.empty(size, dtype=np.uint8)
        for start in range(0, size, LARGEST_FRAME):
            stop = min(size, start + LARGEST_FRAME)
            payload[start:stop] = self._receive_frame(peer, stop - start)
        return payload

    def _receive_frame(self, peer: str, size: int) -> Octets:
        frame = self._next(peer)
        if frame.nbytes != size:
            raise ProtocolError(
                f"{peer} sent a frame of {frame.nbytes} bytes where {size} were due, at step {self._steps[peer] - 1}: "
                "are both on the same version?"
            )
        return frame

    def receive_text(self, peer: str, limit: int) -> bytes:
        frame = self._next(peer)
        if frame.nbytes > limit:
            raise ProtocolError(f"{peer} sent a greeting of {frame.nbytes} bytes, more than {limit}")
        return frame.tobytes()

    def close(self, reason: str | None = None) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        kind, text = (_Kind.BYE, b"") if reason is None else (_Kind.ABORT, reason.encode()[:_LONGEST_REASON])
        for peer, channel in self._channels.items():
            with contextlib.suppress(OSError):
                if reason is not None:
                    channel.outgoing.settimeout(_LEAVE_SECONDS)
                if self._locks[peer].acquire(timeout=_LEAVE_SECONDS):
                    try:
                        self._write_locked(peer, kind, np.frombuffer(text, dtype=np.uint8))
                    finally:
                        self._locks[peer].release()
        if reason is None:
            self._await_goodbyes()
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for channel in self._channels.values():
            for connection in (channel.outgoing, channel.incoming):
                hang_up(connection)
        for thread in self._threads:
            thread.join(_LEAVE_SECONDS)  # a connection that a thread reads or writes must not be closed under it
        for channel in self._channels.values():
            channel.outgoing.close()
            channel.incoming.close()

    def _await_goodbyes(self) -> None:
        """Keep connections open until the peers have left too, so that what we sent is not lost."""
        deadline = time.monotonic() + _SILENCE_SECONDS
        with self._changed:
            while len(self._gone) < len(self.peers) and time.monotonic() < deadline:
                self._unread = dict.fromkeys(self.peers, 0)
                self._changed.notify_all()
                self._changed.wait(0.2)

    def _next(self, peer: str) -> Octets:
        frames = self._frames[peer]
        with self._changed:
            while not frames:
                if self._failure is not None:
                    raise self._failure
                if peer in self._gone:
                    raise PeerLost(f"{peer} left before the work was done: are both on the same version?")
                self._changed.wait()
            frame = frames.popleft()
            self._steps[peer] += 1
            self._unread[peer] -= frame.nbytes
            if self._unread[peer] + frame.nbytes > _READ_AHEAD:
                self._changed.notify_all()
        return frame

    def _write(self, peer: str, kind: _Kind, payload: Octets) -> None:
        with self._locks[peer]:
            self._write_locked(peer, kind, payload)

    def _write_locked(self, peer: str, kind: _Kind, payload: Octets) -> None:
        outgoing = self._channels[peer].outgoing
        header = _HEADER.pack(kind, self._sequence[peer], payload.nbytes)
        if kind is _Kind.DATA:
            self._sequence[peer] = (self._sequence[peer] + 1) % (1 << 32)
            self.bytes_sent[peer] += payload.nbytes + len(header)
        if payload.nbytes <= 8192:
            outgoing.sendall(header + payload.tobytes())  # one record, one system call
        else:
            outgoing.sendall(header)
            outgoing.sendall(payload.data)
        self._last_sent[peer] = time.monotonic()

    def _beat(self) -> None:
        nothing = np.empty(0, dtype=np.uint8)
        while not self._closing.wait(_HEARTBEAT_SECONDS / 2):
            for peer, lock in self._locks.items():
                if time.monotonic() - self._last_sent[peer] > _HEARTBEAT_SECONDS and lock.acquire(blocking=False):
                    try:
                        with contextlib.suppress(OSError, ValueError):
                            self._write_locked(peer, _Kind.HEARTBEAT, nothing)
                    finally:
                        lock.release()

    def _read(self, peer: str) -> None:
        connection = self._channels[peer].incoming
        expected = 0
        header = bytearray(_HEADER.size)
        try:
            while True:
                _fill(connection, memoryview(header))
                kind, sequence, size = _HEADER.unpack(header)
                if kind == _Kind.HEARTBEAT and size == 0:
                    continue
                if kind == _Kind.BYE and size == 0:
                    self._leave(peer, None)
                    return
                if kind == _Kind.ABORT and size <= _LONGEST_REASON:
                    reason = bytearray(size)
                    _fill(connection, memoryview(reason))
                    text = "".join(c if c.isprintable() else " " for c in reason.decode("utf-8", "replace"))
                    self._leave(peer, PeerLost(f"{peer} stopped: {text}"))
                    return
                if kind != _Kind.DATA or sequence != expected or size > LARGEST_FRAME:
                    raise ProtocolError(
                        f"{peer} sent an unexpected frame at step {expected}: are both on the same version?"
                    )
                expected = (expected + 1) % (1 << 32)
                payload = np.empty(size, dtype=np.uint8)
                _fill(connection, payload.data)
                with self._changed:
                    self._frames[peer].append(payload)
                    self._unread[peer] += size
                    self._changed.notify_all()
                    while self._unread[peer] > _READ_AHEAD and not self._over:
                        self._changed.wait()
        except TimeoutError:
            self._leave(peer, PeerLost(f"{peer} has been silent for {_SILENCE_SECONDS:g} seconds"))
        except (OSError, EOFError, ValueError):  # ValueError: closed by ourselves meanwhile
            self._leave(peer, PeerLost(f"lost the connection to {peer}"))
        except ProtocolError as error:
            self._leave(peer, error)

    def _leave(self, peer: str, failure: PeerLost | ProtocolError | None) -> None:
        with self._changed:
            self._gone.add(peer)
            if failure is not None and self._failure is None and not self._closing.is_set():
                self._failure = failure
            self._changed.notify_all()
        if failure is not None:
            # Wake a send that is blocked because the peer does not read.
            hang_up(self._channels[peer].outgoing)


def hang_up(connection: ssl.SSLSocket) -> None:
    """Shut a connection down, so that threads blocked in it wake up.

    Not with the socket's own `shutdown`: that drops the encryption first, and what another thread is sending at this
    moment could leave in the clear.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _fill(connection: ssl.SSLSocket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]

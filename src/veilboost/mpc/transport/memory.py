"""Participants as threads of one process: for tests, and for reading along what each participant receives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

from veilboost.errors import PeerLost, ProtocolError
from veilboost.mpc.transport.base import Octets

_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Message:
    """One frame as an eavesdropper at the receiver would log it."""

    sender: str
    receiver: str
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload)


class MemoryNetwork:
    """Queues between every two of the named participants; with `record`, every frame is kept in `messages`."""

    def __init__(self, names: Sequence[str], record: bool = False) -> None:
        self.names = tuple(names)
        self.record = record
        self.messages: list[Message] = []
        self.queues: dict[tuple[str, str], Queue[Octets | None]] = {
            (sender, receiver): Queue() for sender in names for receiver in names if sender != receiver
        }
        self._lock = threading.Lock()

    def transport(self, name: str) -> MemoryTransport:
        return MemoryTransport(self, name)

    def log(self, sender: str, receiver: str, payload: Octets) -> None:
        if self.record:
            with self._lock:
                self.messages.append(Message(sender, receiver, payload.tobytes()))

    def between(self, sender: str, receiver: str) -> list[Message]:
        """The recorded frames from one participant to another, in order."""
        return [m for m in self.messages if (m.sender, m.receiver) == (sender, receiver)]

    def run(self, program: Callable[[MemoryTransport], Any]) -> dict[str, Any]:
        """Run `program(transport)` as every participant at once and return what each returned."""

        def guarded(name: str) -> Any:
            transport = self.transport(name)
            try:
                return program(transport)
            except BaseException as error:
                transport.close(str(error))
                raise

        with ThreadPoolExecutor(len(self.names)) as pool:
            running = {name: pool.submit(guarded, name) for name in self.names}
        failures = [future.exception() for future in running.values() if future.exception() is not None]
        for failure in sorted(failures, key=lambda error: isinstance(error, PeerLost)):
            if failure is not None:
                raise failure  # the cause rather than the participants that lost a peer because of it
        return {name: future.result() for name, future in running.items()}


class MemoryTransport:
    """One participant's end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self.name = name
        self.peers = tuple(peer for peer in network.names if peer != name)
        self.bytes_sent = dict.fromkeys(self.peers, 0)
        self._network = network

    def send(self, peer: str, payload: Octets) -> None:
        self.bytes_sent[peer] += payload.nbytes
        self._network.log(self.name, peer, payload)
        self._network.queues[self.name, peer].put(payload.copy())

    def receive(self, peer: str, size: int) -> Octets:
        payload = self._next(peer)
        if payload.nbytes != size:
            raise ProtocolError(f"{peer} sent a frame of {payload.nbytes} bytes where {size} were due")
        return payload

    def receive_text(self, peer: str, limit: int) -> bytes:
        payload = self._next(peer)
        if payload.nbytes > limit:
            raise ProtocolError(f"{peer} sent a greeting of {payload.nbytes} bytes, more than {limit}")
        return payload.tobytes()

    def _next(self, peer: str) -> Octets:
        try:
            payload = self._network.queues[peer, self.name].get(timeout=_DEADLINE_SECONDS)
        except Empty:
            raise PeerLost(f"{peer} was silent for {_DEADLINE_SECONDS:g} seconds") from None
        if payload is None:
            raise PeerLost(f"{peer} left")
        return payload

    def close(self, reason: str | None = None) -> None:
        for peer in self.peers:
            self._network.queues[self.name, peer].put(None)

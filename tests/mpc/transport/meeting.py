"""Participants that meet over TLS in threads of one process, and peers of which a test writes every byte."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tests.processes.support import free_ports

from veilboost.errors import ParticipantError
from veilboost.jobs.certificates import load_tls, write_certificates
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.frames import HEADER
from veilboost.mpc.transport.link import Link
from veilboost.mpc.transport.opening import Opening, draw_token
from veilboost.mpc.transport.tls import RECONNECT_SECONDS, TlsTransport

NAMES = ("north", "south", "dealer")
DATA, HEARTBEAT, ABORT, BYE = 1, 2, 3, 4


class Place:
    """Certificates and addresses of NAMES."""

    def __init__(self, folder: Path) -> None:
        self.certificates = folder / "certs"
        write_certificates(NAMES, self.certificates)
        self.addresses = {name: ("127.0.0.1", port) for name, port in zip(NAMES, free_ports(len(NAMES)), strict=True)}
        #: Where others find a participant if not at its address.
        self.detours: dict[str, tuple[str, int]] = {}

    def connect(
        self,
        name: str,
        order: Sequence[str] = NAMES,
        wait_seconds: float = 10.0,
        reconnect_seconds: float = RECONNECT_SECONDS,
        **more: Any,
    ) -> TlsTransport:
        listener = listen(name, *self.addresses[name]) if name != order[-1] else None
        contexts = load_tls(self.certificates, name)
        addresses = {**self.addresses, **self.detours}
        return connect(name, order, addresses, contexts, listener, wait_seconds, reconnect_seconds, **more)

    def dial(self, name: str, to: str, first: Opening | bytes = b"") -> ssl.SSLSocket:
        """One raw connection with the certificate of `name`, and what it says first."""
        deadline = time.monotonic() + 10
        while True:
            try:
                plain = socket.create_connection(self.addresses[to], timeout=10)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        connection = load_tls(self.certificates, name)[1].wrap_socket(plain)
        connection.sendall(first if isinstance(first, bytes) else first.to_bytes())
        return connection


@contextlib.contextmanager
def met(
    place: Place, names: Sequence[str] = ("north", "south"), reconnect_seconds: float = RECONNECT_SECONDS
) -> Iterator[dict[str, TlsTransport]]:
    """Connected participants that have greeted each other with one byte; they hang up at the end."""
    transports = meet(place, names, reconnect_seconds)
    try:
        yield transports
    finally:
        for transport in transports.values():
            transport.close("the test is over")


def meet(place: Place, names: Sequence[str], reconnect_seconds: float = RECONNECT_SECONDS) -> dict[str, TlsTransport]:
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = {name: pool.submit(place.connect, name, names, reconnect_seconds=reconnect_seconds) for name in names}
        transports = {name: future.result() for name, future in waiting.items()}
    for one in transports.values():
        for peer in one.peers:
            one.send(peer, octets(1))
    for one in transports.values():
        for peer in one.peers:
            assert one.receive_text(peer, 1) == octets(1).tobytes()
    return transports


class Raw:
    """A peer that may send north any bytes: south's certificate, but none of its program."""

    def __init__(self, place: Place, reconnect_seconds: float = RECONNECT_SECONDS, **more: Any) -> None:
        self.token = draw_token()
        with ThreadPoolExecutor(1) as pool:
            given = {"reconnect_seconds": reconnect_seconds, **more}
            waiting = pool.submit(place.connect, "north", ("north", "south"), **given)
            (self.outgoing, answer), (self.incoming, again) = (
                self.open(place, direction) for direction in (b"S", b"R")
            )
            assert answer.token == again.token
            self.north_token = answer.token
            self.north = waiting.result()

    def open(
        self, place: Place, direction: bytes, generation: int = 0, received: int = 0
    ) -> tuple[ssl.SSLSocket, Opening]:
        connection = place.dial("south", "north", Opening(direction, self.token, generation, received))
        answer = Opening.read(connection)
        assert (answer.direction, answer.generation) == (direction, generation)
        return connection, answer

    def send(self, kind: int, sequence: int, payload: bytes, size: int | None = None, acknowledged: int = 0) -> None:
        header = HEADER.pack(kind, len(payload) if size is None else size, sequence, acknowledged)
        self.outgoing.sendall(header + payload)

    def close(self) -> None:
        self.north.close("the test is over")
        self.outgoing.close()
        self.incoming.close()


def link_to(transport: TlsTransport, peer: str) -> Link:
    return transport._links[peer]


def octets(count: int, seed: int = 0) -> Octets:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def in_background(work: Callable[[], object]) -> threading.Thread:
    def quietly() -> None:
        with contextlib.suppress(ParticipantError):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def leave_together(transports: Mapping[str, TlsTransport]) -> None:
    with ThreadPoolExecutor(len(transports)) as pool:
        for future in [pool.submit(transport.close) for transport in transports.values()]:
            future.result()


def own_threads(seconds: float = 5.0) -> list[str]:
    """Names of the threads of transports that still run after a while."""
    ours = ("read ", "dial ", "watch", "door", "caller")
    deadline = time.monotonic() + seconds
    while True:
        running = [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.05)

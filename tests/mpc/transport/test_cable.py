"""A cable that is pulled: participants in network namespaces of their own, on a virtual switch.

Nobody is told that anything is wrong then: packets are lost, and that is all. Needs Linux, root and iproute2.
"""

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.mpc.transport.meeting import Place, link_to, octets, own_threads

from veilboost.errors import PeerLost
from veilboost.mpc.transport import tls
from veilboost.mpc.transport.tls import TlsTransport

ADDRESSES = {"north": "10.213.0.1", "south": "10.213.0.2"}
PORT = 7101
SWITCH = "switch"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


class Cabinet:
    """A switch, and a cable to it from each participant's namespace."""

    def __init__(self) -> None:
        self._names = {name: f"veilboost-test-{os.getpid()}-{name}" for name in (*ADDRESSES, SWITCH)}
        self._made: list[str] = []

    def __enter__(self) -> "Cabinet":
        try:
            for name in self._names.values():
                ip("netns", "add", name)
                self._made.append(name)
            switch = self._names[SWITCH]
            ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", switch, "link", "set", "bridge", "up")
            for name, address in ADDRESSES.items():
                own = self._names[name]
                ip("link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", name, "netns", switch)
                ip("-n", own, "address", "add", f"{address}/24", "dev", "eth0")
                for link in ("lo", "eth0"):
                    ip("-n", own, "link", "set", link, "up")
                ip("-n", switch, "link", "set", name, "master", "bridge", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            ip("netns", "delete", name)

    def enter(self, name: str) -> None:
        """Put this thread, and those that it starts, into a participant's namespace."""
        library = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self._names[name]}") as file:
            if library.setns(file.fileno(), 0x40000000) != 0:  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), "setns")

    def pull(self) -> None:
        """South's cable out of the switch: south's own end does not notice."""
        self._port("nomaster")

    def plug(self) -> None:
        self._port("master", "bridge")

    def _port(self, *words: str) -> None:
        ip("-n", self._names[SWITCH], "link", "set", "south", *words)


@pytest.fixture
def cabinet() -> Iterator[Cabinet]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    made = Cabinet()
    try:
        made.__enter__()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")
    try:
        yield made
    finally:
        made.__exit__()
    assert own_threads(12) == []  # a connection attempt may take a while


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.4)


class Pair:
    """North and south, each with a thread of its own in its namespace."""

    def __init__(self, cabinet: Cabinet, folder: Path, reconnect_seconds: float) -> None:
        place = Place(folder)
        place.addresses |= {name: (address, PORT) for name, address in ADDRESSES.items()}
        self._pools = {name: ThreadPoolExecutor(1, initializer=cabinet.enter, initargs=(name,)) for name in ADDRESSES}
        order = tuple(ADDRESSES)
        waiting = {name: self.at(name, place.connect, name, order, 10.0, reconnect_seconds) for name in ADDRESSES}
        self.transports: dict[str, TlsTransport] = {name: future.result() for name, future in waiting.items()}
        self.exchange(8)

    def at(self, name: str, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._pools[name].submit(work, *arguments)

    def exchange(self, size: int) -> None:
        """Both send, both receive, and both get what was sent."""

        def talk(name: str, peer: str, seed: int) -> None:
            self.transports[name].send(peer, octets(size, seed))
            np.testing.assert_array_equal(self.transports[name].receive(peer, size), octets(size, 1 - seed))

        for future in [self.at("north", talk, "north", "south", 0), self.at("south", talk, "south", "north", 1)]:
            future.result(timeout=60)

    def close(self, reason: str | None = None) -> None:
        for future in [self.at(name, one.close, reason) for name, one in self.transports.items()]:
            future.result(timeout=60)
        for pool in self._pools.values():
            pool.shutdown()


def test_short_outage_needs_no_new_connection(cabinet: Cabinet, tmp_path: Path) -> None:
    pair = Pair(cabinet, tmp_path, 30.0)
    cabinet.pull()
    threading.Timer(0.6, cabinet.plug).start()
    pair.exchange(100_000)
    assert link_to(pair.transports["south"], "north").generation == 0
    pair.close()


def test_long_outage_is_survived(cabinet: Cabinet, tmp_path: Path) -> None:
    """The connections count as lost after the silence; new ones take their place once the cable is back."""
    pair = Pair(cabinet, tmp_path, 30.0)
    cabinet.pull()
    begin = time.monotonic()
    threading.Timer(3.5, cabinet.plug).start()
    pair.exchange(3_000_000)
    assert time.monotonic() - begin > 3.4
    assert link_to(pair.transports["south"], "north").generation > 0
    pair.exchange(10)
    pair.close()


@pytest.mark.parametrize(
    ("reconnect_seconds", "message"),
    [
        (0.0, "{} has been silent for 2 seconds"),
        pytest.param(
            1.0,
            "{} has been silent for 2 seconds, and there was no way back within 1 seconds",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_vanished_peer_is_named_in_time(
    cabinet: Cabinet, tmp_path: Path, reconnect_seconds: float, message: str
) -> None:
    """Half-open connections: the machine has gone without a word."""
    pair = Pair(cabinet, tmp_path, reconnect_seconds)
    cabinet.pull()
    begin = time.monotonic()
    waiting = {
        "south": pair.at("north", pair.transports["north"].receive, "south", 1),
        "north": pair.at("south", pair.transports["south"].receive, "north", 1),
    }
    for peer, future in waiting.items():
        with pytest.raises(PeerLost) as caught:
            future.result(timeout=30)
        assert str(caught.value) == message.format(peer)
        assert time.monotonic() - begin < 2.0 + reconnect_seconds + 2.5
    pair.close("the test is over")


@pytest.mark.slow
def test_sender_notices_that_its_peer_has_vanished(cabinet: Cabinet, tmp_path: Path) -> None:
    """Also in the middle of sending more than the connection holds."""
    pair = Pair(cabinet, tmp_path, 1.0)
    cabinet.pull()

    def send() -> None:
        for _ in range(100):
            pair.transports["north"].send("south", octets(1 << 20))

    with pytest.raises(PeerLost, match="south has been silent for 2 seconds"):
        pair.at("north", send).result(timeout=30)
    pair.close("the test is over")

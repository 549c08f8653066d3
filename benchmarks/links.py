"""One network namespace per role and links of given latency and rate between them; needs root and iproute2.

Two kinds of links:

- `veth`: a pair of virtual Ethernet devices from every role's namespace to a bridge in a namespace of its own, with
  `tc netem` for the latency. The kernel must have netem.
- `tun`: a TUN device in every role's namespace, and a router in this process that delays packets (`tun_router.py`).

Uploads and downloads of every role are limited to the rate, with a queue of 100 ms: uploads by `tc tbf` (or netem) in
the role's namespace, downloads by `tc tbf` at the bridge, or by the router.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tun_router import Router, open_tun

QUEUE_SECONDS = 0.1
_PREFIX = "veilboost-"
_DEVICE = "eth0"
_NETMASK = 24


class LinkError(Exception):
    """What this machine lacks, in one line."""


class Network:
    """A namespace for every role, all connected; removed at the end, whatever happens in between.

    Parameters
    ----------
    roles
        Names.
    round_trip_ms
        Between every two roles.
    rate_mbit
        Upload and download of every role.
    links
        "veth" or "tun".
    """

    def __init__(self, roles: Sequence[str], round_trip_ms: float, rate_mbit: float, links: str) -> None:
        self.addresses = {role: f"10.77.0.{number}" for number, role in enumerate(roles, start=1)}
        self._one_way_ms, self._rate, self._links = round_trip_ms / 2, rate_mbit, links
        self._hub = f"{_PREFIX}{os.getpid()}-hub"
        self._router: Router | None = None

    def __enter__(self) -> Self:
        check_machine(self._links)
        remove_leftovers()
        try:
            if self._links == "veth":
                self._connect_by_bridge()
            else:
                self._connect_by_router()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._router is not None:
            self._router.close()
            self._router = None
        _remove(name for name in _namespaces() if name.startswith(f"{_PREFIX}{os.getpid()}-"))

    def command(self, role: str, words: Sequence[str]) -> list[str]:
        """The command that runs `words` in the namespace of a role."""
        return ["ip", "netns", "exec", self._namespace(role), *words]

    @property
    def dropped(self) -> int:
        """Packets that the router dropped so far."""
        return self._router.dropped if self._router is not None else 0

    def _namespace(self, role: str) -> str:
        return f"{_PREFIX}{os.getpid()}-{role}"

    def _connect_by_bridge(self) -> None:
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")
        for number, role in enumerate(self.addresses, start=1):
            port = f"port{number}"
            _ip("netns", "add", self._namespace(role))
            _ip(
                "-n",
                self._hub,
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                _DEVICE,
                "netns",
                self._namespace(role),
            )
            _ip("-n", self._hub, "link", "set", port, "master", "bridge", "up")
            _limit(self._hub, port, self._rate)
            if self._one_way_ms:
                packets = 1000 + round((self._one_way_ms / 1000 + QUEUE_SECONDS) * self._rate * 1e6 / 12_000)
                _netem(self._namespace(role), _DEVICE, self._one_way_ms, self._rate, packets)
            else:
                _limit(self._namespace(role), _DEVICE, self._rate)
            self._start_device(role)

    def _connect_by_router(self) -> None:
        devices = {}
        for number, (role, address) in enumerate(self.addresses.items(), start=1):
            _ip("netns", "add", self._namespace(role))
            name = f"vb{os.getpid() % 10**7}.{number}"
            devices[bytes(map(int, address.split(".")))] = open_tun(name)
            _ip("link", "set", name, "netns", self._namespace(role), "name", _DEVICE)
            _limit(self._namespace(role), _DEVICE, self._rate)
            self._start_device(role)
        self._router = Router(devices, self._one_way_ms / 1000, self._rate * 1e6, QUEUE_SECONDS)

    def _start_device(self, role: str) -> None:
        namespace = self._namespace(role)
        _ip("-n", namespace, "address", "add", f"{self.addresses[role]}/{_NETMASK}", "dev", _DEVICE)
        _ip("-n", namespace, "link", "set", _DEVICE, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")


def check_machine(links: str) -> None:
    """Say in one line what is missing."""
    if os.geteuid() != 0:
        raise LinkError("network namespaces need root: start it as root")
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            raise LinkError(f"there is no '{program}': install Debian's iproute2")
    if links == "tun" and not Path("/dev/net/tun").exists():
        raise LinkError("this kernel has no /dev/net/tun: try --links veth")


def has_netem() -> bool:
    """Whether `tc qdisc add ... netem` works here, tried in a namespace of its own."""
    check_machine("veth")
    namespace = f"{_PREFIX}{os.getpid()}-try"
    try:
        _ip("netns", "add", namespace)
        _netem(namespace, "lo", 1, 1000, 1000)
    except LinkError:
        return False
    finally:
        _remove([namespace])
    return True


def remove_leftovers() -> None:
    """Remove namespaces of earlier runs that were killed."""
    for name in _namespaces():
        owner = re.fullmatch(re.escape(_PREFIX) + r"(\d+)-\w+", name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _remove([name])


def _namespaces() -> list[str]:
    folder = Path("/run/netns")
    return [path.name for path in folder.iterdir() if path.name.startswith(_PREFIX)] if folder.exists() else []


def _remove(names: Iterable[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _limit(namespace: str, device: str, rate_mbit: float) -> None:
    # A bucket of 1 ms, but at least of half a large packet: larger ones are cut into segments.
    burst = max(32_000, round(rate_mbit * 1e6 / 8 / 1000))
    rate = f"{rate_mbit:g}mbit"
    words = ["root", "tbf", "rate", rate, "burst", str(burst), "latency", f"{round(QUEUE_SECONDS * 1000)}ms"]
    _run(["ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, *words])


def _netem(namespace: str, device: str, delay_ms: float, rate_mbit: float, packets: int) -> None:
    words = ["root", "netem", "delay", f"{delay_ms:g}ms", "rate", f"{rate_mbit:g}mbit", "limit", str(packets)]
    _run(["ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, *words])


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"'{' '.join(words)}' failed: {' '.join(done.stderr.split())}")


def probe(network: Network) -> dict[str, float]:
    """Round-trip time (median of 20, milliseconds) and rate (Mbit/s) of one TCP connection from the first role on."""
    first, second = list(network.addresses)[:2]
    program = [sys.executable, str(Path(__file__).with_name("link_probe.py"))]
    address = network.addresses[second]
    with subprocess.Popen(network.command(second, [*program, "answer", address]), stdout=subprocess.PIPE) as answering:
        assert answering.stdout is not None
        answering.stdout.readline()
        seconds = "1.5"
        asked = subprocess.run(
            network.command(first, [*program, "ask", address, seconds]), capture_output=True, text=True, check=True
        )
    round_trip, rate = map(float, asked.stdout.split())
    return {"round_trip_ms": round_trip, "rate_mbit": rate}

"""A router in this process that delays packets, for kernels without `tc netem`.

Every role's namespace has a TUN device, whose other end is here: packets that leave it are read, held for half the
round-trip time, and written to the device of the role that they are addressed to. TCP, its windows and its slow start
are the kernel's own. Packets keep their segmentation offload, as between two virtual machines, so that up to 64 kB
pass at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import select
import struct
import threading
import time
from collections.abc import Mapping

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_HEADER_BYTES = 10  # struct virtio_net_hdr
_LARGEST_PACKET = 1 << 17


def open_tun(name: str) -> int:
    """Make a TUN device in the current namespace, and the descriptor of its other end."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


class Router:
    """Forwards between TUN devices in a thread of its own.

    Parameters
    ----------
    devices
        Descriptor by IPv4 address (4 bytes). They are closed at the end.
    delay
        Seconds that every packet is held.
    rate
        Bits per second that a receiver can take; packets that would have to wait longer than `queue` seconds for
        others to the same receiver are dropped.
    """

    def __init__(self, devices: Mapping[bytes, int], delay: float, rate: float, queue: float) -> None:
        self.dropped = 0
        self._devices = dict(devices)
        self._delay, self._rate, self._queue = delay, rate, queue
        self._waking, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="router", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        for descriptor in (*self._devices.values(), self._waking, self._wake):
            os.close(descriptor)

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        free = dict.fromkeys(self._devices, 0.0)
        read_from = [self._waking, *self._devices.values()]
        number = 0
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select(read_from, [], [], timeout)
            if self._waking in ready:
                return
            for device in ready:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet = os.read(device, _LARGEST_PACKET)
                        address = packet[_HEADER_BYTES + 16 : _HEADER_BYTES + 20]
                        if packet[_HEADER_BYTES] >> 4 != 4 or address not in free:
                            continue  # IPv6 looking for neighbours, multicast
                        arrival = time.monotonic() + self._delay
                        due = max(arrival, free[address])
                        if due - arrival > self._queue:
                            self.dropped += 1
                            continue
                        free[address] = due + 8 * len(packet) / self._rate
                        number += 1
                        heapq.heappush(waiting, (free[address], number, self._devices[address], packet))
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, device, packet = heapq.heappop(waiting)
                os.write(device, packet)

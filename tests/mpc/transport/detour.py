"""A way between two participants that can be cut and blocked: a TCP proxy on loopback."""

import contextlib
import select
import socket
import struct
import threading
import time

_TICK = 0.02


class Detour:
    """Forwards connections to an address, until told otherwise.

    Attributes
    ----------
    address
        Where it listens.
    forwarding
        Cleared, it keeps connections open and lets nothing through.
    connections
        How many have been made.
    forwarded
        Bytes, in both directions.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.forwarding = threading.Event()
        self.forwarding.set()
        self.connections = self.forwarded = 0
        self._open: set[socket.socket] = set()
        self._reset = True
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, args=(self._listener,), daemon=True)]
        self._threads[0].start()

    def cut(self, reset: bool = True) -> None:
        """End all connections, with a reset or in good order."""
        with self._lock:
            self._reset, self._open = reset, set()
        time.sleep(2 * _TICK)

    def shut(self) -> None:
        """Refuse connections from now on; those that are there stay."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def reopen(self) -> None:
        self._listener = socket.create_server(self.address)
        self._threads.append(threading.Thread(target=self._accept, args=(self._listener,), daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        self.shut()
        self.forwarding.set()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            try:
                called = socket.create_connection(self._target, timeout=5)
            except OSError:
                caller.close()
                continue
            for one in (caller, called):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            with self._lock:
                self._open.add(caller)
            self._threads.append(threading.Thread(target=self._forward, args=(caller, called), daemon=True))
            self._threads[-1].start()

    def _forward(self, caller: socket.socket, called: socket.socket) -> None:
        other = {caller: called, called: caller}
        pending = {caller: b"", called: b""}  # what goes to each of them
        for one in other:
            one.setblocking(False)
        try:
            while caller in self._open:
                if not self.forwarding.is_set():
                    time.sleep(_TICK)
                    continue
                sources = [one for one in other if not pending[other[one]]]
                readable, writable, _ = select.select(sources, [one for one in other if pending[one]], [], _TICK)
                for one in readable:
                    pending[other[one]] = one.recv(1 << 16)
                    if not pending[other[one]]:
                        return
                for one in writable:
                    sent = one.send(pending[one])
                    pending[one] = pending[one][sent:]
                    self.forwarded += sent
        except OSError:  # one side has gone
            pass
        finally:
            with self._lock:
                cut = caller not in self._open
                self._open.discard(caller)
            for one in other:
                if cut and self._reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()

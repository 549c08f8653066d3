"""Measure a link with one TCP connection: `answer ADDRESS` at one end, `ask ADDRESS SECONDS` at the other."""

from __future__ import annotations

import socket
import statistics
import sys
import time

_PORT = 7199
_TIMES = 20


def answer(address: str) -> None:
    with socket.create_server((address, _PORT)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_TIMES):
            connection.sendall(connection.recv(1))
        count, began = 0, None
        while data := connection.recv(1 << 20):
            if began is None:
                began = time.perf_counter()
            else:
                count += len(data)
        assert began is not None
        connection.sendall(f"{count} {time.perf_counter() - began}\n".encode())


def ask(address: str, seconds: float) -> None:
    with socket.create_connection((address, _PORT), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            connection.sendall(b"x")
            connection.recv(1)
            times.append(time.perf_counter() - began)
        block, until = bytes(1 << 16), time.perf_counter() + seconds
        while time.perf_counter() < until:
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        count, took = map(float, connection.recv(100).split())
    print(1000 * statistics.median(times), 8 * count / took / 1e6)


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2])
    else:
        ask(sys.argv[2], float(sys.argv[3]))

"""Matching rows by id between two parties in two processes: seconds, and bytes that each sends.

python benchmarks/alignment.py --ids 100000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes

import numpy as np
from environment import environment

from veilboost.jobs.alignment import Matching, align
from veilboost.jobs.grid import Grid
from veilboost.mpc.transport.base import Octets

COLUMNS = {"clinic": ["age", "ill"], "insurer": ["drugs"]}


class Pipe:
    """A transport over one socket, without TLS: what matching itself takes."""

    def __init__(self, name: str, peer: str, link: socket.socket) -> None:
        self.name, self.peers, self.bytes_sent = name, [peer], {peer: 0}
        self._link, self._writer = link, ThreadPoolExecutor(1)

    def send(self, peer: str, payload: Octets) -> None:
        """Have the bytes written, in order."""
        self._writer.submit(self._link.sendall, payload.tobytes())
        self.bytes_sent[peer] += payload.size

    def receive(self, peer: str, size: int) -> Octets:
        """The next bytes."""
        received = bytearray()
        while len(received) < size:
            received += self._link.recv(size - len(received))
        return np.frombuffer(bytes(received), dtype=np.uint8)

    def receive_text(self, peer: str, limit: int) -> bytes:
        """Not used."""
        raise NotImplementedError

    def close(self, reason: str | None = None) -> None:
        """Leave."""
        self._link.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=100_000, help="of each party; half of them common")
    count = parser.parse_args().ids
    matching = Matching(tuple(COLUMNS), Grid.of(COLUMNS, "job", str), ("clinic",), False)
    links = socket.socketpair()
    results: multiprocessing.Queue[dict[str, object]] = multiprocessing.Queue()

    def run(name: str, peer: str, link: socket.socket, first: int) -> None:
        transport = Pipe(name, peer, link)
        started = time.perf_counter()
        found = align(transport, matching, [f"patient {n}" for n in range(first, first + count)], token_bytes(32), b"j")
        results.put(
            {
                "party": name,
                "seconds": time.perf_counter() - started,
                "processor_seconds": time.process_time(),
                "bytes_sent": transport.bytes_sent[peer],
                "rows": found.block_rows[0],
            }
        )

    context = multiprocessing.get_context("fork")
    ends = (("clinic", "insurer", links[0], 0), ("insurer", "clinic", links[1], count // 2))
    processes = [context.Process(target=run, args=end) for end in ends]
    for process in processes:
        process.start()
    measured = [results.get() for _ in processes]
    for process in processes:
        process.join()
    print(json.dumps({"ids": count, "parties": measured, "environment": environment()}, indent=2))


if __name__ == "__main__":
    main()

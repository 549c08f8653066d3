"""Row alignment by id on made-up ids: seconds, processor seconds, bytes and peak memory per owner, as JSON.

Two owners, each a process of its own, over TLS on loopback; half of each one's ids are the other's too.

    python benchmarks/alignment.py --rows 100000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from made_up import free_ports

from veilboost.jobs.alignment import GridPlan, align
from veilboost.jobs.certificates import load_tls, write_certificates
from veilboost.jobs.run import peak_memory
from veilboost.mpc.transport.connect import connect, listen

NAMES = ("hospital", "insurer")
PLAN = GridPlan(NAMES, (NAMES,), (NAMES[0],))
JOB_HASH = bytes(32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="ids of each owner")
    parser.add_argument("--join", choices=("inner", "left"), default="inner")
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.rows, chosen.join), indent=2))


def measure(rows: int, join: str) -> dict[str, Any]:
    """Align two tables and say what it cost."""
    with tempfile.TemporaryDirectory() as scratch:
        certificates = Path(scratch) / "certs"
        write_certificates(NAMES, certificates)
        addresses = {name: ("127.0.0.1", port) for name, port in zip(NAMES, free_ports(len(NAMES)), strict=True)}
        with multiprocessing.get_context("spawn").Pool(len(NAMES)) as pool:
            running = [pool.apply_async(run_owner, (name, certificates, addresses, rows, join)) for name in NAMES]
            owners = dict(zip(NAMES, (process.get(timeout=3600) for process in running), strict=True))
    return {
        "rows": rows,
        "join": join,
        "seconds": max(owner["seconds"] for owner in owners.values()),
        "owners": owners,
        "environment": environment(),
    }


def run_owner(
    name: str, certificates: Path, addresses: dict[str, tuple[str, int]], rows: int, join: Any
) -> dict[str, Any]:
    """One owner, from the moment when both have met."""
    start = rows // 2 if name == NAMES[1] else 0
    ids = [f"patient {number}" for number in range(start, start + rows)]
    listener = listen(name, *addresses[name]) if name == NAMES[0] else None
    transport = connect(name, NAMES, addresses, load_tls(certificates, name), listener, 60.0, 60.0)
    for peer in transport.peers:  # the first message may not be larger than a greeting
        transport.send(peer, np.zeros(1, dtype=np.uint8))
        transport.receive_text(peer, 1)
    before, wall = _processor_seconds(), time.perf_counter()
    outcome = align(transport, PLAN, name, ids, bytes(32), JOB_HASH, join)
    seconds, processor_seconds = time.perf_counter() - wall, _processor_seconds() - before
    sent = dict(transport.bytes_sent)
    transport.close()
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "rows": list(outcome.block_rows),
        "bytes_sent": sent,
        "peak_memory_bytes": peak_memory(),
    }


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()

"""What does one more client cost the aggregators? Simulated clients, real boxes, signatures, checks and sums.

    python benchmarks/aggregation.py [--clients 10 1000 10000] [--words 128] [--questions 5] [--json FILE] [--table]

Every client seals an update of so many words for two aggregators, which run in threads of this process with their
dealer; what the clients do is taken out. 128 words are the sums of a tree of depth 6 in mode leaf_sums; the last level
of such a tree in mode histograms has 102,400 words at 50 columns of 64 bins. Each number of clients runs in a process
of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np
from environment import environment

from veilboost.federated.gather import BATCH, Gatherer
from veilboost.federated.keys import ClientRing
from veilboost.federated.messages import Answer, Question
from veilboost.federated.range_checks import RangeChecks
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.identity import CertificateIdentity
from veilboost.jobs.process import peak_memory
from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.prg import KEY_BYTES
from veilboost.mpc.session import OwnerSession
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport

AGGREGATORS = ("first", "second")
DEALER = "dealer"
JOB = bytes(32)
ROWS = 1000


class Simulated:
    """Clients that answer whatever they are asked with the same numbers, and the time that they take for it."""

    def __init__(self, names: list[str], identity: CertificateIdentity, words: int) -> None:
        # All have one certificate in this benchmark, so that making them does not take longer than the rest.
        self._rings = {name: ClientRing(identity, JOB, name, ROWS, AGGREGATORS) for name in names}
        self._update = np.arange(words, dtype=np.uint64)
        self.seconds = 0.0
        self.bytes_received = 0

    def ask(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        started = time.thread_time()
        answers = {}
        for name, data in questions.items():
            question, ring = Question.from_bytes(data), self._rings[name]
            if question.kind == "hello":
                answers[name] = Answer({**ring.begin(question.content), "trees": 0}).to_bytes()
            else:
                box = ring.share(question.serial, data, self._update)
                answers[name] = Answer({"serial": question.serial}, box).to_bytes()
        self.bytes_received = max(map(len, answers.values()))
        self.seconds += time.thread_time() - started
        return answers

    def close(self) -> None:
        """Nothing is open."""


class OneForAll:
    """The identity of an aggregator that takes every client's certificate to be that client's."""

    def __init__(self, own: CertificateIdentity) -> None:
        self._own = own
        self.certificate = own.certificate

    def sign(self, data: bytes) -> bytes:
        return self._own.sign(data)

    def verify(self, name: str, certificate: str, data: bytes, signature: bytes) -> bool:
        return self._own.verify("client", certificate, data, signature)


def measure(clients: int, words: int, questions: int) -> dict[str, Any]:
    """Seconds of an aggregator's processor for each client, and peak memory."""
    names = [f"client{number}" for number in range(clients)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "certs"
        write_certificates([*AGGREGATORS, "client"], folder)
        known = {name: CertificateIdentity.load(folder, name) for name in (*AGGREGATORS, "client")}
    simulated = Simulated(names, known["client"], words)
    keys = [token_bytes(KEY_BYTES) for _ in AGGREGATORS]
    pair = token_bytes(KEY_BYTES)
    context = token_bytes(32)

    def run(transport: MemoryTransport) -> dict[str, Any]:
        checks = RangeChecks(names)
        if transport.name == DEALER:
            dealer = DealerSession(transport, AGGREGATORS, keys)
            for _ in range(questions):
                checks.settle(dealer)
            return {}
        me = AGGREGATORS.index(transport.name)
        session = OwnerSession(transport, AGGREGATORS, DEALER, keys[me], {1 - me: pair})
        courier = simulated if me == 0 else None
        gatherer = Gatherer(transport, AGGREGATORS, names, OneForAll(known[transport.name]), JOB, courier, 600.0)
        started = time.thread_time()
        gatherer.greet(context, 0)
        greeting = time.thread_time() - started
        others = simulated.seconds if me == 0 else 0.0
        bounds = dict.fromkeys(names, int(np.sum(np.arange(words))) + 1)
        started, first = time.thread_time(), time.perf_counter()
        for serial in range(questions):
            for start in range(0, clients, BATCH):
                part = names[start : start + BATCH]
                question = Question("leaves", 1 + serial * (clients // BATCH + 1) + start // BATCH)
                collected = gatherer.collect(question, part, words)
                assert len(collected.clients) == len(part)
                checks.add(collected, bounds, words)
            checks.settle(session)
        own = time.thread_time() - started
        wall = time.perf_counter() - first
        simulated_since = (simulated.seconds - others) if me == 0 else 0.0
        return {
            "greeting_seconds": greeting - others,
            "seconds_per_question": (own - simulated_since) / questions,
            "wall_seconds_per_question": (wall - simulated_since) / questions,
        }

    outcome = MemoryNetwork([*AGGREGATORS, DEALER]).run(run)
    return {
        "clients": clients,
        "words": words,
        "aggregators": {name: outcome[name] for name in AGGREGATORS},
        "bytes_per_client": simulated.bytes_received,
        "client_seconds": simulated.seconds / clients / (questions + 1),
        "peak_memory_bytes": peak_memory(),
    }


def as_table(results: list[dict[str, Any]]) -> str:
    """The table of docs/benchmarks.md."""
    lines = [
        "| clients | words | bytes: a client | greeting: ms per client | question: ms per client | clients a second | "
        "peak memory, MiB |",
        "| --- " * 7 + "|",
    ]
    for one in results:
        slowest = max(one["aggregators"].values(), key=lambda entry: entry["seconds_per_question"])
        per_client = slowest["seconds_per_question"] / one["clients"]
        greeting = max(entry["greeting_seconds"] for entry in one["aggregators"].values()) / one["clients"]
        lines.append(
            f"| {one['clients']:,} | {one['words']:,} | {one['bytes_per_client']:,} | {greeting * 1e3:.2f} "
            f"| {per_client * 1e3:.3f} | {1 / per_client:,.0f} | {one['peak_memory_bytes'] / 2**20:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="*", default=[10, 1000, 10_000])
    parser.add_argument("--words", type=int, default=128)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print the table of docs/benchmarks.md")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.clients[0], chosen.words, chosen.questions)))
        return
    results = []
    for clients in chosen.clients:
        command = [sys.executable, __file__, "--one", "--clients", str(clients), "--words", str(chosen.words)]
        command += ["--questions", str(chosen.questions)]
        results.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    found = {"results": results, "on": environment()}
    print(json.dumps(found, indent=2))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if chosen.table:
        print(as_table(results))


if __name__ == "__main__":
    main()

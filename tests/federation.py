"""Whole federated trainings in memory: real clients, aggregators and a dealer, without processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np
from tests.network import DEALER

from veilboost.federated.client import Client
from veilboost.federated.counters import Counters
from veilboost.federated.forest import Forest
from veilboost.federated.gather import Gatherer
from veilboost.federated.task import FederatedTask
from veilboost.federated.training import Training
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.identity import CertificateIdentity
from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.prg import KEY_BYTES
from veilboost.mpc.session import OwnerSession, Session
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport
from veilboost.tables.schema import Feature
from veilboost.tables.table import Table
from veilboost.trees.parameters import Parameters

JOB = b"j" * 32
CLIENTS = tuple(f"client{number}" for number in range(8))
AGGREGATORS = tuple(f"aggregator{number}" for number in range(4))


@cache
def identities() -> dict[str, CertificateIdentity]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "certs"
        write_certificates([*CLIENTS, *AGGREGATORS, "stranger"], folder)
        return {name: CertificateIdentity.load(folder, name) for name in (*CLIENTS, *AGGREGATORS, "stranger")}


#: Called with client, question and answer; what it returns is what the lead gets, None: nothing.
Meddler = Callable[[str, bytes, bytes], bytes | None]

#: Called with client and question: whether the question reaches it.
Reached = Callable[[str, bytes], bool]


@dataclass
class MemoryCourier:
    """Asks clients in this process, and keeps what it has seen."""

    clients: Mapping[str, Client]
    meddle: Meddler = lambda client, question, answer: answer
    reached: Reached = lambda client, question: True
    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    closed: bool = False

    def ask(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        answers = {}
        for client, question in questions.items():
            if not self.reached(client, question):
                continue
            answer = self.meddle(client, question, self.clients[client].answer(question))
            if answer is not None:
                self.seen.append((client, question, answer))
                answers[client] = answer
        return answers

    def close(self) -> None:
        self.closed = True


@dataclass
class Trained:
    """What came of a training: forests of aggregators, clients, sessions, and what went over the network."""

    task: FederatedTask
    forests: list[Forest]
    clients: dict[str, Client]
    sessions: list[Session]
    courier: MemoryCourier
    network: MemoryNetwork
    lost: list[tuple[str, str]]


def table_of(
    features: Sequence[Feature], values: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> Table:
    columns = {f.name: np.ascontiguousarray(v, dtype=np.float32) for f, v in zip(features, values.T, strict=True)}
    return Table(len(labels), tuple(features), labels.astype(np.float64), columns, weight=weights)


def task_of(features: Sequence[Feature], parameters: Parameters, clients: int, **more: Any) -> FederatedTask:
    return FederatedTask(tuple(features), parameters, CLIENTS[:clients], **more)


def train_federated(
    task: FederatedTask,
    tables: Sequence[Table],
    *,
    aggregators: int = 2,
    meddle: Meddler = lambda client, question, answer: answer,
    reached: Reached = lambda client, question: True,
    record: bool = False,
    forest: Forest | None = None,
    clients: dict[str, Client] | None = None,
    keep: Callable[[int, Forest], None] = lambda number, forest: None,
) -> Trained:
    """Train with the given tables, one for each client of the task."""
    names = AGGREGATORS[:aggregators]
    lost: list[tuple[str, str]] = []
    if clients is None:
        clients = {
            name: Client(task, name, table, identities()[name], Counters(None), JOB, names)
            for name, table in zip(task.clients, tables, strict=True)
        }
    courier = MemoryCourier(clients, meddle, reached)
    rows = {name: table.rows for name, table in zip(task.clients, tables, strict=True)}
    keys = [token_bytes(KEY_BYTES) for _ in names]
    common = {(i, j): token_bytes(KEY_BYTES) for j in range(aggregators) for i in range(j)}
    network = MemoryNetwork([*names, DEALER], record=record)
    context = token_bytes(32)
    done = 0 if forest is None else len(forest.trees) // task.parameters.outputs

    def main(transport: MemoryTransport) -> tuple[Session, Forest]:
        session: Session
        gatherer = None
        if transport.name == DEALER:
            session = DealerSession(transport, names, keys)
        else:
            me = names.index(transport.name)
            pairs = {other: common[min(me, other), max(me, other)] for other in range(aggregators) if other != me}
            session = OwnerSession(transport, names, DEALER, keys[me], pairs)
            gatherer = Gatherer(
                transport,
                names,
                task.clients,
                identities()[transport.name],
                JOB,
                courier if me == 0 else None,
                1.0,
                lambda client, reason: lost.append((client, reason)) if me == 0 else None,
            )
            gatherer.greet(context, done)
        known = Forest()  # all that the dealer has
        if forest is not None and gatherer is not None:
            known = Forest(forest.edges, forest.ratios, list(forest.trees))
        present = rows if gatherer is None else gatherer.rows
        training = Training(session, task.with_rows(present), gatherer, known)
        lead = gatherer is not None and gatherer.lead
        training.run(done, keep=lambda number: keep(number, known) if lead else None, begun=forest is not None)
        return session, known

    results = network.run(main)
    return Trained(
        task,
        [results[name][1] for name in names],
        clients,
        [results[name][0] for name in (*names, DEALER)],
        courier,
        network,
        lost,
    )

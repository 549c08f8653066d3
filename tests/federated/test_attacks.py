"""Attacks on federated training: whoever relays questions changes them, a client cheats, words are not what they seem.

Whoever relays can keep questions and answers to itself. It must not be able to choose what a client sums, nor to end a
training by anything but silence.
"""

import base64
import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.federated.test_counters import SPLIT, Server
from tests.federated.test_faults import case, clients_of
from tests.federated.test_parity import draw, parameters_of, split_rows
from tests.federation import AGGREGATORS, JOB, Trained, identities, task_of, train_federated
from tests.training import EVERY_KIND

from veilboost.errors import ParticipantError, PeerMismatch, ProtocolError
from veilboost.federated.client import Client
from veilboost.federated.collected import Collected
from veilboost.federated.counters import Counters
from veilboost.federated.couriers import DirectCourier, receive_bytes, send_bytes
from veilboost.federated.forest import Forest, Split
from veilboost.federated.gather import Gatherer
from veilboost.federated.keys import ClientKeys, _client_statement
from veilboost.federated.messages import Answer, Question
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport

LEAD, LAST = AGGREGATORS[:2]
VICTIM = "client0"
OTHER = Split(1, 0, False)

#: Kind of question, tree, level.
Place = tuple[str, int, int]

#: What the relay has the victim hear before a question reaches it.
Whisper = Callable[[Question, Client], None]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[Place, set[str]]:
    """Whose answers the last aggregator has counted."""
    found: dict[Place, set[str]] = {}
    really = Gatherer.collect

    def collect(self: Gatherer, question: Question, *rest: Any) -> Collected:
        collected = really(self, question, *rest)
        if self.last:
            found[question.kind, question.tree, question.level] = set(collected.clients)
        return collected

    monkeypatch.setattr(Gatherer, "collect", collect)
    return found


def train_with(whisper: Whisper) -> Trained:
    """A training in which the relay whispers to a client."""
    table, task = case(3)
    tables = split_rows(table, 3)

    def reached(name: str, data: bytes) -> bool:
        if name == VICTIM:
            whisper(Question.from_bytes(data), trained_clients[name])
        return True

    trained_clients = clients_of(task, tables)
    return train_federated(task, tables, clients=trained_clients, reached=reached)


def tell(client: Client, kind: str, serial: int, tree: int = 0, level: int = 0, **content: Any) -> None:
    with contextlib.suppress(ProtocolError):
        client.answer(Question(kind, serial, tree, 0, level, content).to_bytes())


def test_without_whispers_all_count(counted: dict[Place, set[str]]) -> None:
    train_with(lambda question, client: None)
    assert len(counted) == 1 + 3 * 3
    assert all(len(clients) == 3 for clients in counted.values())


def test_numbers_of_rows_that_are_not_the_aggregators(counted: dict[Place, set[str]]) -> None:
    """They decide on the scale of sums, and on the norms that differential privacy cuts off at."""

    def whisper(question: Question, client: Client) -> None:
        if question.kind == "labels":
            rows = {**question.content["rows"], "client1": 10**6}
            tell(client, "trees", question.serial, forest=Forest().to_json(), rows=rows)

    train_with(whisper)
    assert counted
    assert all(VICTIM not in clients for clients in counted.values())


def test_a_tree_that_is_not_the_aggregators(counted: dict[Place, set[str]]) -> None:
    """The gradients of the next tree would be of the relay's choosing, and so would what its leaves tell."""

    def whisper(question: Question, client: Client) -> None:
        if (question.kind, question.tree, question.level) == ("level", 1, 0):
            last = json.loads(json.dumps(question.content["last"]))
            last["weights"][0] += 1 << 24
            known = client.forest.to_json()
            tell(client, "trees", 0, forest={"edges": known["edges"], "ratios": known["ratios"], "trees": [last]})

    train_with(whisper)
    assert VICTIM in counted["level", 0, 2]
    assert all(VICTIM not in counted["level", tree, level] for tree in (1, 2) for level in range(3))


def test_a_first_margin_that_is_not_the_aggregators(counted: dict[Place, set[str]]) -> None:
    def whisper(question: Question, client: Client) -> None:
        if (question.kind, question.tree, question.level) == ("level", 0, 0):
            ratios = [ratio + 1000 for ratio in question.content["ratios"]]
            edges = question.content["edges"]
            tell(client, "trees", 0, forest={"edges": edges, "ratios": ratios, "trees": []})

    train_with(whisper)
    assert VICTIM in counted["labels", 0, 0]
    assert VICTIM not in counted["level", 0, 0] | counted["level", 2, 0]


def test_splits_that_are_not_the_aggregators_do_not_stay() -> None:
    """Rows that were moved by such a split would be added up in nodes of the relay's choosing from then on."""
    boxes = []
    for shown in (SPLIT, OTHER):
        server = Server()
        server.greet()
        server.level(1, [])
        server.level(2, [[shown]])
        server.client._ring.keys = [ClientKeys.of(bytes(32), bytes(32))] * 2  # so that boxes can be compared
        boxes.append(server.level(3, [[SPLIT], [SPLIT, SPLIT]]).box)
    assert boxes[0] == boxes[1]


def test_a_greeting_that_comes_again_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """With other keys the client would be lost, and it would answer all questions of the epoch once more."""
    server, nonces = Server(tmp_path / "answered.json"), []
    really = server.ask

    def ask(kind: str, serial: int, **content: Any) -> Answer:
        nonces.append(content)
        return really(kind, serial, **content)

    server.ask = ask  # type: ignore[method-assign]
    server.greet()
    server.ask = really  # type: ignore[method-assign]
    server.edges(1, 0)
    keys = list(server.client._ring.keys)
    with pytest.raises(ProtocolError, match="epoch a second time"):
        server.ask("hello", 0, **nonces[0])
    assert server.client._ring.keys == keys
    server.edges(2, 1)
    server.client._counters = Counters(tmp_path / "answered.json")  # nor after the client's process has died
    with pytest.raises(ProtocolError, match="epoch a second time"):
        server.ask("hello", 0, **nonces[0])


@pytest.mark.parametrize("aggregator", [LEAD, LAST])
def test_a_seed_that_one_aggregator_alone_can_read(aggregator: str, counted: dict[Place, set[str]]) -> None:
    """The others must not go on with another number of rows than this one: no box of any client would open."""

    def meddle(client: str, data: bytes, answer: bytes) -> bytes:
        question, read = Question.from_bytes(data), Answer.from_bytes(answer)
        if client != VICTIM or question.kind != "hello" or read is None:
            return answer
        header = {name: value for name, value in read.header.items() if name not in ("signature", "trees")}
        header["boxes"] = {**header["boxes"], aggregator: "00" * 80}
        statement = _client_statement(header, JOB, bytes.fromhex(question.content["nonce"]))
        signature = identities()[VICTIM].sign(statement).hex()
        return Answer({**header, "signature": signature, "trees": 0}).to_bytes()

    table, task = case(3, n_estimators=1)
    trained = train_federated(task, split_rows(table, 3), meddle=meddle)
    assert counted["level", 0, 2] == {"client1", "client2"}
    assert len(trained.forests[0].trees) == 1


@pytest.mark.parametrize("version", [3, 57, 0x7F])
def test_certificates_that_are_none_are_not_the_end(version: int) -> None:
    """Whoever relays an answer, or a client, can show anything in the place of a certificate."""
    own = identities()[VICTIM]
    octets = x509.load_pem_x509_certificate(own.certificate.encode()).public_bytes(Encoding.DER)
    before = bytes.fromhex("a003020102")
    assert octets.count(before) == 1
    changed = base64.encodebytes(octets.replace(before, before[:-1] + bytes([version]))).decode()
    shown = f"-----BEGIN CERTIFICATE-----\n{changed}-----END CERTIFICATE-----\n"
    assert not identities()[LAST].verify(VICTIM, shown, b"words", own.sign(b"words"))
    assert identities()[LAST].verify(VICTIM, own.certificate, b"words", own.sign(b"words"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (
            "trees",
            {"rows": {"client0": "own", "client1": 10**300}, "forest": {"edges": None, "ratios": [], "trees": []}},
        ),
        ("edges", {"rows": {"client0": "own", "client1": 1 << 40}, "step": 0, "low": "", "found": ""}),
        ("done", {"edges": [[0.5]], "metrics": [10**400], "ledger": []}),
        ("done", {"edges": [[0.5]], "metrics": [1e999], "ledger": "x"}),
        ("done", {"edges": [[0.5]], "ledger": [{"receiver": 1, "value": 1, "why": 1, "round": 1e999, "shape": []}]}),
        ("done", {"edges": [[[0.5]]], "ledger": []}),
        ("level", {"edges": [[0.5]], "ratios": [], "levels": [], "rows": {"client0": "own", "client1": 9}}),
    ],
)
def test_numbers_beyond_all_bounds_are_refused_with_one_line(kind: str, content: dict[str, Any]) -> None:
    server = Server()
    server.client.task = replace(server.task, parameters=server.task.parameters.model_copy(update={"base_score": None}))
    server.greet()
    if "rows" in content:
        content["rows"] = {**content["rows"], "client0": server.rows["client0"]}
    with pytest.raises(ProtocolError) as refused:
        server.ask(kind, 1, **content)
    assert "\n" not in str(refused.value)


def test_the_end_is_signed_by_all_aggregators() -> None:
    """Whoever relays the end can change neither the last tree nor what else is told with it."""
    table, task = case(3, n_estimators=2)
    kept: list[bytes] = []

    def reached(name: str, data: bytes) -> bool:
        if name == VICTIM and Question.from_bytes(data).kind == "done":
            kept.append(data)
        return name != VICTIM or Question.from_bytes(data).kind != "done"

    trained = train_federated(task, split_rows(table, 3), reached=reached)
    again = train_federated(task, split_rows(table, 3))
    victim, end = trained.clients[VICTIM], Question.from_bytes(kept[0])
    signatures = end.content["signatures"]
    assert list(signatures) == [LEAD, LAST]
    last = copy.deepcopy(end.content["last"])
    last["weights"][0] += 1
    changes: list[dict[str, Any]] = [
        {"last": last},
        {"metrics": [0.5, 0.25]},
        {"ledger": end.content["ledger"][:-1]},
        {"signatures": {LEAD: signatures[LEAD]}},
        {"signatures": {LEAD: signatures[LAST], LAST: signatures[LEAD]}},
        {"signatures": Question.from_bytes(again.courier.seen[-1][1]).content["signatures"]},  # of another epoch
        {"signatures": None},
    ]
    for change in changes:
        client = copy.deepcopy(victim, {id(victim.task): victim.task, id(victim._ring): victim._ring})
        with pytest.raises(PeerMismatch, match=r"was not signed by aggregator[01]: do not use it"):
            client.answer(replace(end, content={**end.content, **change}).to_bytes())
        assert not client.done, change
    victim.answer(kept[0])
    assert victim.done
    assert victim.forest.to_bytes() == trained.forests[0].to_bytes()


@pytest.mark.parametrize("classes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_losses_are_asked_for_between_trees(classes: int, counted: dict[Place, set[str]]) -> None:
    """The places of questions rise in the order in which aggregators ask."""
    objective = "binary:logistic" if classes == 1 else "multi:softprob"
    table = draw(objective, 400, 2, [EVERY_KIND[4], EVERY_KIND[6]])
    more = {"n_estimators": 3, "max_depth": 2, "early_stopping_rounds": 2}
    task = task_of(table.features, parameters_of(objective, **more), 3)
    trained = train_federated(task, split_rows(table, 3))
    assert all(len(clients) == 3 for clients in counted.values())
    assert len(trained.forests[0].metrics) == 3


def test_cuts_and_first_margin_are_not_found_again_with_others() -> None:
    """Two means of labels, with a client and without it, would tell the mean of its labels."""
    table, task = case(3, n_estimators=1)
    tables = split_rows(table, 3)
    first = train_federated(task, tables).forests[0]
    again = train_federated(
        task,
        tables,
        forest=Forest(first.edges, first.ratios),
        reached=lambda name, data: name != VICTIM,
    )
    assert again.forests[0].ratios == first.ratios
    assert {Question.from_bytes(data).kind for _, data, _ in again.courier.seen} == {"hello", "level", "done"}


def test_metrics_of_few_rows_are_not_computed() -> None:
    """Enough rows were held back at the greeting, but not at those who are left."""
    table = draw("binary:logistic", 300, 2, [EVERY_KIND[4]])
    more = {"n_estimators": 3, "max_depth": 1, "early_stopping_rounds": 1, "validation_fraction": 0.2}
    task = task_of(table.features, parameters_of("binary:logistic", **more), 3)

    def reached(name: str, data: bytes) -> bool:
        question = Question.from_bytes(data)
        return name != "client2" or question.kind == "hello" or question.tree < 1

    with pytest.raises(ParticipantError, match="rows, and a metric needs at least 50: bring back client2"):
        train_federated(task, split_rows(table, 3), reached=reached)


def test_an_answer_beyond_all_that_was_asked_for_is_not_waited_for() -> None:
    """A client that announces two gigabytes is lost at once, before any room is made for them."""
    network = MemoryNetwork(["client0", "client1", LEAD])
    lost: list[str] = []

    def main(transport: MemoryTransport) -> dict[str, bytes]:
        if transport.name == LEAD:
            links = {name: transport for name in ("client0", "client1")}
            courier = DirectCourier(links, lambda name, reason: lost.append(reason), 1000)
            transport.close = lambda reason=None: None  # type: ignore[method-assign]
            return courier.ask(dict.fromkeys(links, b"question"), 5.0)
        receive_bytes(transport, LEAD)
        if transport.name == "client0":
            transport.send(LEAD, np.frombuffer((1 << 30).to_bytes(8, "big"), dtype=np.uint8))
        else:
            send_bytes(transport, LEAD, bytes(1000))
        return {}

    assert set(network.run(main)[LEAD]) == {"client1"}
    assert lost == [f"client0 announces a message of {1 << 30} bytes: is it on another version?"]


@pytest.mark.parametrize("leaf_sums", [False, True])
def test_no_honest_answer_is_larger_than_the_largest(leaf_sums: bool) -> None:
    table = draw("binary:logistic", 100, 2, EVERY_KIND)
    more = {"n_estimators": 1, "max_depth": 2, "max_bin": 4}
    task = task_of(table.features, parameters_of("binary:logistic", **more), 3, leaf_sums=leaf_sums)

    def reached(name: str, data: bytes) -> bool:  # of the others both children are asked for then
        question = Question.from_bytes(data)
        return name != VICTIM or (question.kind, question.level) != ("level", 1)

    trained = train_federated(task, split_rows(table, 3), reached=reached)
    boxes = [len(read.box) for _, _, answer in trained.courier.seen if (read := Answer.from_bytes(answer)) is not None]
    assert max(boxes) == 8 * task.largest_update + 16

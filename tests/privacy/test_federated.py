"""What each participant of a federated training receives: sizes that depend on public facts, and nothing but noise.

What is compared between data sets of equal public shape: the order and sizes of all frames between aggregators and from
the dealer, after the greeting, whose signatures vary in length by themselves; the order of questions with all numbers
in them, but not their JSON, which holds the public model; sizes of all answers after the greeting.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.federated.test_faults import Meddler, clients_of
from tests.federated.test_parity import draw, parameters_of, split_rows
from tests.federation import AGGREGATORS, JOB, Trained, identities, task_of, train_federated
from tests.network import DEALER
from tests.privacy.test_uniformity import check, statistic
from tests.training import EVERY_KIND, Table, draw_table

from veilboost.errors import ParticipantError, ProtocolError
from veilboost.federated.client import Client
from veilboost.federated.collected import Collected, OpenedShare
from veilboost.federated.counters import Counters
from veilboost.federated.forest import Forest
from veilboost.federated.gather import Gatherer
from veilboost.federated.keys import AggregatorKey, ClientKeys, ClientRing
from veilboost.federated.messages import SUMS, Answer, Question
from veilboost.federated.range_checks import RangeChecks
from veilboost.mpc.ring import Words
from veilboost.mpc.session import OwnerSession
from veilboost.mpc.shares import Shared
from veilboost.mpc.transport.memory import MemoryNetwork

FEATURES = (EVERY_KIND[1], EVERY_KIND[5], EVERY_KIND[9])
LEAD, LAST = AGGREGATORS[:2]
ROWS = 90

#: Frames of the greeting whose size depends on signatures.
GREETING = {(LEAD, LAST): 6, (LAST, LEAD): 2}

#: What a question may hold.
CONTENT = {
    "hello": {"aggregators", "job", "nonce", "trees", "version"},
    "edges": {"step", "low", "found", "rows", "turn", "heavy"},
    "labels": {"rows"},
    "level": {"edges", "ratios", "rows", "last", "levels", "both"},
    "leaves": {"edges", "ratios", "rows", "last"},
    "trees": {"forest", "rows"},
    "done": {"last", "ledger", "metrics", "signatures"},
}


def datasets(objective: str) -> Iterator[tuple[str, Table]]:
    rng = np.random.default_rng(0)
    first = draw_table(FEATURES, ROWS, 1, objective, rng)
    yield "drawn", first
    yield "all equal, labels too", replace(first, values=np.ones_like(first.values), labels=np.ones(ROWS))
    yield "all missing", replace(first, values=np.full_like(first.values, np.nan))


def train(table: Table, objective: str, leaf_sums: bool = False, clients: int = 3, **more: Any) -> Trained:
    parameters = parameters_of(objective, **{"n_estimators": 1, "max_depth": 2, "max_bin": 4, **more})
    task = task_of(table.features, parameters, clients, label_range=table.label_range, leaf_sums=leaf_sums)
    return train_federated(task, split_rows(table, clients), record=True)


def trace(trained: Trained) -> Any:
    names = (LEAD, LAST, DEALER)
    sizes = {
        (a, b): [message.size for message in trained.network.between(a, b)][GREETING.get((a, b), 0) :]
        for a in names
        for b in names
        if a != b
    }
    asked = [(client, Question.from_bytes(question)) for client, question, _ in trained.courier.seen]
    questions = [(c, q.kind, q.serial, q.place, q.content.get("both"), q.content.get("step")) for c, q in asked]
    answers = [
        len(answer) for (_, q), (_, _, answer) in zip(asked, trained.courier.seen, strict=True) if q.kind != "hello"
    ]
    rounds = [session.rounds for session in trained.sessions]
    return sizes, questions, answers, rounds, [session.ledger for session in trained.sessions]


@pytest.mark.parametrize("leaf_sums", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", ["binary:logistic", pytest.param("reg:squarederror", marks=pytest.mark.slow)])
def test_messages_depend_on_public_facts_only(objective: str, leaf_sums: bool) -> None:
    traces = {name: trace(train(table, objective, leaf_sums)) for name, table in datasets(objective)}
    expected = traces.pop("drawn")
    assert sum(map(len, expected[0].values())) > 200
    for name, found in traces.items():
        assert found == expected, name
    deeper = trace(train(next(datasets(objective))[1], objective, leaf_sums, max_depth=1))
    assert deeper[0] != expected[0] and deeper[2] != expected[2]  # so that the comparison could fail


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Words]:
    """What the clients share, in the clear."""
    taken: list[Words] = []
    really = ClientRing.share

    def share(self: ClientRing, serial: int, question: bytes, words: Words) -> bytes:
        taken.append(words.copy())
        return really(self, serial, question, words)

    monkeypatch.setattr(ClientRing, "share", share)
    return taken


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the last aggregator finds in the boxes."""
    taken: list[bytes] = []
    really = ClientKeys.open

    def found(self: ClientKeys, serial: int, question: bytes, box: bytes, size: int) -> Words | None:
        words = really(self, serial, question, box, size)
        if words is not None:
            taken.append(words.tobytes())
        return words

    monkeypatch.setattr(ClientKeys, "open", found)
    return taken


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Frames of published bits, behind the last of which there are zeros."""
    taken: Counter[bytes] = Counter()
    publish, send = OwnerSession._publish, OwnerSession._send_to_others
    inside: set[int] = set()

    def published(self: OwnerSession, value: Any) -> Any:
        if not isinstance(value, Shared):
            inside.add(id(self))
        found = publish(self, value)
        inside.discard(id(self))
        return found

    def sent(self: OwnerSession, words: Words) -> None:
        if id(self) in inside:
            taken[words.tobytes()] += 1
        send(self, words)

    monkeypatch.setattr(OwnerSession, "_publish", published)
    monkeypatch.setattr(OwnerSession, "_send_to_others", sent)
    return taken


def boxes_of(trained: Trained) -> list[bytes]:
    read = [(Question.from_bytes(question), Answer.from_bytes(answer)) for _, question, answer in trained.courier.seen]
    assert all(answer is not None and bool(answer.box) == (question.kind in SUMS) for question, answer in read)
    return [answer.box for _, answer in read if answer is not None and answer.box]


def windows(words: Words) -> Iterator[bytes]:
    """Whole vectors, and parts of four numbers that are not all small."""
    yield words.tobytes()
    for start in range(0, words.size - 3):
        part = words[start : start + 4]
        if np.count_nonzero(part) == 4:
            yield part.tobytes()


def test_every_single_view_of_the_updates_is_uniform(
    updates: list[Words], opened: list[bytes], published: Counter[bytes]
) -> None:
    table = draw("binary:logistic", 150, 2, FEATURES)
    trained = train(table, "binary:logistic", max_bin=16, max_depth=3)
    assert len(updates) == len(opened) > 100
    check(opened)
    boxes = boxes_of(trained)
    check(boxes)
    everything = b"".join(question + answer for _, question, answer in trained.courier.seen)
    places = {
        name: b"".join(m.payload for m in trained.network.messages if m.receiver == name) for name in (LEAD, LAST)
    }
    for words in updates:
        for part in windows(words):
            assert part not in everything
            assert all(part not in received for received in places.values())
    for a, b in ((LEAD, LAST), (LAST, LEAD)):
        frames = []
        for message in trained.network.between(a, b):
            if published[message.payload] or is_public(message.payload):
                continue
            frames.append(message.payload)
        assert len(frames) > 100
        check(frames)
        check([message.payload for message in trained.network.between(DEALER, b)])


def is_public(payload: bytes) -> bool:
    """Sizes, JSON of agreements, and what the lead passes on of the answers, whose boxes are looked at above."""
    if len(payload) == 8 and int.from_bytes(payload, "big") < 1 << 31:
        return True
    return payload.startswith(b"{") or (payload.startswith(b"\0\0") and payload[4:5] == b"{")


def test_without_masks_or_seals_it_would_be_noticed(
    updates: list[Words], opened: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = draw("binary:logistic", 150, 2, FEATURES)
    monkeypatch.setattr(ClientKeys, "mask", lambda self, serial, size: np.zeros(size, dtype=np.uint64))
    trained = train(table, "binary:logistic", max_bin=16)
    with pytest.raises(AssertionError):
        check(opened)
    check(boxes_of(trained))
    monkeypatch.setattr(ClientKeys, "seal", lambda self, serial, question, words: words.tobytes() + bytes(16))
    monkeypatch.setattr(
        ClientKeys, "open", lambda self, serial, question, box, size: np.frombuffer(box[:-16], dtype=np.uint64).copy()
    )
    updates.clear()
    trained = train(table, "binary:logistic", max_bin=16)
    with pytest.raises(AssertionError):
        check(boxes_of(trained))
    everything = b"".join(answer for _, _, answer in trained.courier.seen)
    assert all(next(windows(words)) in everything for words in updates)


@pytest.mark.parametrize("leaf_sums", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_dealer_hears_nothing_and_clients_hear_what_is_public(leaf_sums: bool) -> None:
    table = draw("binary:logistic", 80, 3, FEATURES)
    trained = train(table, "binary:logistic", leaf_sums, n_estimators=2)
    assert [m for m in trained.network.messages if m.receiver == DEALER] == []
    heard: dict[str, list[bytes]] = {}
    for client, question, _ in trained.courier.seen:
        heard.setdefault(client, []).append(question)
    first, *others = heard.values()
    assert all(other == first for other in others)  # the same bytes for all
    for data in first:
        question = Question.from_bytes(data)
        assert set(question.content) <= CONTENT[question.kind]
    assert trained.courier.closed


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int]]:
    """Keys and serial numbers under which clients mask and seal."""
    taken: list[tuple[bytes, int]] = []
    really = ClientRing.share

    def share(self: ClientRing, serial: int, question: bytes, words: Words) -> bytes:
        taken.extend((keys.stream_key, serial) for keys in self.keys[:-1])
        taken.append((self.keys[-1].box_key, serial))
        return really(self, serial, question, words)

    monkeypatch.setattr(ClientRing, "share", share)
    return taken


def test_no_stream_is_expanded_twice(used: list[tuple[bytes, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where levels are asked for again, and in an epoch that continues the training with the same clients."""
    table = draw("binary:logistic", 90, 4, FEATURES[1:])
    task = task_of(table.features, parameters_of("binary:logistic", max_depth=2), 3)
    tables, kept = split_rows(table, 3), [b""]
    clients = clients_of(task, tables)
    lost = Meddler(lambda client, kind, tree, level: "none" if (client, tree, level) == ("client1", 1, 1) else "good")

    def keep(number: int, forest: Forest) -> None:
        kept.append(forest.to_bytes())

    with pytest.raises(ParticipantError):
        train_federated(replace(task, min_clients=3), tables, meddle=lost, clients=clients, keep=keep)
    train_federated(task, tables, forest=Forest.from_bytes(kept[-1], task), clients=clients, meddle=lost)
    assert lost.attempts[1, 1] == 1
    assert len(used) > 2 * 3 * 5
    assert len(set(used)) == len(used)
    # Control: a courier that asks twice, and clients that do not count.
    clients = clients_of(task, tables)

    def twice(client: str, question: bytes, answer: bytes) -> bytes:
        if Question.from_bytes(question).kind == "level":
            clients[client].answer(question)
        return answer

    with pytest.raises(ProtocolError, match="a second time"):
        train_federated(task, tables, clients=clients, meddle=twice)
    assert len(set(used)) == len(used)
    monkeypatch.setattr(Counters, "check", lambda self, place: None)
    train_federated(task, tables, clients=clients, meddle=twice)
    assert len(set(used)) < len(used)


BASE, MODEL = ("base score", (1,)), ("leaf weights", (2, 4))
CUTS = ("edges of every numeric column", (1, 6))  # two turns
SPLITS = ("feature, bin and default direction of every split", (2, 3))
SETS = ("categories of every split into sets", (2, 3, 18))
GAINS = ("gain of every split (reveal_gain)", (2, 3))
COVERS = ("hessian sum of every node (reveal_gain)", (2, 7))
THREE = [CUTS, ("base score", (3,)), (SPLITS[0], (6, 3)), (SETS[0], (6, 3, 18)), ("leaf weights", (6, 4))]


@pytest.mark.parametrize(
    ("objective", "leaf_sums", "changed", "expected"),
    [
        ("binary:logistic", False, {"reveal_gain": True}, [CUTS, BASE, SPLITS, SETS, GAINS, COVERS, MODEL]),
        ("binary:logistic", True, {"base_score": 0.5}, [CUTS, MODEL]),
        *(
            pytest.param(objective, leaf_sums, changed, expected, marks=pytest.mark.slow)
            for objective, leaf_sums, changed, expected in (
                ("binary:logistic", False, {"max_cat_to_onehot": 100}, [CUTS, BASE, SPLITS, MODEL]),
                ("reg:squarederror", False, {"base_score": 0.5}, [CUTS, SPLITS, SETS, MODEL]),
                ("count:poisson", False, {}, [CUTS, BASE, SPLITS, SETS, MODEL]),
                ("multi:softprob", False, {}, THREE),
                ("multi:softprob", True, {}, [*THREE[:2], THREE[4]]),
                ("reg:squarederror", True, {"reveal_gain": True}, [CUTS, BASE, MODEL]),
                ("count:poisson", True, {}, [CUTS, BASE, MODEL]),
            )
        ),
    ],
)
def test_the_ledger_holds_the_model_and_nothing_else(
    objective: str, leaf_sums: bool, changed: dict[str, Any], expected: list[Any]
) -> None:
    table = draw(objective, 80, 5, FEATURES)
    trained = train(table, objective, leaf_sums, n_estimators=2, **changed)
    ledgers = [session.ledger for session in trained.sessions] + [c.ledger for c in trained.clients.values()]
    for ledger in ledgers:
        assert [(entry.value, entry.shape) for entry in ledger] == expected
        assert {entry.receiver for entry in ledger} == {"everyone"}
    assert ledgers[0] == ledgers[1] == ledgers[3]


def test_nothing_secret_is_printed() -> None:
    network, words = MemoryNetwork([LEAD, LAST]), np.arange(5, dtype=np.uint64) + np.uint64(123_456_789)
    identity, key = identities()[LEAD], AggregatorKey.draw()
    keys = ClientKeys.of(b"s" * 32, bytes(32))
    gatherer = Gatherer(network.transport(LEAD), (LEAD, LAST), ("client0",), identity, JOB, None, 1.0)
    gatherer._keys["client0"] = keys
    collected = Collected(("client0",), {"client0": OpenedShare(words)}, b"coins" * 6)
    checks = RangeChecks(("client0",))
    checks.add(collected, {"client0": 1 << 40}, 5)
    table = draw("binary:logistic", 40, 6, FEATURES)
    task = task_of(FEATURES, parameters_of("binary:logistic"), 1)
    client = Client(task, "client0", split_rows(table, 1)[0], identity, Counters(None), JOB, (LEAD, LAST))
    for thing in (
        gatherer,
        keys,
        key,
        collected,
        OpenedShare(words),
        checks,
        client,
        client._local,
        client._ring,
        identity,
    ):
        text = f"{thing!r} {thing}"
        assert not re.search(r"\d{6,}", text), text
        assert "coins" not in text and "array" not in text and "PRIVATE" not in text and "object at" not in text
        assert all(repr(secret)[2:-1] not in text for secret in (keys.stream_key, keys.box_key))


def test_the_check_of_bytes_is_no_formality() -> None:
    assert statistic(json.dumps(list(range(2000))).encode()) > 420

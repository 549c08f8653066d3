"""Whatever arrives, what comes of it is a message or an error of this package; what is sent arrives as it was."""

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.federated.test_parity import parameters_of
from tests.federation import task_of
from tests.strategies import QUICK
from tests.training import EVERY_KIND

from veilboost.errors import InputError, ProtocolError
from veilboost.federated.client import ledger_from_json
from veilboost.federated.couriers import (
    RelayedCourier,
    receive_batch,
    receive_bytes,
    relay,
    send_batch,
    send_bytes,
)
from veilboost.federated.forest import Forest, GrownTree, Split, forest_from_json, levels_from_json, tree_from_json
from veilboost.federated.messages import KINDS, Answer, Question, octets_of
from veilboost.federated.task import FederatedTask
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.transport.base import Transport
from veilboost.mpc.transport.memory import MemoryNetwork

TASK = task_of(EVERY_KIND, parameters_of("binary:logistic", max_bin=4, max_depth=2), 2)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, 1e300, -1, 1 << 62, "1", "\ud800", "00"])
    | st.text(max_size=4)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
numbers = st.integers(0, 2**62 - 1)
names = st.dictionaries(st.text(max_size=5), st.binary(max_size=30), max_size=4)


@QUICK
@given(st.sampled_from(KINDS), numbers, numbers, numbers, numbers, st.dictionaries(st.text(), st.integers()))
def test_questions_arrive_as_they_were(
    kind: str, serial: int, tree: int, attempt: int, level: int, content: dict[str, Any]
) -> None:
    question = Question(kind, serial, tree, attempt, level, content)
    assert Question.from_bytes(question.to_bytes()) == question


@QUICK
@given(st.dictionaries(st.text(), scalars.filter(lambda value: value == value)), st.binary())
def test_answers_arrive_as_they_were(header: dict[str, Any], box: bytes) -> None:
    answer = Answer(header, box)
    read = Answer.from_bytes(answer.to_bytes())
    if sum(map(json.dumps(header).count, "[{")) <= 64:
        assert read == answer


QUESTION = json.loads(Question("level", 3, 1, 0, 2, {"rows": {}}).to_bytes())


@QUICK
@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"kind":' * 100_000)
@example(b"\xff\xfe{}")
@example(b"1" * 5000)
def test_questions_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="question that cannot be read"):
        Question.from_bytes(data)


@QUICK
@given(st.sampled_from([*QUESTION, "more"]), anything)
def test_damaged_questions(name: str, value: Any) -> None:
    try:
        question = Question.from_bytes(json.dumps({**QUESTION, name: value}).encode())
    except ProtocolError:
        return
    assert question.kind in KINDS and isinstance(question.content, dict)
    assert all(0 <= number < 2**62 for number in (question.serial, question.tree, question.attempt, question.level))


def nested(depth: int) -> bytes:
    header = b'{"boxes":' + b"[" * depth + b"]" * depth + b"}"
    return len(header).to_bytes(4, "big") + header


@QUICK
@given(st.binary())
@example(b"\0\0\0\1[")
@example(b"\xff\xff\xff\xff{}")
@example(nested(900))
@example(nested(100_000))
def test_answers_that_are_none(data: bytes) -> None:
    answer = Answer.from_bytes(data)
    if answer is not None:  # the lead passes it on
        assert Answer.from_bytes(answer.to_bytes()) == answer


def test_depths_that_could_be_read_and_not_written() -> None:
    def deeper(levels: int, act: Callable[[], Any]) -> Any:
        return act() if levels == 0 else deeper(levels - 1, act)

    for depth in range(0, 1000, 7):
        answer = Answer.from_bytes(nested(depth))
        if answer is not None:
            deeper(50, answer.to_bytes)


@pytest.mark.parametrize("text", ["", "0", "zz", "00" * 31, "00" * 33, "  " + "00" * 31, "é" * 64, 3, None, b"0" * 64])
def test_octets_of_another_length(text: Any) -> None:
    assert octets_of({"key": text}, "key", 32) is None
    assert octets_of({"key": "ab" * 32}, "key", 32) == b"\xab" * 32
    assert octets_of({}, "key") is None


def forest_of(task: FederatedTask = TASK) -> Forest:
    split, sets = Split(0, 1, True), Split(8, 0, False, (1, 4))
    tree = GrownTree([(split,), (None, sets)], (1, -(2**61), 3, 4), (0.5, 0.0, 1.0), (1.0,) * 7)
    edges = [np.array([-1.5, 0.0, 2.5], dtype=np.float32)[: 1 + number % 3] for number in range(len(task.numeric))]
    return Forest(edges, (12345,), [tree, GrownTree([(split,)])])


def test_the_model_arrives_as_it_was() -> None:
    forest = forest_of()
    assert Forest.from_bytes(forest.to_bytes(), TASK).to_bytes() == forest.to_bytes()
    assert Forest.from_bytes(Forest().to_bytes(), TASK) == Forest()


PLACES: list[tuple[Any, ...]] = [
    (),
    ("edges",),
    ("edges", 0),
    ("edges", 0, 0),
    ("edges", 2, 1),
    ("ratios",),
    ("ratios", 0),
    ("trees",),
    ("trees", 0),
    ("trees", 0, "levels"),
    ("trees", 0, "levels", 0),
    ("trees", 0, "levels", 0, 0),
    ("trees", 0, "levels", 0, 0, 0),
    ("trees", 0, "levels", 0, 0, 1),
    ("trees", 0, "levels", 0, 0, 2),
    ("trees", 0, "levels", 0, 0, 3),
    ("trees", 0, "levels", 1, 1, 3),
    ("trees", 0, "levels", 1, 1, 3, 0),
    ("trees", 0, "weights"),
    ("trees", 0, "weights", 1),
    ("trees", 0, "gains"),
    ("trees", 0, "covers", 2),
]


def put(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return content


@QUICK
@given(st.sampled_from(PLACES), anything)
@example(("ratios", 0), 10**400)
@example(("ratios", 0), True)
@example(("edges", 0), [[1.0], [2.0]])
@example(("edges", 0), [1e39])
@example(("edges", 2, 1), float("nan"))
@example(("edges", 0), [1.0, 1.00000001])
@example(("edges", 0), ["1", "2"])
@example(("trees", 0, "covers", 2), float("nan"))
@example(("trees", 0, "weights", 1), 1 << 62)
@example(("trees", 0, "levels", 0, 0, 3), [0])
@example(("trees", 0, "levels", 1, 1, 3), [])
def test_damaged_models_are_refused_or_can_be_used(place: tuple[Any, ...], value: Any) -> None:
    content = put(json.loads(forest_of().to_bytes()), place, value)
    try:
        forest = forest_from_json(content, TASK)
    except ProtocolError as error:
        assert "\n" not in str(error)
        return
    if forest.edges is not None and forest.ratios:
        ensemble = forest.to_ensemble(TASK)
        margins = ensemble.predict_margin(np.zeros((3, len(EVERY_KIND)), dtype=np.float32))
        assert np.isfinite(margins).all()
    assert forest_from_json(forest.to_json(), TASK).to_bytes() == forest.to_bytes()


@QUICK
@given(anything)
def test_nonsense_instead_of_parts_of_a_model(value: Any) -> None:
    for read in (forest_from_json, tree_from_json, levels_from_json):
        try:
            read(value, TASK)
        except ProtocolError:
            continue
        assert read is levels_from_json and value in ([], {}, "", [[None]])
    for data in (json.dumps(value).encode(), b"[" * 100_000, b"\xff"):
        with pytest.raises(ProtocolError):
            Forest.from_bytes(data, TASK)


@QUICK
@given(anything)
@example([{"receiver": "x", "value": "y", "why": "z", "shape": [float("inf")], "round": None}])
@example([{"receiver": "x", "value": "y", "why": "z", "shape": [1], "round": float("inf")}])
def test_ledgers(value: Any) -> None:
    entry = Disclosure("everyone", "x", "y", (2, 3), 4)
    assert ledger_from_json([entry.to_dict()]) == [entry]
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(one, Disclosure) for one in ledger_from_json(value))


def pair() -> tuple[Transport, Transport]:
    network = MemoryNetwork(["a", "b"])
    return network.transport("a"), network.transport("b")


@QUICK
@given(names, st.dictionaries(st.text(max_size=4), st.integers(), max_size=3), st.binary(max_size=99))
def test_batches_arrive_as_they_were(messages: dict[str, bytes], header: dict[str, Any], data: bytes) -> None:
    a, b = pair()
    send_batch(a, "b", header, messages)
    send_bytes(a, "b", data)
    assert receive_batch(b, "a") == (header, messages)
    assert receive_bytes(b, "a") == data


@QUICK
@given(st.binary(max_size=50) | anything.map(lambda value: json.dumps(value).encode()), st.binary(max_size=9))
@example(b'{"header":{},"sizes":{"a":-1,"b":1}}', b"")
@example(b'{"header":{},"sizes":{"a":true}}', b"x")
@example(b'{"header":{},"sizes":[]}', b"")
@example(b'{"header":{},"sizes":{"a":2}}', b"x")
@example(b"[" * 100_000, b"")
def test_damaged_batches(text: bytes, joined: bytes) -> None:
    a, b = pair()
    send_bytes(a, "b", text)
    send_bytes(a, "b", joined)
    with pytest.raises(ProtocolError, match="a sent a batch that cannot be read"):
        receive_batch(b, "a")


def test_announced_size_is_bounded() -> None:
    a, b = pair()
    a.send("b", np.frombuffer((1 << 40).to_bytes(8, "big"), dtype=np.uint8))
    with pytest.raises(ProtocolError, match="a announces a message of 1099511627776 bytes"):
        receive_bytes(b, "a")


def test_a_relay_passes_on_what_it_is_given() -> None:
    network = MemoryNetwork(["lead", "courier"])
    asked: list[tuple[Mapping[str, bytes], float]] = []

    def ask(questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        asked.append((questions, seconds))
        return {"client1": b"one", "stranger": b"none"}

    def main(transport: Transport) -> Any:
        if transport.name == "courier":
            return relay(transport, "lead", ask)
        courier = RelayedCourier(transport, "courier")
        answers = [courier.ask({"client1": b"?", "client2": b"?"}, 3.5) for _ in range(2)]
        courier.close()
        return answers

    assert network.run(main)["lead"] == [{"client1": b"one"}] * 2
    assert asked == [({"client1": b"?", "client2": b"?"}, 3.5)] * 2


@pytest.mark.parametrize("seconds", [None, "3", [], True, float("nan"), float("inf"), -1.0])
def test_a_relay_refuses_times_that_are_none(seconds: Any) -> None:
    a, b = pair()
    send_batch(a, "b", {"seconds": seconds}, {})
    with pytest.raises(ProtocolError, match="a sent a batch of questions that cannot be read"):
        relay(b, "a", lambda questions, limit: {})


def test_rows_that_are_too_many_are_refused() -> None:
    with pytest.raises(InputError):
        TASK.with_rows({"client0": 1 << 61}).scales  # noqa: B018

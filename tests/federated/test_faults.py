"""Clients that vanish, come back, answer nonsense or something old: the model is that of the rows that were there.

Whose answers count is written down level by level, and the oracle judges every split on the rows of those clients
alone, and every leaf on those of the last level.
"""

from collections.abc import Callable
from dataclasses import replace
from secrets import token_bytes
from typing import Any

import numpy as np
import pytest
from tests.federated.test_parity import draw, judged, parameters_of, split_rows
from tests.federation import AGGREGATORS, JOB, Trained, identities, table_of, task_of, train_federated
from tests.training import EVERY_KIND, Table

from veilboost.errors import ParticipantError
from veilboost.federated.client import Client
from veilboost.federated.counters import Counters
from veilboost.federated.forest import Forest, forest_from_json
from veilboost.federated.messages import Answer, Question
from veilboost.federated.task import FederatedTask
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.parameters import Parameters

#: Without numeric columns there is no search for cuts, which takes most of the time.
FEATURES: tuple[Feature, ...] = (EVERY_KIND[5], EVERY_KIND[4], EVERY_KIND[6], EVERY_KIND[9])
NUMERIC: tuple[Feature, ...] = (EVERY_KIND[1], EVERY_KIND[4], EVERY_KIND[6])

#: What becomes of an answer: by client, kind of question, tree and level. "good" leaves it as it is.
Plan = Callable[[str, str, int, int], str]


class Meddler:
    """Carries out a plan, and writes down who counts."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cohorts: dict[tuple[int, int], set[str]] = {}
        self.attempts: dict[tuple[int, int], int] = {}
        self.gone: set[str] = set()
        self.last: dict[str, bytes] = {}
        self.first: dict[str, bytes] = {}

    def __call__(self, client: str, data: bytes, answer: bytes) -> bytes | None:
        question = Question.from_bytes(data)
        fate = "none" if client in self.gone else self.plan(client, question.kind, question.tree, question.level)
        if fate == "vanish":
            self.gone.add(client)
            fate = "none"
        earlier, first = self.last.get(client, b""), self.first.get(client, b"")
        other = next((one for name, one in self.last.items() if name != client), b"")
        if question.kind == "level":
            place = question.tree, question.level
            if self.attempts.get(place) != question.attempt:
                self.attempts[place], self.cohorts[place] = question.attempt, set()
            read = Answer.from_bytes(answer)
            if fate == "good" and read is not None and "behind" not in read.header:
                self.cohorts[place].add(client)
            self.last[client] = answer
            self.first.setdefault(client, answer)
        if fate == "flip":
            return answer[:-20] + bytes([answer[-20] ^ 4]) + answer[-19:]
        ways = {"good": answer, "none": None, "garbage": token_bytes(300), "empty": b"", "replay": earlier}
        ways |= {"short": answer[:-8], "other": other, "first": first, "nonsense": b"\0\0\0\2{}"}
        return ways[fate]


def case(clients: int, rows: int = 240, seed: int = 1, **more: Any) -> tuple[Table, FederatedTask]:
    features = more.pop("features", FEATURES)
    table = draw("binary:logistic", rows, seed, features)
    options = {"min_clients": 1} | {name: more.pop(name) for name in ("min_clients",) if name in more}
    parameters = parameters_of("binary:logistic", max_bin=5, **{"n_estimators": 3, **more})
    return table, task_of(features, parameters, clients, **options)


def clients_of(task: FederatedTask, tables: list[Any]) -> dict[str, Client]:
    return {
        name: Client(task, name, table, identities()[name], Counters(None), JOB, AGGREGATORS[:2])
        for name, table in zip(task.clients, tables, strict=True)
    }


def check(trained: Trained, meddler: Meddler, table: Table, complete: bool = True) -> None:
    """The model is the same everywhere, and every node follows from the rows of those who counted there."""
    task, forest = trained.task, trained.forests[0]
    assert all(other.to_bytes() == forest.to_bytes() for other in trained.forests)
    if complete:
        for name, client in trained.clients.items():
            if name not in meddler.gone:
                assert client.done, name
                assert client.forest.to_bytes() == forest.to_bytes()
    model, depth = forest.to_ensemble(task), task.parameters.max_depth
    tables = split_rows(replace(table, values=table.values), len(task.clients))
    verdicts: dict[frozenset[str], list[Any]] = {}
    nodes = 0
    for cohort in {frozenset(cohort) for cohort in meddler.cohorts.values()}:
        chosen = [one for name, one in zip(task.clients, tables, strict=True) if name in cohort]
        values = np.concatenate([np.stack([one.values(f.name) for f in task.features], axis=1) for one in chosen])
        part = replace(table, values=values, labels=np.concatenate([one.label for one in chosen]))
        verdicts[cohort] = judged(task, forest, model, part)
    for position in range(len(next(iter(verdicts.values())))):
        node = next(iter(verdicts.values()))[position][0]
        if node.depth < depth:
            cohort = frozenset(meddler.cohorts[node.tree, node.depth])
            assert verdicts[cohort][position][1], (node, sorted(cohort))
        cohort = frozenset(meddler.cohorts[node.tree, depth - 1])
        assert verdicts[cohort][position][2], (node, sorted(cohort))
        nodes += 1
    assert nodes >= 3 * task.parameters.n_trees


def test_the_check_notices_a_wrong_cohort() -> None:
    table, task = case(3, n_estimators=1)
    meddler = Meddler(lambda client, kind, tree, level: "good")
    trained = train_federated(task, split_rows(table, 3), meddle=meddler)
    check(trained, meddler, table)
    meddler.cohorts = {place: cohort - {"client2"} for place, cohort in meddler.cohorts.items()}
    with pytest.raises(AssertionError):
        check(trained, meddler, table)


def vanishing(seed: int, clients: int, part: float, trees: int, depth: int) -> Plan:
    rng = np.random.default_rng(seed)
    leaving = rng.choice(clients, round(part * clients), replace=False)
    when = {f"client{one}": (int(rng.integers(trees)), int(rng.integers(depth))) for one in leaving}
    return lambda client, kind, tree, level: (
        "vanish" if kind == "level" and client in when and (tree, level) >= when[client] else "good"
    )


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_clients_vanish_at_random_levels(seed: int) -> None:
    table, task = case(8, 320, seed, features=NUMERIC)
    meddler = Meddler(vanishing(seed, 8, 0.4, 3, 3))
    trained = train_federated(task, split_rows(table, 8), meddle=meddler, aggregators=2)
    assert len(meddler.gone) == 3
    check(trained, meddler, table)


@pytest.mark.parametrize(
    "fate",
    [
        "replay",
        *(
            pytest.param(fate, marks=pytest.mark.slow)
            for fate in ("garbage", "flip", "short", "other", "first", "empty", "nonsense")
        ),
    ],
)
def test_an_answer_that_is_none_does_not_count(fate: str) -> None:
    """Nonsense, an answer to the question before, that of another client: once in a tree, and the client is back."""
    table, task = case(4)
    wrong = [("client1", 0, 2), ("client2", 1, 1), ("client3", 2, 2)]
    meddler = Meddler(
        lambda client, kind, tree, level: fate if (client, tree, level) in wrong and kind == "level" else "good"
    )
    trained = train_federated(task, split_rows(table, 4), meddle=meddler)
    assert [len(meddler.cohorts[tree, 2]) for tree in range(3)] == [3, 3, 3]
    assert len(meddler.cohorts[1, 0]) == len(meddler.cohorts[2, 0]) == 4
    check(trained, meddler, table)


def test_answers_of_an_earlier_epoch_do_not_count() -> None:
    table, task = case(3, n_estimators=1)
    tables = split_rows(table, 3)
    old = Meddler(lambda client, kind, tree, level: "good")
    train_federated(task, tables, meddle=old)
    plan = lambda client, kind, tree, level: "first" if kind == "level" and client == "client1" else "good"  # noqa: E731
    meddler = Meddler(plan)
    meddler.first = dict(old.first)
    trained = train_federated(task, tables, meddle=meddler)
    assert set(meddler.cohorts[0, 0]) == {"client0", "client2"}
    check(trained, meddler, table, complete=False)


def test_a_client_that_missed_a_tree_catches_up() -> None:
    table, task = case(3, n_estimators=5, max_depth=2)
    away = {("client1", 1, 0), ("client2", 4, 0)}  # the latter misses the last tree
    meddler = Meddler(lambda client, kind, tree, level: "good")
    trained = train_federated(task, split_rows(table, 3), meddle=meddler, reached=Absent(away))
    assert [sorted(meddler.cohorts[tree, 0]) for tree in range(5)] == [
        ["client0", "client1", "client2"],
        ["client0", "client2"],
        ["client0", "client2"],  # it says that it is behind
        ["client0", "client1", "client2"],
        ["client0", "client1"],
    ]
    check(trained, meddler, table)


class Absent:
    """Whether a client is reached by a question."""

    def __init__(self, away: set[tuple[str, int, int]]) -> None:
        self.away = away

    def __call__(self, client: str, data: bytes) -> bool:
        question = Question.from_bytes(data)
        return question.kind != "level" or (client, question.tree, question.level) not in self.away


@pytest.mark.parametrize("same_processes", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_too_few_clients_end_the_training_and_it_can_be_resumed(same_processes: bool) -> None:
    """Bit for bit the model of a training without the interruption, also where clients live on."""
    table, task = case(3, min_clients=3, n_estimators=2, max_depth=2)
    tables = split_rows(table, 3)
    expected = train_federated(task, tables).forests[0].to_bytes()
    clients, kept = clients_of(task, tables), [b""]

    def keep(number: int, forest: Forest) -> None:
        kept.append(forest.to_bytes())

    meddler = Meddler(
        lambda client, kind, tree, level: "none" if (client, tree, level) == ("client1", 1, 1) else "good"
    )
    with pytest.raises(ParticipantError) as caught:
        train_federated(task, tables, meddle=meddler, clients=clients, keep=keep)
    assert str(caught.value) == (
        "only 2 of the 3 clients are left, and min_clients is 3: bring back client1 and continue with --resume"
    )
    assert len(kept) == 2
    forest = Forest.from_bytes(kept[-1], task)
    again = train_federated(task, tables, forest=forest, clients=clients if same_processes else None)
    assert again.forests[0].to_bytes() == expected
    assert all(client.forest.to_bytes() == expected for client in again.clients.values())


@pytest.mark.slow
def test_resuming_on_other_clients() -> None:
    """A client that is not there any more is left out; the numbers of rows are those of the clients that are."""
    table, task = case(4, n_estimators=2, max_depth=2)
    tables = split_rows(table, 4)
    kept: list[bytes] = []
    train_federated(task, tables, keep=lambda number, forest: kept.append(forest.to_bytes()))
    meddler = Meddler(lambda client, kind, tree, level: "vanish" if client == "client2" else "good")
    trained = train_federated(task, tables, meddle=meddler, forest=Forest.from_bytes(kept[0], task))
    assert trained.lost[0] == ("client2", "client2 did not take part in the greeting")
    for place in [(0, 0), (0, 1)]:
        meddler.cohorts[place] = set(task.clients)
    check(trained, meddler, table)


@pytest.mark.parametrize(
    "kind", ["level", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("edges", "labels"))]
)
@pytest.mark.parametrize("sign", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_too_large_values_end_the_training_and_name_the_client(kind: str, sign: int) -> None:
    table, task = case(3, features=FEATURES if kind == "level" else NUMERIC)
    tables = split_rows(table, 3)
    clients = clients_of(task, tables)
    local = clients["client1"]._local
    name = {"level": "level_sums", "edges": "edge_counts", "labels": "label_sums"}[kind]
    really, calls = getattr(local, name), []

    def inflated(*given: Any) -> Any:
        words = really(*given).copy()
        calls.append(len(words))
        if kind != "level" or len(calls) == 2:
            words[3 % len(words)] += np.uint64(sign * 2**45 % 2**64)
        return words

    setattr(local, name, inflated)
    meddler = Meddler(lambda client, kind, tree, level: "good")
    forests: list[Any] = []
    with pytest.raises(ParticipantError, match=r"^client1 has sent values that are too large for its number of rows: "):
        train_federated(
            task, tables, meddle=meddler, clients=clients, keep=lambda number, forest: forests.append(forest)
        )
    assert forests == []
    # The splits of the level with the large values have not been told to anybody.
    assert set(meddler.cohorts) == ({(0, 0), (0, 1)} if kind == "level" else set())
    assert all(len(tree.levels) <= 1 for client in clients.values() for tree in client.forest.trees)


def test_the_model_so_far_leads_back() -> None:
    table, task = case(2, n_estimators=1)
    forest = train_federated(task, split_rows(table, 2)).forests[0]
    assert forest_from_json(forest.to_json(), task).to_bytes() == forest.to_bytes()


@pytest.mark.slow
def test_a_training_that_diverges_accuses_nobody() -> None:
    """Small samples without regularisation make residuals grow with every tree; clients cut them off at the bound."""
    rng = np.random.default_rng(0)
    features = [Feature(name, Kind.CONTINUOUS) for name in "abc"]
    values, labels = rng.normal(size=(300, 3)).astype(np.float32), rng.integers(0, 2, 300).astype(float)
    given = {"n_estimators": 70, "max_depth": 3, "max_bin": 16, "learning_rate": 1.0, "reg_lambda": 0.0}
    parameters = Parameters(objective="reg:squarederror", subsample=0.05, **given)
    task = task_of(features, parameters, 2, label_range=(0.0, 1.0))
    tables = [table_of(features, values[part], labels[part]) for part in (slice(0, 100), slice(100, None))]
    trained = train_federated(task, tables)
    assert trained.lost == []
    assert np.abs(trained.forests[0].to_ensemble(task).predict_margin(values)).max() > 4.0  # it does diverge

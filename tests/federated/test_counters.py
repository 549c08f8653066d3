"""What a client has answered is on disk before the answer leaves, and nothing is answered twice."""

import json
import os
import stat
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np
import pytest
from tests.federated.test_parity import draw, parameters_of, split_rows
from tests.federation import AGGREGATORS, JOB, identities, task_of

from veilboost.errors import InputError, ProtocolError, VeilboostError
from veilboost.federated.client import Client
from veilboost.federated.counters import Counters
from veilboost.federated.edges import EdgeSearch
from veilboost.federated.forest import Split
from veilboost.federated.keys import AggregatorKey, ClientKeys
from veilboost.federated.messages import Answer, Question
from veilboost.tables.schema import Feature, Kind
from veilboost.version import __version__

NAMES = AGGREGATORS[:2]
FEATURES = (Feature("x", Kind.CONTINUOUS), Feature("smoker", Kind.FLAG))


def test_epochs_and_places(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "answered.json")
    with pytest.raises(ProtocolError, match="a second time"):
        counters.take((1, 0, 0))  # no epoch yet
    counters.begin(b"one")
    counters.take((1, 0, 0))
    counters.take((3, 0, 1))
    for place in (
        (3, 0, 1),
        (2, 0, 2),  # an earlier number
        (3, 1, 0),  # another question under the number of an answer: its mask would be used twice
        (9, 0, 1),  # the same question under another number
        (9, 0, 0),
    ):
        for refuse in (counters.check, counters.take):
            with pytest.raises(ProtocolError, match="a second time"):
                refuse(place)
    counters.take((9, 0, 2))
    counters.begin(b"two")
    counters.take((1, 0, 0))
    for epoch in (b"one", b"two"):
        with pytest.raises(ProtocolError, match="opened an epoch a second time"):
            counters.begin(epoch)


def test_what_is_on_disk_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "answered.json"
    counters = Counters(path)
    counters.begin(b"one")
    counters.take((4, 0, 0))
    assert json.loads(path.read_text()) == {"epochs": [b"one".hex()], "epoch": b"one".hex(), "last": [4, 0, 0]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name("answered.json.partial").exists()
    again = Counters(path)
    with pytest.raises(ProtocolError, match="opened an epoch a second time"):
        again.begin(b"one")
    with pytest.raises(ProtocolError, match="a second time"):
        again.take((5, 0, 0))  # not before a new epoch
    again.begin(b"two")
    with pytest.raises(ProtocolError):
        Counters(path).begin(b"two")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"epochs": 3}', '{"last": []}', "\x00", "é", "[" * 100_000])
def test_damaged_file_is_refused_with_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "answered.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="is damaged, and says what this client has answered") as caught:
        Counters(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_counters_in_memory() -> None:
    counters = Counters(None)
    counters.begin(b"one")
    counters.take((1,))
    with pytest.raises(ProtocolError):
        counters.begin(b"one")


class Server:
    """Both aggregators in one, and a client that they ask."""

    def __init__(self, path: Path | None = None, features: Any = FEATURES) -> None:
        table = draw("binary:logistic", 80, 0, features)
        self.task = task_of(features, parameters_of("binary:logistic", max_bin=8, base_score=0.5), 2)
        tables = split_rows(table, 2)
        self.rows = {name: one.rows for name, one in zip(self.task.clients, tables, strict=True)}
        self.client = Client(self.task, "client0", tables[0], identities()["client0"], Counters(path), JOB, NAMES)

    def greet(self) -> None:
        nonce = token_bytes(32)
        introduced = {name: AggregatorKey.draw().introduce(identities()[name], name, JOB, nonce) for name in NAMES}
        content = {"aggregators": introduced, "job": JOB.hex(), "nonce": nonce.hex(), "version": __version__}
        self.ask("hello", 0, **content)

    def ask(self, kind: str, serial: int, tree: int = 0, attempt: int = 0, level: int = 0, **content: Any) -> Answer:
        question = Question(kind, serial, tree, attempt, level, content).to_bytes()
        answer = Answer.from_bytes(self.client.answer(question))
        assert answer is not None
        return answer

    def edges(self, serial: int, step: int) -> Answer:
        search = EdgeSearch(1, self.task.cuts, step)
        return self.ask("edges", serial, level=step, rows=self.rows, **search.to_json())

    def level(self, serial: int, levels: list[list[Split]], attempt: int = 0) -> Answer:
        content = {"edges": [[-0.5, 0.0, 0.5]], "ratios": [], "rows": self.rows} if not levels else {}
        shown = [[split.to_json() for split in level] for level in levels]
        return self.ask("level", serial, 0, attempt, len(levels), both=True, levels=shown, **content)


SPLIT = Split(0, 1, False)


def test_a_level_is_not_answered_twice() -> None:
    """Nor does asking move anything: the answers that follow are those of a client that has not been disturbed."""
    undisturbed, server = Server(), Server()
    boxes = []
    for one in (undisturbed, server):
        one.greet()
        one.level(1, [])
        one.level(2, [[SPLIT]])
    for attempt, levels in ((0, []), (1, []), (0, [[SPLIT]])):
        with pytest.raises(ProtocolError, match="a second time"):
            server.level(9, levels, attempt)
    for one in (undisturbed, server):
        one.client._ring.keys = [ClientKeys.of(bytes(32), bytes(32))] * 2  # so that boxes can be compared
        boxes.append(one.level(10, [[SPLIT], [SPLIT, SPLIT]]).box)
    assert boxes[0] == boxes[1]


def test_no_serial_number_comes_twice() -> None:
    """Another question under the number of one that was answered would be masked by the same words."""
    server = Server()
    server.greet()
    server.edges(1, 0)
    server.edges(2, 1)
    for serial, step in ((2, 2), (1, 2), (3, 1), (3, 0)):
        with pytest.raises(ProtocolError, match="a second time"):
            server.edges(serial, step)
    with pytest.raises(ProtocolError, match="a second time"):
        server.level(2, [])
    with pytest.raises(ProtocolError, match="another step"):
        server.ask("edges", 4, level=3, rows=server.rows, **EdgeSearch(1, server.task.cuts, 2).to_json())


def test_the_disk_comes_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answered.json"
    server = Server(path)
    server.greet()
    server.level(1, [])
    assert json.loads(path.read_text())["last"][0] == 1
    sealed: list[int] = []
    really = ClientKeys.seal

    def seal(self: ClientKeys, serial: int, *rest: Any) -> bytes:
        sealed.append(json.loads(path.read_text())["last"][0])
        return really(self, serial, *rest)

    monkeypatch.setattr(ClientKeys, "seal", seal)
    server.level(2, [[SPLIT]])
    assert sealed == [2]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            InputError, match=r"answered.json: cannot be written \(No space left on device\): make room"
        ):
            server.level(3, [[SPLIT], [SPLIT, SPLIT]])
    with pytest.raises(ProtocolError, match="a second time"):  # it has been taken, if not answered
        server.level(3, [[SPLIT], [SPLIT, SPLIT]])
    assert sealed == [2]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written"):
        server.greet()


def test_a_question_before_the_greeting() -> None:
    server = Server()
    with pytest.raises(ProtocolError, match="before it has greeted"):
        server.level(1, [])
    with pytest.raises(ProtocolError, match="before it has greeted"):
        server.ask("trees", 1)


def test_a_new_epoch_begins_at_the_root() -> None:
    """A client that lives through the end of an epoch has rows half way down a tree that is grown anew."""
    fresh, server = Server(), Server()
    server.greet()
    server.level(1, [])
    server.level(2, [[SPLIT]])
    boxes = []
    for one in (fresh, server):
        one.greet()
        one.client._ring.keys = [ClientKeys.of(bytes(32), bytes(32))] * 2
        one.level(1, [])
        boxes.append(one.level(2, [[Split(1, 0, False)]]).box)
    assert boxes[0] == boxes[1]
    with pytest.raises(ProtocolError, match="start the client again"):  # its cells are in bins already
        server.greet()
        server.edges(1, 0)
    server.greet()
    with pytest.raises(ProtocolError, match="start the client again"):
        server.ask("level", 1, both=True, levels=[], edges=[[0.25]], ratios=[], rows=server.rows)


@pytest.mark.parametrize("rows", [{}, {"client0": 1}, {"client0": "3"}, {"stranger": 3}, [], {"client0": True}])
def test_wrong_rows_are_refused(rows: Any) -> None:
    server = Server()
    server.greet()
    with pytest.raises(ProtocolError, match="wrong number of rows"):
        server.ask("edges", 1, rows=rows, **EdgeSearch(1, server.task.cuts, 0).to_json())


def test_refusals_print_no_cell() -> None:
    server = Server()
    server.greet()
    values = server.client._local._values[0]
    for bad in (b"", b"{}", Question("level", 1).to_bytes(), Question("leaves", 2).to_bytes(), Question("done", 3)):
        data = bad if isinstance(bad, bytes) else bad.to_bytes()
        try:
            server.client.answer(data)
        except VeilboostError as error:
            assert "\n" not in str(error) and not any(f"{value:g}" in str(error) for value in np.unique(values))

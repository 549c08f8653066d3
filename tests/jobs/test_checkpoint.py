"""Checkpoints: a training continued from one gives an equally good model, and nobody but its owner can read it."""

from pathlib import Path

import numpy as np
import pytest
from tests.network import ANALYST, execute, owner_names
from tests.training import EVERY_KIND, Table, draw_table

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.checkpoint import Checkpoints, digest_of
from veilboost.mpc.handshake import _common_tree
from veilboost.mpc.session import Session
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.trees.reference import audit
from veilboost.xorboost.reveal import receive_reveal, reveal_to
from veilboost.xorboost.state import hollow_state
from veilboost.xorboost.train import train

OWNERS = 2
EPOCH = b"e" * 32
PARAMETERS = Parameters(n_estimators=4, max_depth=3, max_bin=8)


@pytest.fixture
def table() -> Table:
    return draw_table(EVERY_KIND, 300, OWNERS, "binary:logistic", np.random.default_rng(3))


def checkpoints_in(folder: Path, owner: int, *, key: bytes = bytes(32), job: bytes = b"j", table: bytes = b"t"):
    directory = folder / f"owner{owner}"
    directory.mkdir(parents=True, exist_ok=True)
    return Checkpoints(directory, key, job, f"owner{owner}", table)


def run(table: Table, folder: Path, parameters: Parameters = PARAMETERS, after: int = 0) -> Ensemble:
    """Train, keeping checkpoints; continue after some trees if asked to."""
    task, columns = table.task(parameters), table.columns(parameters.max_bin)

    def program(session: Session) -> Ensemble | None:
        own = [c if o == session.holder else None for c, o in zip(columns, table.owners, strict=True)]
        labels = table.labels if session.holder == table.label_owner else None
        if session.dealing:
            state = hollow_state(task, after) if after else None
            return reveal_to(session, task, train(session, task, own, labels, state=state), ANALYST)
        checkpoints = checkpoints_in(folder, session.holder)
        state = checkpoints.load(after, task, session.holder) if after else None
        forest = train(session, task, own, labels, state=state, keep=lambda kept: checkpoints.keep(kept, EPOCH))
        return reveal_to(session, task, forest, ANALYST)

    names = tuple(owner_names(OWNERS))
    model = execute(program, OWNERS, analyst=lambda t: receive_reveal(t, names, task)).analyst_result
    assert isinstance(model, Ensemble)
    return model


def test_a_continued_training_gives_the_same_model(table: Table, tmp_path: Path) -> None:
    run(table, tmp_path, PARAMETERS.model_copy(update={"n_estimators": 2}))
    # A job of more trees is another job to its hash, but not to the state.
    continued = run(table, tmp_path, PARAMETERS, after=2)
    for node in audit(continued, table.columns(8), table.labels, PARAMETERS, 0.05):
        assert node.splits == node.should_split or node.best_gain == -np.inf
        assert not node.splits or node.chosen_gain >= node.best_gain * (1 - 1e-3)
    whole = run(table, tmp_path / "whole", PARAMETERS)
    np.testing.assert_allclose(continued.predict_margin(table.values), whole.predict_margin(table.values), atol=2e-3)


def test_the_last_two_are_kept(table: Table, tmp_path: Path) -> None:
    run(table, tmp_path)
    checkpoints = checkpoints_in(tmp_path, 0)
    assert checkpoints.epochs() == {3: EPOCH.hex(), 4: EPOCH.hex()}
    checkpoints.clear()
    assert checkpoints.epochs() == {}


def test_a_start_from_the_beginning_forgets_older_ones(table: Table, tmp_path: Path) -> None:
    run(table, tmp_path)
    run(table, tmp_path, PARAMETERS.model_copy(update={"n_estimators": 1}))
    assert list(checkpoints_in(tmp_path, 1).epochs()) == [1]


def test_what_is_written_is_encrypted(table: Table, tmp_path: Path) -> None:
    run(table, tmp_path)
    task = table.task(PARAMETERS)
    for owner in range(OWNERS):
        state = checkpoints_in(tmp_path, owner).load(4, task, owner)
        written = (tmp_path / f"owner{owner}" / "tree-00004.checkpoint").read_bytes()
        assert state.margins.words.tobytes()[:64] not in written
        assert state.forest.trees[0].weights.words.tobytes()[:32] not in written
        for plain in (b"margins", b"NUMPY", b"PK\x03\x04", EPOCH, f"owner{owner}".encode()):
            assert plain not in written
        assert (tmp_path / f"owner{owner}" / "tree-00004.checkpoint").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["truncated", "empty", "edited", "renamed", "key", "job", "table"])
def test_what_does_not_belong_here_is_refused(damage: str, table: Table, tmp_path: Path) -> None:
    run(table, tmp_path)
    path = tmp_path / "owner0" / "tree-00004.checkpoint"
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "edited":
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "renamed":
        path.rename(path.with_name("tree-00002.checkpoint"))
    changed = {"key": {"key": b"k" * 32}, "job": {"job": b"x"}, "table": {"table": b"x"}}.get(damage, {})
    with pytest.raises(InputError, match=r"tree-0000\d.checkpoint: is damaged") as caught:
        checkpoints_in(tmp_path, 0, **changed).epochs()
    assert "\n" not in str(caught.value)


def test_continue_where_all_have_been() -> None:
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    assert _common_tree({"north": None, "south": None}) == 0
    assert _common_tree({"north": {"3": a, "4": a}, "south": {"4": a, "5": a}}) == 4
    assert _common_tree({"north": {"4": a, "5": c}, "south": {"4": a, "5": b}}) == 4  # two runs reached tree 5
    assert _common_tree({"north": {"9": a, "10": a}, "south": {"9": a, "10": a}}) == 10
    assert _common_tree({"north": {}, "south": {"1": a}}) == 0
    with pytest.raises(PeerMismatch, match="north resumes but south does not"):
        _common_tree({"north": {"1": a}, "south": None})


def test_another_table_has_another_digest(table: Table) -> None:
    columns = table.columns(8)
    other = table.values.copy()
    other[np.isfinite(other[:, 0]), 0] += 1
    digest = digest_of(columns, table.labels)
    assert digest == digest_of(table.columns(8), table.labels)
    assert digest != digest_of(columns, None)
    assert digest != digest_of(columns, 1 - table.labels)
    changed = Table(table.features, other, table.owners, table.labels, table.label_owner)
    assert digest != digest_of(changed.columns(8), table.labels)

"""Checkpoints: a training continued from one gives an equally good model, and nobody but its owner can read it."""

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from tests.jobs.interrupted import KilledError, Moment, kept, run_all
from tests.jobs.test_sealed import looks_random
from tests.network import ANALYST, execute, owner_names
from tests.processes.support import LABEL, make_case
from tests.training import EVERY_KIND, Table, draw_table

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.checkpoint import Checkpoints, digest_of
from veilboost.jobs.sealed import seal
from veilboost.mpc.handshake import _common_tree
from veilboost.mpc.session import Session
from veilboost.tables.table import Table as OwnTable
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.trees.reference import audit
from veilboost.xorboost.forest import TrainingState
from veilboost.xorboost.reveal import receive_reveal, reveal_to
from veilboost.xorboost.state import from_arrays, hollow_state, to_arrays
from veilboost.xorboost.task import TrainingTask
from veilboost.xorboost.train import train

OWNERS = 2
EPOCH = b"e" * 32
PARAMETERS = Parameters(n_estimators=4, max_depth=3, max_bin=8)


@pytest.fixture(scope="module")
def table() -> Table:
    return draw_table(EVERY_KIND, 300, OWNERS, "binary:logistic", np.random.default_rng(3))


@pytest.fixture(scope="module")
def trained(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a whole training."""
    folder = tmp_path_factory.mktemp("trained")
    run(table, folder)
    return folder


@pytest.fixture
def written(trained: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "written"))


def checkpoints_in(folder: Path, owner: int, *, key: bytes = bytes(32), job: bytes = b"j", table: bytes = b"t"):
    directory = folder / f"owner{owner}"
    directory.mkdir(parents=True, exist_ok=True)
    return Checkpoints(directory, key, job, f"owner{owner}", table)


def load(checkpoints: Checkpoints, task: TrainingTask, owner: int) -> TrainingState:
    return checkpoints.load(4, lambda arrays: from_arrays(arrays, task, owner))


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
        state = checkpoints.load(after, lambda arrays: from_arrays(arrays, task, session.holder)) if after else None
        forest = train(
            session,
            task,
            own,
            labels,
            state=state,
            keep=lambda kept: checkpoints.keep(kept.rounds, to_arrays(kept), EPOCH),
        )
        return reveal_to(session, task, forest, ANALYST)

    names = tuple(owner_names(OWNERS))
    model = execute(program, OWNERS, analyst=lambda t: receive_reveal(t, names, task)).analyst_result
    assert isinstance(model, Ensemble)
    return model


def test_a_continued_training_gives_the_same_model(tmp_path: Path) -> None:
    """On labels that leave no two different splits with equal gains, between which rounding would decide."""
    table = draw_table(EVERY_KIND, 300, OWNERS, "reg:squarederror", np.random.default_rng(3))
    parameters = PARAMETERS.model_copy(update={"objective": "reg:squarederror"})
    run(table, tmp_path, parameters.model_copy(update={"n_estimators": 2}))
    # A job of more trees is another job to its hash, but not to the state.
    continued = run(table, tmp_path, parameters, after=2)
    for node in audit(continued, table.columns(8), table.labels, parameters):
        assert node.splits == node.should_split or node.best_gain == -np.inf
        assert not node.splits or node.chosen_gain >= node.best_gain * (1 - 1e-3)
    whole = run(table, tmp_path / "whole", parameters)
    np.testing.assert_allclose(continued.predict_margin(table.values), whole.predict_margin(table.values), atol=2e-3)


def test_the_last_two_are_kept(written: Path) -> None:
    checkpoints = checkpoints_in(written, 0)
    assert checkpoints.epochs() == {3: EPOCH.hex(), 4: EPOCH.hex()}
    unfinished = checkpoints.directory / "tree-00005.checkpoint.partial"
    unfinished.write_bytes(b"half")
    checkpoints.clear()
    assert checkpoints.epochs() == {}
    assert not unfinished.exists()


def test_a_start_from_the_beginning_forgets_older_ones(table: Table, written: Path) -> None:
    run(table, written, PARAMETERS.model_copy(update={"n_estimators": 1}))
    assert list(checkpoints_in(written, 1).epochs()) == [1]


def secrets_of(table: Table, folder: Path, owner: int) -> dict[str, bytes]:
    """What must not stand in an owner's checkpoint: a few bytes each, in the forms in which it is held."""
    task = table.task(PARAMETERS)
    states = [load(checkpoints_in(folder, each), task, each) for each in range(OWNERS)]
    mine = states[owner]
    tree = mine.forest.trees[0]
    margins = states[0].margins.words + states[1].margins.words
    weights = states[0].forest.trees[0].weights.words + states[1].forest.trees[0].weights.words
    column = next(
        c for c, holder in zip(table.columns(PARAMETERS.max_bin), table.owners, strict=True) if holder == owner
    )
    return {
        "share of the margins": mine.margins.words.tobytes()[:32],
        "share of the weights": tree.weights.words.tobytes()[:32],
        "share of the gains": tree.gains.words.tobytes()[:32],
        "share of the covers": tree.covers.words.tobytes()[:32],
        "share of the cuts": tree.cuts.words.tobytes()[:32],
        "share of the splits": tree.splits.words.tobytes()[:32],
        "margins": margins.tobytes()[:16],
        "margins as numbers": (margins.view(np.int64) / 2.0**24).tobytes()[:16],
        "weights": weights.tobytes()[:16],
        "labels": table.labels.tobytes()[:64],
        "labels in fixed point": (table.labels * 2.0**24).astype(np.int64).tobytes()[:64],
        "bins": np.ascontiguousarray(column.bins).tobytes()[:16],
        "cuts": np.ascontiguousarray(column.cuts).tobytes()[:16],
        "cells": np.ascontiguousarray(table.values[:, owner]).tobytes()[:16],
        "owner": f"owner{owner}".encode(),
        "epoch": EPOCH[:16],
        "key": bytes(32),
        "name of an array": b"margins",
        "archive": b"PK\x03\x04",
        "array": b"NUMPY",
    }


def test_what_is_written_is_encrypted(table: Table, written: Path) -> None:
    for owner in range(OWNERS):
        path = written / f"owner{owner}" / "tree-00004.checkpoint"
        data = path.read_bytes()
        assert [name for name, plain in secrets_of(table, written, owner).items() if plain in data] == []
        assert looks_random(data[1:])
        assert path.stat().st_mode & 0o077 == 0


def test_plain_text_would_be_found(table: Table, written: Path) -> None:
    """The same state in an archive that is not encrypted: so that the search above can fail."""
    state = load(checkpoints_in(written, 0), table.task(PARAMETERS), 0)
    plain = BytesIO()
    np.savez(plain, epoch=np.frombuffer(EPOCH, dtype=np.uint8), **to_arrays(state))  # type: ignore[arg-type]
    found = {name for name, one in secrets_of(table, written, 0).items() if one in plain.getvalue()}
    shares = {f"share of the {what}" for what in ("margins", "weights", "gains", "covers", "cuts", "splits")}
    assert shares | {"epoch", "name of an array", "archive", "array"} <= found
    assert not looks_random(plain.getvalue())


def test_nothing_about_a_real_job_stands_in_its_checkpoints(tmp_path: Path) -> None:
    """No name of job, roles or columns, no hash, cell, label or key, in any file that an interrupted run leaves."""
    case = make_case(tmp_path, n_estimators=4)
    with pytest.raises(KilledError):
        run_all(case, tmp_path / "out", kill=Moment("south", 3, "routing"))
    job_hash = case.job.job_hash()
    names = [case.job.name, *case.job.roles, *case.rows.columns, "margins", "weights", "epoch"]
    needles = [name.encode() for name in names if len(name) > 3] + [job_hash, job_hash.hex().encode()]
    needles += [case.rows[LABEL].to_numpy().astype(kind).tobytes()[:64] for kind in (np.float64, np.int64, np.uint8)]
    needles += [case.rows["age"].to_numpy().astype(kind).tobytes()[:16] for kind in (np.float64, np.float32)]
    for name in case.job.party_names:
        key = (case.certificates / f"{name}.storage.key").read_text().strip()
        needles += [key.encode(), bytes.fromhex(key)]
    for name in case.job.party_names:
        assert kept(tmp_path / "out", name) == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
        for path in (tmp_path / "out" / name).iterdir():
            data = path.read_bytes()
            assert [needle for needle in needles if needle in data] == []
            assert looks_random(data[1:])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"north", "south", "dealer"}


@pytest.mark.parametrize("damage", ["truncated", "empty", "edited", "renamed", "key", "job", "table", "owner"])
def test_what_does_not_belong_here_is_refused(damage: str, written: Path) -> None:
    path = written / "owner0" / "tree-00004.checkpoint"
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
    checkpoints = checkpoints_in(written, 0, **changed)
    if damage == "owner":  # with the same key and table
        checkpoints = replace(checkpoints, owner="owner1")
    with pytest.raises(InputError, match=r"tree-0000\d.checkpoint: is damaged") as caught:
        checkpoints.epochs()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["rows", "depth", "trees", "no trees", "missing", "more", "dtype"])
def test_a_state_of_another_task_is_refused(change: str, table: Table, written: Path) -> None:
    """Encrypted under the right key for the right job, but not what this version would have written."""
    task, checkpoints = table.task(PARAMETERS), checkpoints_in(written, 0)
    arrays = checkpoints.load(4, dict)
    if change == "rows":
        arrays["margins"] = arrays["margins"][:-1]
    elif change == "depth":
        arrays["weights"] = arrays["weights"][:, :4]
    elif change in ("trees", "no trees"):
        count = {"trees": 5, "no trees": 0}[change]
        for name in arrays.keys() - {"margins", "base_margin"}:
            arrays[name] = np.repeat(arrays[name][:1], count, axis=0)
    elif change == "missing":
        del arrays["gains"]
    elif change == "more":
        arrays["extra"] = arrays["margins"]
    elif change == "dtype":
        arrays["margins"] = arrays["margins"].astype(np.float64)  # type: ignore[assignment]
    sealed = {**arrays, "epoch": np.frombuffer(EPOCH, dtype=np.uint8)}
    seal(checkpoints._path(4), sealed, checkpoints.key, checkpoints._bound_to(4))
    assert set(checkpoints.epochs()) == {3, 4}
    with pytest.raises(InputError, match=r"tree-00004.checkpoint: does not fit this job: remove it$"):
        load(checkpoints, task, 0)


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
    def loaded(values: np.ndarray, labels: np.ndarray | None) -> OwnTable:
        columns = {f.name: np.ascontiguousarray(v) for f, v in zip(table.features, values.T, strict=True)}
        return OwnTable(len(values), table.features, labels, columns)

    digest = digest_of(loaded(table.values, table.labels))
    other = table.values.copy()
    other[np.isfinite(other[:, 0]), 0] += 1
    assert digest == digest_of(loaded(table.values.copy(), table.labels.copy()))
    assert digest != digest_of(loaded(table.values, None))
    assert digest != digest_of(loaded(table.values, 1 - table.labels))
    assert digest != digest_of(loaded(other, table.labels))

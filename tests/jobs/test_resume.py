"""Where a resumed job continues, and when owners may forget their checkpoints. Roles are threads, over TLS."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.jobs.interrupted import KilledError, Moment, kept, run_all
from tests.jobs.test_run import dumps, join_shares
from tests.processes.support import Case, make_case

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs import run as run_module
from veilboost.tables.binning import bin_column
from veilboost.tables.table import encode_frame
from veilboost.trees.reference import audit
from veilboost.trees.xgboost_json import load_model

TREES = 4


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "case", n_estimators=TREES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def killed(case: Case, out: Path, role: str, tree: int, phase: str, **how: Any) -> None:
    with pytest.raises(KilledError, match=role):
        run_all(case, out, kill=Moment(role, tree, phase), **how)


def resumed(case: Case, out: Path) -> int:
    """Resume to the end, check what comes of it, and return after how many trees all roles began."""
    seen: dict[str, list[int]] = defaultdict(list)
    run_all(case, out, resume=True, on_tree=lambda role, number: seen[role].append(number))
    (first,) = {numbers[0] for numbers in seen.values()}
    assert set(seen) == {*case.job.party_names, "dealer"}
    assert all(numbers == list(range(first, TREES + 1)) for numbers in seen.values())
    check_model(case, out)
    for name in case.job.party_names:
        assert kept(out, name) == []
    return first


def check_model(case: Case, out: Path) -> None:
    """The audit of the parity tests; and the owners' stored shares are those of this model."""
    model, job = load_model(out / "model.json"), case.job
    assert len(model.trees) == job.parameters.n_estimators
    values = encode_frame(case.rows, job.features)
    columns = [
        bin_column(f, np.ascontiguousarray(v), job.parameters.max_bin)
        for f, v in zip(job.features, values.T, strict=True)
    ]
    for node in audit(model, columns, case.rows[job.data.label].to_numpy().astype(float), job.parameters, 0.05):
        assert not node.splits or node.chosen_gain >= node.best_gain * (1 - 1e-3) - 1e-5, node
    assert dumps(join_shares(case, out), out) == (out / "model.json").read_text()


@pytest.mark.parametrize("role", ["north", pytest.param("south", marks=pytest.mark.slow), "dealer"])
def test_after_the_last_tree_that_all_have(case: Case, out: Path, role: str) -> None:
    if role == "dealer":  # it runs ahead, so stop it in the setup of a resumed job
        killed(case, out, "north", 4, "routing")  # by then its peer has written its third checkpoint
        killed(case, out, role, 4, "gradients", resume=True)
        assert resumed(case, out) == 3
    else:
        killed(case, out, role, 3, "routing")
        assert kept(out, "north") == kept(out, "south") == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
        assert resumed(case, out) == 2


def test_an_owner_is_killed_before_it_has_written_what_the_other_has(case: Case, out: Path) -> None:
    killed(case, out, "south", 3, "checkpoint")
    assert kept(out, "north") == ["tree-00002.checkpoint", "tree-00003.checkpoint"]
    assert kept(out, "south") == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
    assert resumed(case, out) == 2


def test_killed_again_and_again(case: Case, out: Path) -> None:
    """Two checkpoints of different epochs are there then; only those of one epoch go together."""
    killed(case, out, "south", 2, "checkpoint")
    for _ in range(5):  # until north's last words have reached south, which then writes its second checkpoint
        killed(case, out, "north", 2, "checkpoint", resume=True)
        if "tree-00002.checkpoint" in kept(out, "south"):
            break
    assert kept(out, "north") == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
    assert kept(out, "south") == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
    assert resumed(case, out) == 1  # north's second tree is of the first start, south's of the second


def test_without_any_checkpoint_it_starts_from_the_beginning(case: Case, out: Path) -> None:
    assert resumed(case, out) == 0
    killed(case, out, "north", 1, "histograms")
    assert kept(out, "north") == kept(out, "south") == []
    assert resumed(case, out) == 0


@pytest.mark.parametrize("owner", ["north", pytest.param("south", marks=pytest.mark.slow)])
def test_if_one_owner_has_none_all_start_from_the_beginning(case: Case, out: Path, owner: str) -> None:
    killed(case, out, "south", 3, "routing")
    for name in kept(out, owner):
        (out / owner / name).unlink()
    assert resumed(case, out) == 0


def test_without_resume_it_starts_from_the_beginning(case: Case, out: Path) -> None:
    killed(case, out, "south", 3, "routing")
    seen: list[int] = []
    run_all(case, out, on_tree=lambda role, number: seen.append(number))
    assert seen.count(0) == 3
    check_model(case, out)
    assert kept(out, "north") == kept(out, "south") == []


def test_checkpoints_of_a_start_that_was_not_resumed_are_not_mixed_with_older_ones(case: Case, out: Path) -> None:
    killed(case, out, "south", 4, "routing")
    killed(case, out, "south", 2, "routing")
    assert kept(out, "north") == kept(out, "south") == ["tree-00001.checkpoint"]
    assert resumed(case, out) == 1


def test_another_number_of_trees_is_another_job(case: Case, out: Path) -> None:
    killed(case, out, "south", 3, "routing")
    text = case.path.read_text()
    case.path.write_text(text.replace(f"n_estimators = {TREES}", f"n_estimators = {TREES + 1}"))
    with pytest.raises(InputError, match=r"tree-00001.checkpoint: is damaged, or belongs to another job"):
        role = run_module.Role(case.job, "north", case.certificates, out, resume=True)
        run_module.run_party(role, case.tables["north"], "north")
    case.path.write_text(text)
    assert resumed(case, out) == 2  # refusing has removed nothing


def test_all_parties_resume_or_none(case: Case, out: Path) -> None:
    killed(case, out, "south", 3, "routing")
    with pytest.raises(PeerMismatch, match="south resumes but north does not: start all parties with --resume"):
        run_all(case, out, resume=["south", "dealer", "university"])
    # Neither the dealer nor the analyst has anything to resume from.
    run_all(case, out, resume=["north", "south"])
    check_model(case, out)


def test_resume_needs_a_folder(case: Case) -> None:
    with pytest.raises(InputError, match="--resume needs --out DIR, the folder with the checkpoints"):
        role = run_module.Role(case.job, "north", case.certificates, resume=True)
        run_module.run_party(role, case.tables["north"], "north")


@pytest.mark.parametrize(
    ("analyst", "written"),
    [
        ("university", False),
        pytest.param("university", True, marks=pytest.mark.slow),
        pytest.param("south", False, marks=pytest.mark.slow),
        ("south", True),
    ],
)
def test_owners_forget_only_what_the_analyst_has_on_its_disk(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, analyst: str, written: bool
) -> None:
    """The analyst is killed between the reveal and its word that the model is saved."""
    case = make_case(tmp_path / "case", analyst=analyst, n_estimators=TREES)
    save = run_module.save_model

    def killed_while_saving(*arguments: Any) -> None:
        if written:
            save(*arguments)
        raise KilledError(analyst)

    monkeypatch.setattr(run_module, "save_model", killed_while_saving)
    with pytest.raises(KilledError):
        run_all(case, out)
    for name in case.job.party_names:
        assert kept(out, name) == [f"tree-{TREES - 1:05d}.checkpoint", f"tree-{TREES:05d}.checkpoint"]
    assert (out / "model.json").exists() == written
    monkeypatch.undo()
    assert resumed(case, out) == TREES  # all trees are there, only the reveal is done again


def test_owners_forget_after_the_analysts_word(case: Case, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are there until the model is written, and gone at the end."""
    found: list[int] = []
    save = run_module.save_model

    def look(*arguments: Any) -> None:
        found.extend(len(kept(out, name)) for name in case.job.party_names)
        save(*arguments)

    monkeypatch.setattr(run_module, "save_model", look)
    run_all(case, out)
    assert found == [2, 2]
    assert kept(out, "north") == kept(out, "south") == []


def test_an_owner_that_cannot_write_keeps_what_it_has(case: Case, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk when the share of the model is written: one line, and the job can be resumed."""

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "save_share", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\): choose another folder"):
        run_all(case, out)
    assert len(kept(out, "north")) == len(kept(out, "south")) == 2
    monkeypatch.undo()
    assert resumed(case, out) == TREES

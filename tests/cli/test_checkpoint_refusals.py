"""`--resume` with a checkpoint that is damaged or belongs elsewhere: one line, exit status 2, nothing is sent."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.jobs.interrupted import KilledError, Moment, kept, run_all
from tests.processes.support import Case, make_case, refusal, veilboost

from veilboost.cli import main
from veilboost.jobs import connection
from veilboost.jobs.certificates import write_certificates

Resume = Callable[[Case], str]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A job of three trees whose south was killed in the third; `out` holds what is left."""
    case = make_case(tmp_path_factory.mktemp("killed"), n_estimators=3)
    with pytest.raises(KilledError):
        run_all(case, case.folder / "out", kill=Moment("south", 3, "routing"))
    for name in case.job.party_names:
        assert kept(case.folder / "out", name) == ["tree-00001.checkpoint", "tree-00002.checkpoint"]
    return case


@pytest.fixture
def case(killed: Case, tmp_path: Path) -> Case:
    """A copy that a test may change."""
    folder = Path(shutil.copytree(killed.folder, tmp_path / "job"))
    return Case(folder, folder / "job.toml", killed.tables, killed.rows)


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Resume:
    """Resume as north, which must be refused before it opens its port, and return the one line."""

    def no_port(*arguments: object) -> None:
        raise AssertionError("a role with a bad checkpoint has opened its port")

    monkeypatch.setattr(connection, "listen", no_port)

    def run(case: Case) -> str:
        words = ["party", case.path, "--name", "north", "--data", case.file("north"), "--certs", case.certificates]
        words += ["--out", case.folder / "out", "--resume"]
        monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert (ended.value.code, captured.out) == (2, "")
        assert line.startswith(f"veilboost: {case.folder / 'out' / 'north'}/tree-0000")
        assert ".checkpoint: is damaged, or " in line
        return line

    return run


def checkpoint(case: Case, owner: str = "north", tree: int = 2) -> Path:
    return case.folder / "out" / owner / f"tree-{tree:05d}.checkpoint"


def places(size: int) -> list[int]:
    """Version, nonce, the beginning, several places in between, and the tag at the end."""
    return [*range(0, 15, 2), *range(15, size - 17, size // 12), *range(size - 17, size, 3), size - 1]


def test_sound_checkpoints_get_as_far_as_the_port(case: Case, resume: Resume) -> None:
    """So that the refusals below are due to the damage."""
    with pytest.raises(AssertionError, match="has opened its port"):
        resume(case)


@pytest.mark.parametrize("tree", [1, 2])
def test_truncated(case: Case, resume: Resume, tree: int) -> None:
    data = checkpoint(case, tree=tree).read_bytes()
    for length in places(len(data)):
        checkpoint(case, tree=tree).write_bytes(data[:length])
        assert f"tree-0000{tree}" in resume(case)


def test_edited(case: Case, resume: Resume) -> None:
    data = checkpoint(case).read_bytes()
    for place in places(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        checkpoint(case).write_bytes(changed)
        resume(case)
    checkpoint(case).write_bytes(data + b"\0")
    resume(case)


def test_of_another_role(case: Case, resume: Resume) -> None:
    shutil.copy(checkpoint(case, "south"), checkpoint(case))
    line = resume(case)
    assert "belongs to another job, owner, table or key: remove it, or use what it was written with" in line


def test_of_another_tree(case: Case, resume: Resume) -> None:
    first, second = checkpoint(case, tree=1).read_bytes(), checkpoint(case, tree=2).read_bytes()
    checkpoint(case, tree=1).write_bytes(second)
    checkpoint(case, tree=2).write_bytes(first)
    resume(case)


def test_of_a_tree_that_was_never_grown(case: Case, resume: Resume) -> None:
    checkpoint(case).rename(checkpoint(case, tree=3))
    assert "tree-00003" in resume(case)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n_estimators = 3", "n_estimators = 4"),
        ("max_depth = 2", "max_depth = 3"),
        ('name = "diagnosis"', 'name = "other"'),
        ("[model]", "# a comment\n[model]"),
    ],
)
def test_of_another_job(case: Case, resume: Resume, old: str, new: str) -> None:
    text = case.path.read_text()
    assert old in text
    case.path.write_text(text.replace(old, new, 1))
    assert "belongs to another job" in resume(case)


@pytest.mark.parametrize("cell", [0, 30, 59])
def test_of_another_table(case: Case, resume: Resume, cell: int) -> None:
    """One cell has changed by so much that it lies in another bin: one below the mean age above, one above it below."""
    values = case.tables["north"]["age"].to_list()
    values[cell] = 500.0 if values[cell] < 50 else -500.0
    tables = case.tables | {"north": case.tables["north"].with_columns(pl.Series("age", values))}
    assert "table or key" in resume(Case(case.folder, case.path, tables, case.rows))


@pytest.mark.slow
def test_of_other_labels(case: Case) -> None:
    """The label is south's; through the command line of real processes."""
    labels = case.tables["south"]["ms"].to_list()
    labels[7] = 1 - labels[7]
    tables = case.tables | {"south": case.tables["south"].with_columns(pl.Series("ms", labels))}
    changed = Case(case.folder, case.path, tables, case.rows)
    shutil.copytree(case.certificates, case.folder / "out" / "certs")  # where `train` looks for them
    line = refusal(veilboost("train", case.path, *changed.data_options(), "--out", case.folder / "out", "--resume"))
    assert f"{checkpoint(case, 'south', 1)}: is damaged, or belongs to another job, owner, table or key" in line
    assert not list((case.folder / "out").rglob("model*"))


def test_under_another_key(case: Case, resume: Resume) -> None:
    shutil.rmtree(case.certificates)
    write_certificates(case.job.roles, case.folder / "certs")
    assert "table or key" in resume(case)


def test_that_cannot_be_read(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(case).unlink()
    checkpoint(case).mkdir()
    words = ["party", case.path, "--name", "north", "--data", case.file("north"), "--certs", case.certificates]
    monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words), "--out", str(case.folder / "out"), "--resume"])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert f"{checkpoint(case)}: cannot be read (Is a directory): check the path and its permissions" in line

"""Bad input: exit status 2 and one line that names file, row, column or key and the mend, never a cell's value."""

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.processes.support import LABEL, Case, make_case, refusal, veilboost

from veilboost.cli import main
from veilboost.jobs.certificates import write_certificates

#: Stands in bad cells; no message may repeat it.
SECRET = "83745.1625"

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused and return its one line."""

    def run(*words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert (ended.value.code, captured.out) == (2, "")
        assert line.startswith("veilboost: ")
        assert SECRET not in line
        return line

    return run


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "case")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n_estimators = 2", "n_estimator = 2", "[model]: unknown parameter 'n_estimator'"),
        ("n_estimators = 2", "n_estimators = 0", "n_estimators = 0 is not allowed: give a whole number from 1"),
        ("max_depth = 2", "max_depth = 40", "max_depth"),
        ("max_bin = 8", "max_bin = 8\ntree_method = 'hist'", "tree_method"),
        ("learning_rate = 0.3", "learning_rate = 0.3\neta = 0.3", "eta"),
        ("[model]", "[modell]", "unknown table 'modell': did you mean 'model'?"),
        ('label = "ms"', 'label = "ms"\nid = "age"', "[data], key 'id': 'age' is a [[feature]] too"),
        ('label = "ms"', 'label = "ms"\njoin = "left"', "name its column with id"),
        ('label = "ms"', 'label = "ms"\nid = "patient"\njoin = "outer"', "key 'join': must be"),
        ('label = "ms"', 'label = "ms"\nid = "patient"\njoin = "left"', "declare it with missing = true"),
        ('label = "ms"', 'label = "ms"\nlabel_range = [0, 1]', "label_range"),
        ('method = "smpc"', 'method = "federated"', "'ms' is missing: all parties of a federated job have the same"),
        ('method = "smpc"', 'method = "smpc"\nmode = 1', "[job]: unknown key 'mode'"),
        ('kind = "flag"', 'kind = "flags"', "[[feature]] 'smoker', key 'kind'"),
        ('"smoker"]', '"smoker", "smoker"]', "'smoker' is listed twice"),
        ('"smoker"]', "]", "[[feature]] 'smoker': no party has it in its columns"),
        ('"smoker"]', '"smoker", "referral"]', "is also at"),
        ('"age", ', '"age", "weight", ', "'weight' is neither the label nor a [[feature]]"),
        ('levels = ["ward", "er", "gp"]', "", "key 'levels': is missing"),
        ("[job]", "[job", "is not valid TOML"),
    ],
)
def test_job_file(refused: Refused, case: Case, tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = case.path.read_text()
    assert old in text, text
    case.path.write_text(text.replace(old, new, 1))
    line = refused("train", case.path, "--out", tmp_path / "out")
    assert str(case.path) in line
    assert expected in line
    assert not (tmp_path / "out").exists()


def test_missing_job_file(refused: Refused, tmp_path: Path) -> None:
    assert "job.toml: there is no such job file" in refused("train", tmp_path / "job.toml", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "party 'north' has no table: add --data north=FILE"),
        (["--data", "north=n.csv"], "party 'south' has no table: add --data south=FILE"),
        (["--data", "west=w.csv"], "--data west=...: the job has no party 'west': it has north, south"),
        (["--data", "north"], "--data north: write it as --data NAME=FILE"),
        (["--data", "=n.csv"], "write it as --data NAME=FILE"),
        (["--data", "north=n.csv", "--data", "north=m.csv"], "--data north=...: is given twice"),
    ],
)
def test_data_options(refused: Refused, case: Case, tmp_path: Path, options: list[str], expected: str) -> None:
    assert expected in refused("train", case.path, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_results_folder(refused: Refused, case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refused("train", case.path, "--out", out, *case.data_options())
        assert f"{out}: cannot be written" in line
        assert "choose another folder with --out" in line


def test_certificates_of_another_job_in_the_results_folder(refused: Refused, case: Case, tmp_path: Path) -> None:
    write_certificates(["north", "east", "dealer"], tmp_path / "out" / "certs")
    line = refused("train", case.path, "--out", tmp_path / "out", *case.data_options())
    assert "certs: belongs to a job with other participants: choose another folder" in line


def with_cell(column: str, text: str, row: int = 7) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change one cell, counted from 1."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        cells = table[column].cast(pl.String).to_list()
        cells[row - 1] = text
        return table.with_columns(pl.Series(column, cells, dtype=pl.String))

    return change


@pytest.mark.parametrize(
    ("party", "change", "expected"),
    [
        ("north", lambda table: table.drop("age"), "'age'"),
        ("north", with_cell("age", ""), "row 7, column 'age': the cell is empty: fill it, or declare the column"),
        ("north", with_cell("age", "inf"), "row 7, column 'age': the number is infinite"),
        ("north", with_cell("age", "1e39"), "row 7, column 'age': the number is infinite or beyond"),
        ("north", with_cell("age", f"{SECRET} years"), "row 7, column 'age': is not a number"),
        ("north", with_cell("smoker", SECRET, 60), "row 60, column 'smoker': is not a flag"),
        ("south", with_cell("referral", SECRET, 1), "row 1, column 'referral': the category is not among the levels"),
        ("south", with_cell(LABEL, SECRET), f"row 7, column '{LABEL}': the label of binary:logistic is not a flag"),
        ("south", with_cell(LABEL, ""), f"row 7, column '{LABEL}': the label is empty"),
        ("south", lambda table: table.with_columns(pl.lit(1).alias(LABEL)), "all labels are of one class"),
        ("north", lambda table: table.clear(), "has no rows: give at least one row below the header"),
    ],
)
def test_table(
    refused: Refused,
    case: Case,
    tmp_path: Path,
    party: str,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    expected: str,
) -> None:
    """Refused by the party itself before it looks at certificates or opens its port."""
    path = tmp_path / "patients.csv"
    change(case.tables[party]).write_csv(path)
    line = refused("party", case.path, "--name", party, "--data", path, "--certs", tmp_path / "none")
    assert str(path) in line
    assert expected in line


def test_column_listed_twice(refused: Refused, case: Case, tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("age,smoker,age\n1,yes,2\n")
    line = refused("party", case.path, "--name", "north", "--data", path, "--certs", tmp_path / "none")
    assert str(path) in line
    assert "'age'" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "there is no such file: check the path"), (b"", "the file is empty"), (b"PAR1oops", "is damaged")],
)
def test_data_file(refused: Refused, case: Case, tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "patients.csv"
    if content is not None:
        path.write_bytes(content)
    line = refused("party", case.path, "--name", "north", "--data", path, "--certs", tmp_path / "none")
    assert f"{path}: " in line
    assert expected in line


def test_regression_label_outside_its_range(refused: Refused, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", objective="reg:squarederror")
    path = tmp_path / "patients.csv"
    with_cell(LABEL, SECRET)(case.tables["south"]).write_csv(path)
    line = refused("party", case.path, "--name", "south", "--data", path, "--certs", tmp_path / "none")
    assert f"row 7, column '{LABEL}': the label is outside label_range: mend it, or widen label_range" in line


def test_fixed_point_range(refused: Refused, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", reg_lambda=1e9)
    line = refused("party", case.path, "--name", "north", "--data", case.file("north"), "--certs", tmp_path / "none")
    assert "60 rows with reg_lambda = 1e+09 exceed the fixed-point range" in line
    assert "a smaller reg_lambda" in line


def test_unknown_party(refused: Refused, case: Case, tmp_path: Path) -> None:
    line = refused("party", case.path, "--name", "west", "--data", "x.csv", "--certs", tmp_path)
    assert "--name west: the job has no such party: it has north, south" in line


def test_analyst_that_is_a_party(refused: Refused, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", analyst="south")
    line = refused("analyst", case.path, "--certs", case.certificates, "--out", tmp_path / "out")
    assert "run 'veilboost party --name south' instead" in line
    line = refused("party", case.path, "--name", "south", "--data", case.file("south"), "--certs", case.certificates)
    assert "south is the analyst too: add --out DIR" in line


def test_analyst_without_a_folder(refused: Refused, case: Case) -> None:
    assert "the analyst needs --out DIR" in refused("analyst", case.path, "--certs", case.certificates)


def test_certificates(refused: Refused, case: Case, tmp_path: Path) -> None:
    line = refused("dealer", case.path, "--certs", tmp_path / "none")
    assert f"{tmp_path / 'none' / 'ca.pem'}: there is no such file: make it with 'veilboost certs'" in line
    (case.certificates / "dealer.pem").write_bytes((case.certificates / "north.pem").read_bytes())
    assert "dealer.pem: is the certificate of another role" in refused(
        "dealer", case.path, "--certs", case.certificates
    )
    write_certificates(["north", "dealer"], tmp_path / "other")
    (case.certificates / "ca.pem").write_bytes((tmp_path / "other" / "ca.pem").read_bytes())
    line = refused("party", case.path, "--name", "north", "--data", case.file("north"), "--certs", case.certificates)
    assert "north.pem: was not issued by the authority in ca.pem" in line
    (case.certificates / "north.storage.key").unlink()
    line = refused("party", case.path, "--name", "north", "--data", case.file("north"), "--certs", case.certificates)
    assert "north.storage.key: there is no such file" in line


def test_absent_participants(refused: Refused, case: Case, tmp_path: Path) -> None:
    words = ["analyst", case.path, "--certs", case.certificates, "--out", tmp_path / "out", "--wait", "0.2"]
    assert "north does not answer at 127.0.0.1:" in refused(*words)
    words = ["party", case.path, "--name", "north", "--data", case.file("north"), "--certs", case.certificates]
    assert "south did not connect within 0.2 seconds: is it started?" in refused(*words, "--wait", "0.2")


def test_train_reports_what_is_wrong_at_a_party(case: Case, tmp_path: Path) -> None:
    """As real processes: one line, at once, and no result of an earlier run is left."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.json", "report.json", "ledger.json"):
        (out / name).write_text("{}")
    path = tmp_path / "patients.csv"
    with_cell("age", f"{SECRET}x")(case.tables["north"]).write_csv(path)
    options = ["--data", f"north={path}", "--data", f"south={case.file('south')}"]
    line = refusal(veilboost("train", case.path, "--out", out, *options, timeout=120))
    assert line.startswith(f"veilboost: {path}: row 7, column 'age': is not a number")
    assert SECRET not in line
    assert {path.name for path in out.iterdir() if path.is_file()} == set()
    assert not list(out.rglob("model*"))

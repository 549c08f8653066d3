"""Drafts of job files, and that `describe` drafts what a party can train on."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.processes.support import free_ports

from veilboost.cli import main
from veilboost.errors import DataError, JobError
from veilboost.jobs.draft import (
    MOST_LEVELS,
    draft_feature,
    draft_features,
    draft_job,
    fits_classification,
    may_number_rows,
)
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import load_table

CONTINUOUS, DISCRETE, FLAG, CATEGORICAL = Kind.CONTINUOUS, Kind.DISCRETE, Kind.FLAG, Kind.CATEGORICAL


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pl.Series([0.5, 1.5, 2.25, -1.0]), Feature("x", CONTINUOUS)),
        (pl.Series([0.5, float("nan"), 2.25, None]), Feature("x", CONTINUOUS, (), True)),
        (pl.Series([3, 4] * 8), Feature("x", DISCRETE)),
        (pl.Series([0, 1, 1, None]), Feature("x", FLAG, (), True)),
        (pl.Series([0.0, 1.0]), Feature("x", FLAG)),
        (pl.Series([True, False, None]), Feature("x", FLAG, (), True)),
        (pl.Series([None, None]), Feature("x", FLAG, (), True)),
        (pl.Series(["1.5", " 2e3", "-.5", "+7."]), Feature("x", CONTINUOUS)),
        (pl.Series(["3", "4"] * 8), Feature("x", DISCRETE)),
        (pl.Series(["3", "", " ", "4", None] * 4), Feature("x", DISCRETE, (), True)),
        (pl.Series(["t", "f", "t"]), Feature("x", FLAG)),
        (pl.Series(["Yes", "NO", "nan"]), Feature("x", FLAG, (), True)),
        (pl.Series(["0", "1"]), Feature("x", FLAG)),
        (pl.Series(["ward ", "er", "gp"]), Feature("x", CATEGORICAL, ("er", "gp", "ward"))),
        (pl.Series(["er", "", "gp"]), Feature("x", CATEGORICAL, ("er", "gp"), True)),
        (pl.Series(["1", "2", "many"]), Feature("x", CATEGORICAL, ("1", "2", "many"))),
        (pl.Series(["er", "gp", None], dtype=pl.Categorical), Feature("x", CATEGORICAL, ("er", "gp"), True)),
        (pl.Series(["er"], dtype=pl.Enum(["ward", "er"])), Feature("x", CATEGORICAL, ("ward", "er"))),
    ],
)
def test_kinds(cells: pl.Series, expected: Feature) -> None:
    assert draft_feature("x", cells, "table") == expected


def test_a_draft_accepts_its_own_table() -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "number": rng.normal(size=50),
            "count": rng.integers(0, 4, 50),
            "text": rng.choice(["b", "a"], 50),
            "gaps": [None if k % 3 else "maybe" for k in range(50)],
        }
    )
    features = [draft_feature(name, frame[name], "table") for name in frame.columns]
    assert load_table(frame, features=features).rows == 50


def test_a_column_is_of_one_type_in_all_tables() -> None:
    def draft(one: pl.Series, other: pl.Series) -> Feature:
        frames = {"north": pl.DataFrame({"code": one}), "south": pl.DataFrame({"code": other})}
        return draft_features(frames, [], {"north": "north.csv", "south": "south.csv"})["code"]

    numbers, texts = pl.Series([1, 2, 4]), pl.Series(["1", "7", "none"])
    message = r"^north.csv: column 'code' holds numbers, and in south.csv texts: make it texts in all tables"
    with pytest.raises(DataError, match=message):
        draft(numbers, texts)
    assert draft(texts, texts).kind is Kind.CATEGORICAL
    assert draft(numbers, pl.Series(["1", "7", ""])).kind is Kind.DISCRETE  # numbers as text, as in CSV files
    assert draft(pl.Series([None, None]), texts).levels == ("1", "7", "none")


def test_too_many_texts_are_refused() -> None:
    with pytest.raises(
        DataError, match=f"patients.csv: column 'remark' has {MOST_LEVELS + 1} different texts: name it as the id"
    ):
        draft_feature("remark", pl.Series([f"patient {n}" for n in range(MOST_LEVELS + 1)] * 2), "patients.csv")


@pytest.mark.parametrize("more", [0, 1])
def test_texts_that_say_who_a_row_is_are_refused(more: int) -> None:
    """They would stand as levels in the job file, which is shared."""
    names = pl.Series([f"patient {number}" for number in range(17)] + ["patient 3"] * more)
    with pytest.raises(DataError, match=r"column 'who' has another text in nearly every row: name it as the id"):
        draft_feature("who", names, "table")
    assert draft_feature("who", pl.concat([names] * 2), "table").kind is CATEGORICAL
    assert draft_feature("who", names[:16], "table").kind is CATEGORICAL
    assert draft_feature("who", names.cast(pl.Enum(names.unique())), "table").kind is CATEGORICAL


@pytest.mark.parametrize(
    "form",
    ["2024-02-{:02}", "2024-2-{}T10:30", "{:02}.02.2024", "{}/2/24 09:00", "2024/02/{}", "{} Feb 2024", "2-{:02}-2024"],
)
def test_dates_as_text_are_refused(form: str) -> None:
    dates = [form.format(day) for day in range(1, 20)]
    with pytest.raises(DataError, match=r"column 'visit' holds dates: make it a number"):
        draft_feature("visit", pl.Series(dates * 3), "table")
    with pytest.raises(DataError, match=r"column 'visit' holds dates"):
        draft_feature("visit", pl.Series([*dates * 3, "unknown"], dtype=pl.Categorical), "table")
    assert draft_feature("visit", pl.Series(dates[:4] * 9), "table").kind is CATEGORICAL


@pytest.mark.parametrize("form", ["1.{}.10", "{}-18-5", "ward {}-2"])
def test_codes_are_no_dates(form: str) -> None:
    codes = [form.format(number) for number in range(30)]
    assert draft_feature("code", pl.Series(codes * 3), "table").kind is CATEGORICAL


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pl.Series(range(100, 120)), True),
        (pl.Series([10**17 + number for number in range(20)]), True),
        (pl.Series([f" {number}" for number in range(20)]), True),
        (pl.Series([str(number) for number in range(20)]), True),
        (pl.Series([float(number * number) for number in range(20)]), True),
        (pl.Series(range(19)), False),
        (pl.Series([*range(20), 3]), False),
        (pl.Series([*range(20), None]), False),
        (pl.Series([number + 0.5 for number in range(20)]), False),
        (pl.Series([f"patient {number}" for number in range(20)]), False),
        (pl.Series([True, False] * 10), False),
    ],
)
def test_columns_that_may_number_rows(cells: pl.Series, expected: bool) -> None:
    assert may_number_rows(cells) is expected


@pytest.mark.parametrize(
    "cells",
    [
        pl.Series([[1], [2]]),
        pl.Series([b"a", b"b"]),
        pl.Series([{"a": 1}]),
        pl.Series([1, None]).cast(pl.Duration),
    ],
)
def test_cells_that_are_no_numbers_or_text_are_refused(cells: pl.Series) -> None:
    with pytest.raises(DataError, match=r"table: column 'x' holds .*, not text or numbers"):
        draft_feature("x", cells, "table")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pl.Series([0, 1, 1]), True),
        (pl.Series([1.0, 0.0, float("nan")]), True),
        (pl.Series([True, False]), True),
        (pl.Series(["Yes", "no ", "", None]), True),
        (pl.Series([1, 2]), False),
        (pl.Series(["12.5", "0"]), False),
    ],
)
def test_labels_for_classification_and_regression(cells: pl.Series, expected: bool) -> None:
    assert fits_classification("sick", cells, "table") is expected


@pytest.mark.parametrize(
    "cells", [pl.Series(["sick", "well"]), pl.Series(["1", "two"]), pl.Series([1]).cast(pl.Duration), pl.Series([[1]])]
)
def test_labels_for_neither_are_refused(cells: pl.Series) -> None:
    with pytest.raises(DataError, match=r"table: (the label|column) 'sick' holds .*: (write|convert)") as caught:
        fits_classification("sick", cells, "table")
    assert "well" not in str(caught.value)


def test_drafted_job_is_a_job() -> None:
    drafted = draft_job(
        "draft",
        {"north": [Feature("age", CONTINUOUS)], "south": [Feature("er", CATEGORICAL, ("no", "yes"), True)]},
        {"label": "cost", "label_range": [0.0, 9.0], "weight": "w", "weight_range": [0.0, 2.0]},
        {"cost": ["south"], "w": ["north"]},
        "university",
        {"objective": "reg:squarederror"},
    )
    job = job_from_dict(drafted)
    assert (job.label_holders, job.weight_holders) == (("south",), ("north",))
    assert job.data.label_range == (0.0, 9.0)
    assert [str(address) for address in (job.dealer, *(party.address for party in job.parties))] == [
        "127.0.0.1:7100",
        "127.0.0.1:7101",
        "127.0.0.1:7102",
    ]
    label, holders = {"label": "y"}, {"y": ["b"]}
    columns = {"a": job.features[:1], "b": job.features[:0]}
    assert job_from_dict(draft_job("d", columns, label, holders, "c", {})).party_names == ("a", "b")
    with pytest.raises(JobError, match="'age' is also at a, so each has different rows, but 'y' is here alone"):
        job_from_dict(draft_job("d", {"a": job.features[:1], "b": job.features[:1]}, label, holders, "c", {}))


def test_drafted_federated_job() -> None:
    columns = {name: [Feature("age", CONTINUOUS)] for name in ("north", "south")}
    given: dict[str, Any] = {"method": "federated", "federated": {"min_clients": 2, "epsilon": 1}}
    drafted = draft_job("d", columns, {"label": "y"}, {"y": ["north", "south"]}, "university", {}, **given)
    job = job_from_dict(drafted)
    shown = [str(address) for address in (job.dealer, *(one.address for one in (*job.parties, *job.aggregators)))]
    assert shown == [f"127.0.0.1:{port}" for port in range(7100, 7105)]
    assert [one["name"] for one in drafted["aggregator"]] == ["aggregator1", "aggregator2"]
    assert job.federated is not None and job.federated.epsilon == 1
    ports = [9001, 9005, 9003, 9002, 9004]
    drafted = draft_job("d", columns, {"label": "y"}, {"y": ["north", "south"]}, "u", {}, ports, method="federated")
    assert [port for _, port in job_from_dict(drafted).addresses.values()] == [9005, 9003, 9002, 9004, 9001]
    assert "federated" not in drafted


def thyroid(rows: int) -> dict[str, pl.DataFrame]:
    """A mixture as in records of thyroid disease: flags as t and f, hormones with gaps, an empty column."""
    rng = np.random.default_rng(8)
    tsh = rng.lognormal(0.5, 1, rows)
    sick = tsh * rng.lognormal(0, 0.3, rows) > 3
    flags = {name: rng.choice(["t", "f"], rows) for name in ("on thyroxine", "pregnant")}
    questions = pl.DataFrame(
        {
            "patient": np.arange(rows),
            "age": rng.integers(15, 90, rows),
            "sex": [None if k % 9 == 0 else "F" if k % 3 else "M" for k in range(rows)],
            **flags,
            "referral source": rng.choice(["SVHC", "SVI", "STMW", "other"], rows),
        }
    )
    laboratory = pl.DataFrame(
        {
            "patient": np.arange(rows),
            "TSH": [None if k % 5 == 0 else round(float(value), 2) for k, value in enumerate(tsh)],
            "TSH measured": ["f" if k % 5 == 0 else "t" for k in range(rows)],
            "TBG": [None] * rows,
            "sick": ["t" if yes else "f" for yes in sick],
        },
        schema_overrides={"TBG": pl.Float64},
    )
    return {"clinic": questions, "laboratory": laboratory}


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def write_tables(folder: Path, rows: int = 80) -> list[str]:
    """The options for `thyroid` as files."""
    options = []
    for party, frame in thyroid(rows).items():
        frame.write_csv(folder / f"{party}.csv")
        options += ["--data", f"{party}={folder / party}.csv"]
    return options


def test_train_accepts_what_describe_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_tables(tmp_path)
    path = tmp_path / "job.toml"
    words = ["describe", *options, "--label", "sick", "--id", "patient", "--out", path, "--analyst", "university"]
    assert run_main(monkeypatch, *words) == 0
    assert f"wrote {path}: look over kinds" in capsys.readouterr().out
    job = load_job(path)
    kinds = {feature.name: (feature.kind, feature.missing) for feature in job.features}
    assert kinds == {
        "age": (DISCRETE, False),
        "sex": (CATEGORICAL, True),
        "on thyroxine": (FLAG, False),
        "pregnant": (FLAG, False),
        "referral source": (CATEGORICAL, False),
        "TSH": (CONTINUOUS, True),
        "TSH measured": (FLAG, False),
        "TBG": (FLAG, True),
    }
    assert (job.label_holders, job.analyst) == (("laboratory",), "university")
    # The draft's fixed ports may be taken on the machine that tests; its size is cut for speed.
    text = job_to_toml(job).replace("n_estimators = 20", "n_estimators = 1").replace("max_depth = 4", "max_depth = 2")
    for fixed, free in zip(("7100", "7101", "7102"), free_ports(3), strict=True):
        text = text.replace(f":{fixed}", f":{free}")
    path.write_text(text)
    assert run_main(monkeypatch, "train", path, *options, "--out", tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out" / "model.json").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--label", "ill"], "--label ill: no table has this column"),
        (["--label", "sick"], "if 'patient' says which rows belong together, make it the id"),
        (["--label", "sick", "--id", "person"], "--id person: "),
    ],
)
def test_describe_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    path = tmp_path / "job.toml"
    assert run_main(monkeypatch, "describe", *write_tables(tmp_path), "--out", path, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not path.exists()


def test_describe_says_what_a_label_of_other_numbers_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_tables(tmp_path)
    words = ["describe", *options, "--id", "patient", "--out"]
    assert run_main(monkeypatch, *words, tmp_path / "age.toml", "--label", "age") == 0
    said = capsys.readouterr().out
    assert "the label 'age' has numbers other than 0 and 1" in said
    assert 'objective = "reg:squarederror"' in said
    text = (tmp_path / "age.toml").read_text().replace("binary:logistic", "reg:squarederror")
    (tmp_path / "age.toml").write_text(text.replace("[data]", "[data]\nlabel_range = [0, 120]"))
    assert load_job(tmp_path / "age.toml").data.label_range == (0, 120)
    assert run_main(monkeypatch, *words, tmp_path / "sex.toml", "--label", "sex") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "clinic.csv: the label 'sex' holds cells that are neither numbers nor true/false" in line
    assert not (tmp_path / "sex.toml").exists()


def test_describe_says_which_columns_may_number_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pl.DataFrame({"record": range(40), "age": [30 + k % 7 for k in range(40)], "sick": [0, 1] * 20})
    frame.write_csv(tmp_path / "ward.csv")
    pl.DataFrame({"weight": [60.5 + k % 9 for k in range(40)]}).write_csv(tmp_path / "scales.csv")
    tables = ["--data", f"ward={tmp_path}/ward.csv", "--data", f"scales={tmp_path}/scales.csv"]
    assert run_main(monkeypatch, "describe", *tables, "--out", tmp_path / "job.toml", "--label", "sick") == 0
    said = capsys.readouterr().out
    assert "ward.csv: column 'record' has a different whole number in every row: if it numbers rows" in said
    assert said.count("a different whole number") == 1


def test_describe_does_not_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.toml"
    path.write_text("mine")
    options = write_tables(tmp_path)
    assert run_main(monkeypatch, "describe", *options, "--out", path, "--label", "sick", "--id", "patient") == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_text() == "mine"
    words = ["describe", *options, "--out", tmp_path / "no" / "job.toml", "--label", "sick", "--id", "patient"]
    assert run_main(monkeypatch, *words) == 2
    assert "cannot be written" in capsys.readouterr().err

"""Whole jobs over TLS whose rows lie with several parties."""

import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from tests.processes.support import FEATURES, LABEL, Case, draw_rows, free_ports, run_roles

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.table import encode_frame

HOSPITALS = ("north", "south", "west")


def make_grid(folder: Path, sizes: tuple[int, ...] = (40, 25, 55)) -> Case:
    """Three hospitals with the same columns and the label, and a laboratory with one column for all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = draw_rows(sum(sizes), 3)
    columns = {name: ["age", "smoker", "referral", LABEL] for name in HOSPITALS} | {"laboratory": ["prior drugs"]}
    ports = free_ports(len(columns) + 1)
    content = {
        "job": {"name": "hospitals", "method": "smpc", "analyst": "university"},
        "model": {"objective": "binary:logistic", "n_estimators": 2, "max_depth": 3, "max_bin": 16},
        "data": {"label": LABEL},
        "feature": FEATURES,
        "party": [
            {"name": name, "address": f"127.0.0.1:{port}", "columns": held}
            for (name, held), port in zip(columns.items(), ports[1:], strict=True)
        ],
        "dealer": {"address": f"127.0.0.1:{ports[0]}"},
    }
    path = folder / "job.toml"
    path.write_text(job_to_toml(job_from_dict(content)), encoding="utf-8")
    starts = np.cumsum([0, *sizes])
    tables = {
        name: everything.slice(int(start), size).select(columns[name])
        for name, start, size in zip(HOSPITALS, starts, sizes, strict=False)
    }
    return Case(folder, path, tables | {"laboratory": everything.select("prior drugs")}, everything)


def test_model_reaches_the_analyst_alone(tmp_path: Path) -> None:
    case = make_grid(tmp_path)
    outcomes = run_roles(case, tmp_path / "out")
    assert [name for name, outcome in outcomes.items() if outcome.model is not None] == ["university"]
    assert {outcome.rows for outcome in outcomes.values()} == {120}
    model = outcomes["university"].model
    assert model is not None
    assert max(tree.n_nodes for tree in model.trees) > 3
    ledgers = {name: outcome.ledger for name, outcome in outcomes.items() if name not in ("university", "dealer")}
    assert len({str(ledger) for ledger in ledgers.values()}) == 1
    # The same disclosures as where columns are split: rows and blocks add none.
    assert [entry.value for entry in ledgers["north"]] == [
        "base score",
        "feature, categories and default direction of every split",
        "threshold of every split",
        "leaf weights",
    ]


def test_a_block_may_have_labels_of_one_class(tmp_path: Path) -> None:
    case = make_grid(tmp_path)
    case.tables["west"] = case.tables["west"].with_columns(pl.lit("1").alias(LABEL))
    assert run_roles(case, None)["university"].model is not None


def with_ids(case: Case) -> Case:
    """The same tables with ids, each with some rows that nobody else has, in an order of its own."""
    text = case.path.read_text()
    case.path.write_text(text.replace("[data]", '[data]\nid = "patient"'))
    start = 0
    for number, (name, table) in enumerate(case.tables.items()):
        first = 0 if name == "laboratory" else start
        start += table.height
        ids = pl.Series("patient", [f"p{n}" for n in range(first, first + table.height)])
        strangers = table.head(5).with_columns(pl.Series("patient", [f"{name} {n}" for n in range(5)]))
        case.tables[name] = pl.concat([table.with_columns(ids), strangers]).sample(
            fraction=1, shuffle=True, seed=number
        )
    return case


@pytest.mark.parametrize("join", ["inner", "left"])
def test_rows_are_matched_by_id(tmp_path: Path, join: str) -> None:
    case = with_ids(make_grid(tmp_path))
    case.path.write_text(case.path.read_text().replace("[data]", f'[data]\njoin = "{join}"'))
    outcomes = run_roles(case, tmp_path / "out")
    assert {outcome.rows for outcome in outcomes.values()} == {120 if join == "inner" else 135}
    model = outcomes["university"].model
    assert model is not None
    # Rows that do not belong together would make a model that knows little of the label.
    rows = encode_frame(case.rows, model.features)
    auc = roc_auc_score(case.rows[LABEL].cast(pl.Int64).to_numpy(), model.predict(rows))
    assert auc > 0.75
    ledgers = {name: [entry.value for entry in outcome.ledger] for name, outcome in outcomes.items()}
    assert len({str(values) for values in ledgers.values()}) == 1
    assert ledgers["dealer"].count("which of its ids another party has") == 3
    assert "which of its ids are rows of the training" in (tmp_path / "out" / "report.html").read_text()


def test_no_common_rows_are_refused_at_all_roles(tmp_path: Path) -> None:
    case = with_ids(make_grid(tmp_path))
    case.tables["laboratory"] = case.tables["laboratory"].with_columns(pl.col("patient") + "x")
    with pytest.raises(PeerMismatch, match="north, laboratory have no id in common"):
        run_roles(case, None)


def test_common_rows_of_one_class_are_refused(tmp_path: Path) -> None:
    """Each table is sound by itself; without the refusal the model would say the same of everybody."""
    case = with_ids(make_grid(tmp_path))
    everything = case.rows.with_columns(pl.Series("patient", [f"p{n}" for n in range(case.rows.height)]))
    held = ["age", "smoker", "referral", LABEL]
    content = tomllib.loads(case.path.read_text())
    content["party"] = [party for party in content["party"] if party["name"] in ("north", "laboratory")]
    case.path.write_text(job_to_toml(job_from_dict(content)))
    ill = everything.filter(pl.col(LABEL).cast(pl.Int64) == 1)
    tables = {"north": everything.select(*held, "patient"), "laboratory": ill.select("prior drugs", "patient")}
    with pytest.raises(InputError, match=f"labels of the {ill.height} rows matched by id are of one class"):
        run_roles(case, None, tables=tables)


def test_rows_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    case = make_grid(tmp_path)
    short = {**case.tables, "laboratory": case.tables["laboratory"].head(119)}
    with pytest.raises(PeerMismatch, match=r"laboratory has 119 rows but .* have 40 \+ 25 \+ 55: give laboratory"):
        run_roles(case, None, tables=short)

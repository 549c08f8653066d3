"""Whole jobs over TLS, every role a thread of the test."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xgboost
from tests.processes.support import Case, draw_rows, make_case, run_roles

from veilboost.errors import DataError, InputError, PeerMismatch
from veilboost.jobs.certificates import load_storage_key
from veilboost.jobs.entries import DEALER
from veilboost.jobs.inputs import training_task
from veilboost.jobs.model_share import load_share
from veilboost.jobs.outcome import Outcome, settings
from veilboost.jobs.results import RESULTS, prepare_folder, write_json
from veilboost.jobs.run import Role, run_analyst, run_party
from veilboost.mpc.ring import Words
from veilboost.tables.table import encode_frame
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.xgboost_json import load_model, save_model
from veilboost.xorboost.reveal import rebuild


def join_shares(case: Case, out: Path) -> Ensemble:
    """The model of all owners' stored shares."""
    job = case.job
    shares = [
        load_share(out / name, load_storage_key(case.certificates, name), job.job_hash(), name)
        for name in job.party_names
    ]
    values: dict[str, Words] = {}
    for name, words in shares[0].items():
        values[name] = words.copy()
        for other in shares[1:]:
            values[name] = values[name] ^ other[name] if name in ("cuts", "splits") else values[name] + other[name]
    return rebuild(training_task(job, [case.rows.height]), values)


def dumps(model: Ensemble, folder: Path) -> str:
    save_model(model, folder / "again.json")
    return (folder / "again.json").read_text()


@pytest.mark.parametrize("parties", [("north", "south"), ("north", "south", "insurer")])
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_model_reaches_the_analyst_alone(tmp_path: Path, parties: tuple[str, ...], objective: str) -> None:
    case = make_case(tmp_path, parties, objective=objective)
    outcomes = run_roles(case, tmp_path / "out")
    assert [name for name, outcome in outcomes.items() if outcome.model is not None] == ["university"]
    model = load_model(tmp_path / "out" / "model.json")
    assert len(model.trees) == 2
    assert dumps(join_shares(case, tmp_path / "out"), tmp_path) == (tmp_path / "out" / "model.json").read_text()
    values = encode_frame(case.rows, case.job.features)
    booster = xgboost.Booster(model_file=tmp_path / "out" / "model.json")
    kinds = ["c" if feature.categorical else "float" for feature in case.job.features]
    matrix = xgboost.DMatrix(
        values, feature_names=[f.name for f in case.job.features], feature_types=kinds, enable_categorical=True
    )
    predicted = model.predict(values)
    np.testing.assert_allclose(booster.predict(matrix), predicted, rtol=1e-5, atol=1e-6)
    labels = case.rows["ms"].to_numpy()
    assert np.corrcoef(predicted, labels)[0, 1] > 0.3


def test_analyst_may_be_a_party(tmp_path: Path) -> None:
    case = make_case(tmp_path, analyst="south")
    outcomes = run_roles(case, tmp_path / "out")
    assert set(outcomes) == {"north", "south", DEALER}
    assert [name for name, outcome in outcomes.items() if outcome.model is not None] == ["south"]
    assert outcomes["south"].model is not None
    stored = load_model(tmp_path / "out" / "model.json")
    values = encode_frame(case.rows, case.job.features)
    np.testing.assert_array_equal(stored.predict(values), outcomes["south"].model.predict(values))
    assert dumps(join_shares(case, tmp_path / "out"), tmp_path) == (tmp_path / "out" / "model.json").read_text()
    assert {entry.receiver for outcome in outcomes.values() for entry in outcome.ledger} == {"south"}


def test_analyst_that_is_a_party_needs_a_folder(tmp_path: Path) -> None:
    case = make_case(tmp_path, analyst="south")
    with pytest.raises(InputError, match="south is the analyst too: add --out"):
        run_party(Role(case.job, "south", case.certificates), case.tables["south"], "south")


def test_reports_of_the_roles(tmp_path: Path) -> None:
    case = make_case(tmp_path, n_estimators=3)
    outcomes = run_roles(case, tmp_path / "out")
    for name in ("north", "south", DEALER):
        report = json.loads((tmp_path / "out" / name / "report.json").read_text())
        assert len(report["seconds_per_tree"]) == 3
        assert all(seconds > 0 for seconds in report["seconds_per_tree"])
        assert set(report["bytes_sent"]) == set(case.job.roles) - {name}
        assert report["settings"]["parameters"]["max_depth"] == 2
    ledgers = [outcomes[name].ledger for name in ("north", "south")]
    assert ledgers[0] == ledgers[1]
    assert [entry.value for entry in ledgers[0]] == [entry.value for entry in outcomes[DEALER].ledger]
    assert outcomes["north"].rounds == outcomes["south"].rounds > 0
    assert outcomes["university"].rounds == 0


def test_bytes_do_not_depend_on_the_data(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    other = draw_rows(60, seed=99).sample(fraction=1, shuffle=True, seed=3)
    others = {party: other.select(table.columns) for party, table in case.tables.items()}
    first = run_roles(case, None)
    second = run_roles(case, None, tables=others)
    sent = [{name: outcome.bytes_sent for name, outcome in run.items()} for run in (first, second)]
    assert sent[0] == sent[1]
    assert min(sent[0]["north"].values()) > 0


def test_every_run_begins_a_new_epoch(tmp_path: Path) -> None:
    case = make_case(tmp_path, objective="reg:squarederror", n_estimators=1)  # labels without ties between splits
    shares, models = [], []
    for out in (tmp_path / "first", tmp_path / "second"):
        run_roles(case, out)
        key = load_storage_key(case.certificates, "north")
        shares.append(load_share(out / "north", key, case.job.job_hash(), "north"))
        models.append(load_model(out / "model.json").predict(encode_frame(case.rows, case.job.features)))
    np.testing.assert_allclose(models[0], models[1], atol=0.01)
    assert not np.any(shares[0]["weights"] == shares[1]["weights"])


def test_different_rows_are_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    tables = {**case.tables, "south": case.tables["south"].head(40)}
    with pytest.raises(PeerMismatch, match="north has 60 rows but south has 40"):
        run_roles(case, tmp_path / "out", tables=tables)
    assert not list((tmp_path / "out").rglob("model*"))


def test_bad_table_is_refused_before_the_port_is_opened(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    table = case.tables["north"].with_columns(age=pl.lit(float("inf")))
    with pytest.raises(DataError, match="patients: row 1, column 'age'"):
        run_party(Role(case.job, "north", tmp_path / "nowhere"), table, "patients")


def test_more_rows_than_the_fixed_point_range_allows(tmp_path: Path) -> None:
    case = make_case(tmp_path, reg_lambda=1e8)
    with pytest.raises(InputError, match=r"60 rows with reg_lambda = 1e\+08 .* smaller reg_lambda"):
        run_party(Role(case.job, "north", tmp_path / "nowhere"), case.tables["north"], "patients")
    case = make_case(tmp_path, objective="reg:squarederror", base_score=1e12)
    with pytest.raises(InputError, match="base_score near the labels"):
        run_party(Role(case.job, "south", tmp_path / "nowhere"), case.tables["south"], "patients")


def test_results_of_an_earlier_run_are_removed_at_the_start(tmp_path: Path) -> None:
    case = make_case(tmp_path, n_estimators=1)
    out = tmp_path / "out"
    run_roles(case, out)
    kept = out / "notes.txt"
    kept.write_text("mine")
    before = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"model.json", "north/model.share", "south/model.share", "dealer/report.json"} <= before
    with pytest.raises(PeerMismatch):
        run_roles(case, out, tables={**case.tables, "south": case.tables["south"].head(40)})
    assert [path for path in out.rglob("*") if path.is_file()] == [kept]


def test_analyst_without_owners_gives_up(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    with pytest.raises(Exception, match=r"north does not answer at 127.0.0.1"):
        run_analyst(Role(case.job, "university", case.certificates, None, wait_seconds=0.3))


def test_prepare_folder_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"out: cannot be written .*: choose another folder with --out"):
        prepare_folder(tmp_path / "out")
    with pytest.raises(InputError, match="below: cannot be written"):
        prepare_folder(tmp_path / "out" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for the superuser")
def test_prepare_folder_refuses_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        prepare_folder(tmp_path)


def test_prepare_folder_removes_results_only(tmp_path: Path) -> None:
    for name in (*RESULTS, "model.share.partial", "report.json.partial", "table.csv"):
        (tmp_path / name).write_text("")
    prepare_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_write_json_leaves_the_old_file_if_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == [1]


def test_settings_and_outcome_are_json(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert json.loads(json.dumps(settings(case.job)))["job_hash"] == case.job.job_hash().hex()
    assert "model" not in json.loads(json.dumps(Outcome("north").to_dict()))

"""`veilboost train`: real processes over TLS, three owners."""

import json
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import xgboost
from tests.jobs.test_run import join_shares
from tests.processes.support import Case, complaints, make_case, refusal, veilboost

from veilboost.jobs.certificates import load_storage_key
from veilboost.jobs.entries import DEALER
from veilboost.jobs.model_share import load_share
from veilboost.mpc.transport.connect import listen
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

OWNERS = ("north", "south", "insurer")
Trained = tuple[Case, Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    case = make_case(tmp_path_factory.mktemp("trained"), OWNERS, n_estimators=3)
    out = case.folder / "out"
    return case, out, veilboost("train", case.path, *case.data_options(), "--out", out)


def test_ends_well(trained: Trained) -> None:
    _, out, result = trained
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 trees in" in result.stdout
    assert "to university: leaf weights (3, 4)" in result.stdout
    assert "to everybody else: nothing (north, south, insurer, dealer)" in result.stdout
    assert not list(out.rglob("*.partial"))


def test_model_loads_in_xgboost(trained: Trained) -> None:
    case, out, _ = trained
    model = load_model(out / "model.json")
    booster = xgboost.Booster(model_file=out / "model.json")
    assert booster.num_boosted_rounds() == 3
    names = [feature.name for feature in case.job.features]
    assert booster.feature_names == names
    values = encode_frame(case.rows, case.job.features)
    kinds = ["c" if feature.categorical else "float" for feature in case.job.features]
    matrix = xgboost.DMatrix(values, feature_names=names, feature_types=kinds, enable_categorical=True)
    np.testing.assert_allclose(booster.predict(matrix), model.predict(values), rtol=1e-5, atol=1e-6)
    assert np.mean((model.predict(values) > 0.5) == case.rows["ms"].to_numpy()) > 0.65


def test_report(trained: Trained) -> None:
    case, out, _ = trained
    report = json.loads((out / "report.json").read_text())
    assert len(report["seconds_per_tree"]) == 3
    assert all(seconds > 0 for seconds in report["seconds_per_tree"])
    assert report["seconds_setup"] > 0
    assert set(report["bytes_sent"]) == {*OWNERS, DEALER, "university"}
    assert all(type(count) is int and count > 0 for count in report["bytes_sent"].values())
    assert report["rounds"] > 0
    assert report["settings"]["parameters"]["n_estimators"] == 3
    assert report["settings"]["job_hash"] == case.job.job_hash().hex()


def test_ledger(trained: Trained) -> None:
    _, out, _ = trained
    ledger = json.loads((out / "ledger.json").read_text())
    assert isinstance(ledger, list)
    assert {entry["receiver"] for entry in ledger} == {"university"}
    assert all(set(entry) == {"receiver", "value", "why", "shape", "round"} for entry in ledger)
    for owner in OWNERS:
        assert json.loads((out / owner / "ledger.json").read_text()) == ledger


def test_shares_add_up_to_the_model(trained: Trained) -> None:
    case, out, _ = trained
    keyed = Case(out, case.path, case.tables, case.rows)  # its certs/ were made by `train`
    values = encode_frame(case.rows, case.job.features)
    model = load_model(out / "model.json")
    np.testing.assert_array_equal(join_shares(keyed, out).predict(values), model.predict(values))


def test_no_share_alone_says_anything(trained: Trained) -> None:
    """Words of a share are uniform: among those of the weights, which are small numbers, hardly any is small."""
    case, out, _ = trained
    key = load_storage_key(out / "certs", "south")
    weights = load_share(out / "south", key, case.job.job_hash(), "south")["weights"]
    assert np.abs(weights.view(np.int64)).min() > 2**40


def test_nobody_but_the_analyst_keeps_a_model(trained: Trained) -> None:
    _, out, _ = trained
    assert [path.parent for path in out.rglob("model.json")] == [out]


def test_port_in_use(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    address = case.job.party("south").address
    begin = time.monotonic()
    with listen("stranger", address.host, address.port):
        line = refusal(veilboost("train", case.path, *case.data_options(), "--out", tmp_path / "out"))
    assert f"south cannot listen at {address} (Address already in use): stop the program that uses the port" in line
    assert time.monotonic() - begin < 30  # the others would wait ten minutes


@pytest.mark.slow
def test_demo() -> None:
    result = veilboost("demo", timeout=300)
    assert (result.returncode, complaints(result.stderr)) == (0, [])
    (ours,) = re.findall(r"all +\S +276 +\S +55% +\S +\S +(0\.\d{3})", result.stdout)
    (theirs,) = re.findall(r"pooled in one table \(XGBoost\): (0\.\d{3})", result.stdout)
    assert abs(float(ours) - float(theirs)) < 0.02
    gains = re.findall(r"(Cleveland|Hungary|Switzerland|Long-Beach) .*([+-]0\.\d{3})", result.stdout)
    assert [name for name, _ in gains] == ["Cleveland", "Hungary", "Switzerland", "Long-Beach"]

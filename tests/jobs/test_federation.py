"""Whole federated jobs over TLS: what every participant is left with, as processes and as threads."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tests.processes.support import FEATURES, LABEL, Case, draw_rows, free_ports

from veilboost import FederatedClassifier, FederatedRegressor
from veilboost.errors import InputError, ParticipantError, PeerLost
from veilboost.jobs.aggregator import run_aggregator
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.entries import DEALER
from veilboost.jobs.federation import run_client, run_federated_analyst, run_federated_dealer
from veilboost.jobs.local import run_local
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.role import Role
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.mpc.transport.tls import TlsTransport
from veilboost.trees.xgboost_json import load_model

CLIENTS = ("north", "south", "west")
AGGREGATORS = ("ministry", "charity")


def federated_case(
    folder: Path,
    objective: str = "binary:logistic",
    *,
    analyst: str = "university",
    features: Sequence[dict[str, Any]] = FEATURES,
    federated: dict[str, Any] | None = None,
    clients: Sequence[str] = CLIENTS,
    rows: int = 40,
    **model: Any,
) -> Case:
    """A job of clients with different rows of the same columns."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [entry["name"] for entry in features] + [LABEL]
    tables = {}
    for seed, name in enumerate(clients):
        table = draw_rows(rows + 7 * seed, seed, "binary:logistic" if objective == "binary:logistic" else "x")
        label = pl.col(LABEL)
        if objective == "multi:softprob":
            table = table.with_columns((label // 25 % 3).cast(pl.Int64))
        elif objective == "count:poisson":
            table = table.with_columns((label // 10).cast(pl.Int64))
        tables[name] = table.select(columns)
    ports = free_ports(len(clients) + len(AGGREGATORS) + 1)
    more: dict[str, Any] = {"num_class": 3} if objective == "multi:softprob" else {}
    bounded = objective in ("reg:squarederror", "count:poisson")
    content = {
        "job": {"name": "diagnosis", "method": "federated", "analyst": analyst},
        "model": {"objective": objective, "n_estimators": 2, "max_depth": 2, "max_bin": 8} | more | model,
        "data": {"label": LABEL} | ({"label_range": [0, 100]} if bounded else {}),
        "feature": list(features),
        "party": [
            {"name": name, "address": f"127.0.0.1:{port}", "columns": columns}
            for name, port in zip(clients, ports, strict=False)
        ],
        "aggregator": [
            {"name": name, "address": f"127.0.0.1:{port}"}
            for name, port in zip(AGGREGATORS, ports[len(clients) :], strict=False)
        ],
        "dealer": {"address": f"127.0.0.1:{ports[-1]}"},
    } | ({} if federated is None else {"federated": federated})
    path = folder / "job.toml"
    path.write_text(job_to_toml(job_from_dict(content)), encoding="utf-8")
    return Case(folder, path, tables, pl.concat(list(tables.values())))


def run_threads(
    case: Case, out: Path, *, resume: bool = False, absent: Sequence[str] = (), stop: int | None = None
) -> dict[str, Outcome]:
    """Every role of a job as a thread, over TLS; raises the cause if one fails.

    The last aggregator gives up after `stop` trees. Aggregators alone are told to resume.
    """
    job, certificates = case.job, case.certificates

    def run(name: str) -> Outcome:
        def on_tree(number: int) -> None:
            if number == stop and name == AGGREGATORS[-1]:
                raise InputError("stopped")

        wait = 4.0 if absent else 30.0
        role = Role(job, name, certificates, out, wait, on_tree, resume and name in AGGREGATORS)
        if name == DEALER:
            return run_federated_dealer(role)
        if name in AGGREGATORS:
            return run_aggregator(role)
        return run_client(role, case.tables[name], name) if name in case.tables else run_federated_analyst(role)

    names = [name for name in job.roles if name != "courier" and name not in absent]
    with ThreadPoolExecutor(len(names)) as pool:
        running = {name: pool.submit(run, name) for name in names}
    errors = {name: error for name, future in running.items() if (error := future.exception()) is not None}
    for error in sorted(errors.values(), key=lambda error: isinstance(error, PeerLost)):
        raise error
    return {name: future.result() for name, future in running.items()}


LEDGER = [
    "edges of every numeric column",
    "base score",
    "feature, bin and default direction of every split",
    "leaf weights",
]

#: Two columns without a search for cuts, and with one: the quick tests have the former.
FLAGS = FEATURES[2:]


def check_outputs(case: Case, out: Path, expected: Sequence[str]) -> Any:
    """Model, ledger and report of every participant; the model."""
    job = case.job
    clients = list(case.tables)
    models = [out / "model.json", *(out / name / "model.json" for name in clients)]
    assert len({path.read_bytes() for path in models}) == 1
    others = [one for one in job.roles if one not in (*clients, job.analyst, "courier")]
    for name in others:
        assert not (out / name / "model.json").exists()
        assert not list((out / name).glob("*.checkpoint"))
    for name in (*clients, *others):
        ledger = json.loads((out / name / "ledger.json").read_text())
        assert [entry["value"] for entry in ledger] == list(expected)
        assert {entry["receiver"] for entry in ledger} == {"everyone"}
        assert json.loads((out / name / "report.json").read_text())["rows"] == len(case.rows)
    for name in clients:
        counters = json.loads((out / name / "answered.json").read_text())
        assert len(counters["epochs"]) == 1 and counters["last"]
    model = load_model(models[0])
    margins = model.predict_margin(values_of(case, model))
    assert np.isfinite(margins).all() and len(np.unique(margins)) > 2
    return model


def values_of(case: Case, model: Any) -> np.ndarray:
    columns = []
    for feature in model.features:
        cells = case.rows[feature.name]
        if feature.categorical:
            cells = cells.replace_strict(list(feature.levels), list(range(len(feature.levels))), default=None)
        elif feature.kind == "flag":
            cells = cells == "yes"
        columns.append(cells.cast(pl.Float32).to_numpy())
    return np.stack(columns, axis=1).astype(np.float32)


def test_processes_of_one_machine(tmp_path: Path) -> None:
    case = federated_case(tmp_path, max_depth=2)
    trees: list[int] = []
    data: dict[str, Path | bytes] = {name: case.file(name) for name in case.tables}
    run = run_local(case.job, case.path, data, tmp_path / "out", trees.append)
    assert trees == [0, 1, 2]
    check_outputs(case, tmp_path / "out", LEDGER)
    assert [entry["value"] for entry in run.ledger] == LEDGER
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == run.report
    assert report["rows"] == len(case.rows) and report["dropped"] == [] and report["finished"]
    assert len(report["seconds_per_tree"]) == 2 and report["seconds_setup"] > 0 and report["rounds"] > 100
    assert set(report["bytes_sent"]) == {*CLIENTS, *AGGREGATORS, DEALER, "university"}
    assert all(sent > 0 for sent in report["bytes_sent"].values())
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "mode"),
    [
        ("binary:logistic", "leaf_sums"),
        ("reg:squarederror", "histograms"),
        ("multi:softprob", "histograms"),
        ("multi:softprob", "leaf_sums"),
        ("count:poisson", "histograms"),
    ],
)
def test_every_objective(tmp_path: Path, objective: str, mode: str) -> None:
    case = federated_case(tmp_path, objective, federated={"mode": mode})
    data: dict[str, Path | bytes] = {name: case.file(name) for name in case.tables}
    run_local(case.job, case.path, data, tmp_path / "out")
    check_outputs(case, tmp_path / "out", LEDGER if mode == "histograms" else [*LEDGER[:2], LEDGER[3]])


@pytest.mark.parametrize("analyst", ["university", "south"])
def test_threads_and_what_the_dealer_hears(tmp_path: Path, analyst: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peers send it rows and that the model is saved, beyond the greeting; the analyst sends the latter alone."""
    heard: dict[tuple[str, str], list[bytes]] = {}
    really = TlsTransport.send

    def send(self: TlsTransport, peer: str, payload: Any) -> None:
        heard.setdefault((self.name, peer), []).append(payload.tobytes())
        really(self, peer, payload)

    monkeypatch.setattr(TlsTransport, "send", send)
    case = federated_case(tmp_path, analyst=analyst, features=FLAGS)
    outcomes = run_threads(case, tmp_path / "out")
    check_outputs(case, tmp_path / "out", LEDGER[1:])
    rows = json.dumps({name: len(table) for name, table in case.tables.items()}).encode()
    greeting = {(a, b): frames[0] for (a, b), frames in heard.items() if b == DEALER}
    for (sender, receiver), frames in heard.items():
        if receiver == DEALER:
            told = [frame for frame in frames if frame not in (rows, b"saved", len(rows).to_bytes(8, "big"))]
            assert all(frame.startswith(b"{") or len(frame) <= 64 for frame in told), sender
            assert len(told) <= 4, (sender, len(told), greeting)
            assert frames.count(b"saved") == (sender in AGGREGATORS)
        if sender == "university" and receiver == AGGREGATORS[0]:
            assert frames[-1] == b"saved"
        assert sender not in CLIENTS or receiver == AGGREGATORS[0]  # clients have no other connection
    assert outcomes[AGGREGATORS[0]].rows == len(case.rows)


def test_fewer_clients_than_are_needed(tmp_path: Path) -> None:
    case = federated_case(tmp_path, features=FLAGS, federated={"min_clients": 3})
    with pytest.raises(ParticipantError) as caught:
        run_threads(case, tmp_path / "out", absent=["west"])
    assert "only 2 of the 3 clients are left, and min_clients is 3: bring back west" in str(caught.value)


def test_resuming_gives_the_model_of_an_undisturbed_training(tmp_path: Path) -> None:
    """The ledger was on disk before anything was disclosed, and says what both starts have disclosed."""
    case = federated_case(tmp_path, features=FLAGS, n_estimators=3)
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    with pytest.raises(InputError, match="stopped"):
        run_threads(case, out, stop=2)
    assert not list(out.rglob("model.json"))
    for name in AGGREGATORS:
        ledger = json.loads((out / name / "ledger.json").read_text())
        assert [entry["value"] for entry in ledger] == LEDGER[1:]
    run_threads(case, out, resume=True)
    run_threads(case, undisturbed)
    assert (out / "model.json").read_bytes() == (undisturbed / "model.json").read_bytes()
    for name in AGGREGATORS:
        ledger = json.loads((out / name / "ledger.json").read_text())
        assert [entry["value"] for entry in ledger] == [*LEDGER[1:], *LEDGER[2:]]


def test_a_budget_is_in_the_report_and_cannot_be_used_twice(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    federated = {"mode": "leaf_sums", "epsilon": 8.0, "delta": 1e-5}
    case = federated_case(tmp_path, features=FLAGS, federated=federated, rows=400, base_score=0.5, n_estimators=1)
    outcomes = run_threads(case, tmp_path / "out")
    for name in AGGREGATORS:
        privacy = outcomes[name].to_dict()["privacy"]
        assert 7.9 < privacy["epsilon"] <= 8 and "epsilon" in privacy["statement"]
        assert json.loads((tmp_path / "out" / name / "report.json").read_text())["privacy"] == privacy
    role = Role(case.job, AGGREGATORS[0], case.certificates, tmp_path / "out", 1.0, resume=True)
    with pytest.raises(InputError, match="a training with epsilon cannot be continued") as caught:
        run_aggregator(role)
    assert "\n" not in str(caught.value)


def test_a_client_without_a_folder(tmp_path: Path) -> None:
    case = federated_case(tmp_path, features=FLAGS)
    with pytest.raises(InputError, match="north receives the model: add --out DIR"):
        run_client(Role(case.job, "north", case.certificates, None, 1.0), case.tables["north"], "north")


def frames_of(case: Case) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(table.to_dict(as_series=False)) for name, table in case.tables.items()}


def test_a_classifier_from_tables_to_predictions(tmp_path: Path) -> None:
    frames = frames_of(federated_case(tmp_path, rows=60, features=FLAGS))
    model = FederatedClassifier(n_estimators=2, max_depth=2).fit(frames, label=LABEL)
    everything = pd.concat(list(frames.values()))
    probabilities = model.predict_proba(everything)
    assert probabilities.shape == (len(everything), 2)
    assert np.mean(model.predict(everything) == everything[LABEL]) > 0.6
    assert [entry["value"] for entry in model.ledger_] == LEDGER[1:]
    assert model.report_["rows"] == len(everything)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["histograms", "leaf_sums"])
def test_a_regressor_from_tables_to_predictions(tmp_path: Path, mode: str) -> None:
    frames = frames_of(federated_case(tmp_path, "reg:squarederror", rows=80))
    model = FederatedRegressor(n_estimators=8, max_depth=3, mode=mode).fit(frames, label=LABEL, label_range=(0, 100))
    everything = pd.concat(list(frames.values()))
    left = np.mean((model.predict(everything) - everything[LABEL]) ** 2)
    assert left < 0.9 * np.var(everything[LABEL])


def test_certificates_name_all_roles(tmp_path: Path) -> None:
    case = federated_case(tmp_path)
    write_certificates(case.job.roles, tmp_path / "all")
    assert {path.stem for path in (tmp_path / "all").glob("*.pem")} == {*case.job.roles, "ca"}

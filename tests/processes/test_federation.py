"""Federated jobs as real processes: clients and aggregators that are killed, and clients of another job or version."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.jobs.test_federation import AGGREGATORS, CLIENTS, FLAGS, LEDGER, federated_case, values_of
from tests.processes.support import LABEL, Case, Started, command, environment, refusal, start, started, stop

from veilboost.jobs.entries import DEALER
from veilboost.trees.xgboost_json import load_model

LEAD = AGGREGATORS[0]
ROLES = (*CLIENTS, *AGGREGATORS, DEALER, "university")


def role_command(case: Case, role: str, out: Path, *more: str | Path, job: Path | None = None) -> tuple[str, list[str]]:
    """Name and command of one role, as its operator would start it."""
    kinds = {DEALER: "dealer", "university": "analyst"} | dict.fromkeys(AGGREGATORS, "aggregator")
    kind = kinds.get(role, "party")
    words: list[str | Path] = [kind, job or case.path, "--certs", case.certificates, "--out", out]
    if kind in ("party", "aggregator"):
        words += ["--name", role]
    if kind == "party":
        words += ["--data", case.file(role)]
    return role, command(*words, "--events", str(os.getpid()), *more)


def all_roles(case: Case, out: Path, *more: str | Path) -> list[tuple[str, list[str]]]:
    return [role_command(case, role, out, *(more if role in AGGREGATORS else ())) for role in ROLES]


def loss(case: Case, out: Path) -> float:
    """Of the analyst's model on all rows."""
    model = load_model(out / "model.json")
    margins = model.predict_margin(values_of(case, model)).reshape(-1)
    labels = case.rows[LABEL].to_numpy()
    return float(np.mean(np.logaddexp(0, margins) - labels * margins))


def finish(running: dict[str, Started], names: tuple[str, ...]) -> None:
    for name in names:
        result = running[name].wait(120)
        assert result.returncode == 0, (name, result.stderr)


def report_of(out: Path, name: str) -> Any:
    return json.loads((out / name / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["north"])
def test_client_that_is_killed_is_left_out(tmp_path: Path, victim: str) -> None:
    case, out = federated_case(tmp_path, n_estimators=12, max_depth=3), tmp_path / "out"
    rest = tuple(name for name in ROLES if name != victim)
    with started(*all_roles(case, out)) as running:
        running[victim].await_line('"number": 2}')
        running[victim].process.kill()
        finish(running, rest)
    assert report_of(out, LEAD)["dropped"] == [victim]
    kept = [name for name in CLIENTS if name != victim]
    models = [out / "model.json", *(out / name / "model.json" for name in kept)]
    assert len({path.read_bytes() for path in models}) == 1
    assert len(load_model(models[0]).trees) == 12
    assert not (out / victim / "model.json").exists()
    undisturbed = tmp_path / "undisturbed"
    with started(*all_roles(case, undisturbed)) as running:
        finish(running, ROLES)
    assert loss(case, out) < 0.55 and loss(case, undisturbed) < loss(case, out) + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("victim", AGGREGATORS)
def test_aggregator_that_is_killed_ends_the_training_and_it_can_be_resumed(tmp_path: Path, victim: str) -> None:
    """The model is then the very one of an undisturbed training; the ledger has what both starts have disclosed."""
    case, out = federated_case(tmp_path, n_estimators=12, max_depth=3), tmp_path / "out"
    with started(*all_roles(case, out)) as running:
        running["south"].await_line('"number": 3}')
        running[victim].process.kill()
        for name in ROLES:
            if name != victim:
                result = running[name].wait(60)
                assert result.returncode == 2, (name, result.returncode, result.stderr)
                last = result.stderr.splitlines()[-1]
                assert last.startswith("veilboost: ") and (victim in last or LEAD in last), (name, last)
    assert not list(out.rglob("model.json"))
    assert [entry["value"] for entry in json.loads((out / LEAD / "ledger.json").read_text())] == LEDGER
    with started(*all_roles(case, out, "--resume")) as running:
        finish(running, ROLES)
    undisturbed = tmp_path / "undisturbed"
    with started(*all_roles(case, undisturbed)) as running:
        finish(running, ROLES)
    assert (out / "model.json").read_bytes() == (undisturbed / "model.json").read_bytes()
    ledger = [entry["value"] for entry in json.loads((out / LEAD / "ledger.json").read_text())]
    assert ledger == [*LEDGER, *LEDGER[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("other", ["job", "version"])
def test_client_of_another_job_or_version_is_refused(tmp_path: Path, other: str) -> None:
    case, out = federated_case(tmp_path, features=FLAGS), tmp_path / "out"
    job = tmp_path / "other.toml"
    job.write_text(case.path.read_text().replace("n_estimators = 2", "n_estimators = 3"))
    _, words = role_command(case, "west", out, job=job if other == "job" else None)
    if other == "version":
        program = (
            "import sys, veilboost.version as v; v.__version__ = '0.0.1'; import veilboost.cli as c; sys.exit(c.main())"
        )
        words = [sys.executable, "-c", program, *words[3:]]
    with started(*(one for one in all_roles(case, out) if one[0] != "west"), ("west", words)) as running:
        line = refusal(running["west"].wait(60))
        assert ("different job files" if other == "job" else "another version than 0.0.1") in line
        finish(running, tuple(name for name in ROLES if name != "west"))
    assert report_of(out, LEAD)["dropped"] == ["west"]
    assert not (out / "west" / "model.json").exists()


@pytest.mark.slow
def test_too_few_clients_are_one_line_and_can_be_resumed(tmp_path: Path) -> None:
    case = federated_case(tmp_path, n_estimators=12, max_depth=3, federated={"min_clients": 3})
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    with started(*all_roles(case, out)) as running:
        running["south"].await_line('"number": 2}')
        running["west"].process.kill()
        for name in AGGREGATORS:
            result = running[name].wait(60)
            assert result.returncode == 2
            assert "only 2 of the 3 clients are left, and min_clients is 3: bring back west" in result.stderr
    with started(*all_roles(case, out, "--resume")) as running:
        finish(running, ROLES)
    with started(*all_roles(case, undisturbed)) as running:
        finish(running, ROLES)
    assert (out / "model.json").read_bytes() == (undisturbed / "model.json").read_bytes()


def test_a_damaged_record_of_answers_is_one_line(tmp_path: Path) -> None:
    case, out = federated_case(tmp_path, features=FLAGS), tmp_path / "out"
    (out / "north").mkdir(parents=True)
    (out / "north" / "answered.json").write_text("{")
    _, words = role_command(case, "north", out)
    one = start("north", words)
    try:
        line = refusal(one.wait(60))
    finally:
        stop(one)
    assert "answered.json: is damaged, and says what this client has answered: move the folder away" in line
    assert environment()["PYTHONPATH"]

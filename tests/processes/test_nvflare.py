"""NVFlare's real processes, with mutual TLS on loopback."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.processes.support import FEATURES, LABEL, SRC, draw_rows, free_ports

from veilboost.jobs import federation
from veilboost.jobs.job import Job
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job

pytestmark = pytest.mark.slow
pytest.importorskip("nvflare", reason="NVFlare comes with the federated extra")

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an echo job that has ended."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "port.txt").write_text(str(free_ports(1)[0]))
    ran = subprocess.run(
        [sys.executable, "-c", f"import nvflare_echo; nvflare_echo.run({str(folder)!r})"],
        env={**os.environ, "PYTHONPATH": f"{SRC}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


def heard(folder: Path, step: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text())
    return next(one for one in steps if one["step"] == step)


def test_bytes_come_back_from_every_site(echo: Path) -> None:
    answers = heard(echo, "size 400000")["answers"]
    assert {name: size for name, (size, _) in answers.items()} == dict.fromkeys(("north", "south", "east"), 400000)
    assert answers["north"][1].startswith("north 1 answer")


def test_a_site_that_fails_is_missing_once(echo: Path) -> None:
    assert heard(echo, "fail")["answers"].keys() == {"north", "east"}
    assert heard(echo, "die")["answers"]["south"][1].startswith("south 3"), "it keeps its state"


def test_a_site_whose_process_is_killed_stops_nobody(echo: Path) -> None:
    lost = heard(echo, "die")
    assert lost["answers"].keys() == {"north", "south"}
    assert lost["seconds"] < 100, "a dead site is not waited for as long as a living one"
    assert heard(echo, "size 10")["answers"].keys() == {"north", "south"}
    assert json.loads((echo / "status.json").read_text())["echo"] == "FINISHED:COMPLETED"


def test_a_restricted_site_runs_no_code_and_no_class_but_those_it_allows(echo: Path) -> None:
    statuses = json.loads((echo / "status.json").read_text())
    assert statuses["code"] == "FINISHED:FAILED_TO_RUN"
    assert statuses["class"] != "FINISHED:COMPLETED"
    logs = "".join(path.read_text() for path in echo.glob("project/**/log.txt"))
    assert "BYOC not permitted" in logs
    assert "'subprocess.Popen'" in logs and "not in allow_list" in logs
    assert "code of the job" not in logs


def test_no_log_holds_a_question_an_answer_or_a_reason(echo: Path) -> None:
    logs = [path for path in echo.rglob("*") if path.is_file() and path.suffix in (".txt", ".json", ".console", ".fl")]
    text = {path: path.read_text(errors="replace") for path in logs if path.name != "answers.json"}
    assert any("no answer: ValueError" in content for content in text.values())
    for path, content in text.items():
        for word in ("value-of-a-patient", "question-in-clear", "answer-in-clear"):
            assert word not in content, path


def federated_job(folder: Path) -> Job:
    ports = free_ports(6)
    columns = [*(feature["name"] for feature in FEATURES), LABEL]
    names = ("north", "south", "east")
    tables = {
        "job": {"name": "three hospitals", "method": "federated", "analyst": "university"},
        "model": {"objective": "binary:logistic", "n_estimators": 2, "max_depth": 2, "max_bin": 8},
        "data": {"label": LABEL},
        "feature": FEATURES,
        "party": [
            {"name": name, "address": f"127.0.0.1:{port}", "columns": columns}
            for name, port in zip(names, ports, strict=False)
        ],
        "aggregator": [{"name": f"aggregator{k}", "address": f"127.0.0.1:{ports[2 + k]}"} for k in (1, 2)],
        "dealer": {"address": f"127.0.0.1:{ports[5]}"},
    }
    (folder / "job.toml").write_text(job_to_toml(job_from_dict(tables)), encoding="utf-8")
    return load_job(folder / "job.toml")


@pytest.mark.skipif(hasattr(federation, "_NOT_YET"), reason="needs the training of federated jobs")
@pytest.mark.parametrize("simulator", [False, True])
def test_the_model_is_that_of_the_embedded_engine(tmp_path: Path, simulator: bool) -> None:
    from veilboost.jobs.nvflare_local import run_local_nvflare

    job = federated_job(tmp_path)
    data: dict[str, Path | bytes] = {}
    for number, name in enumerate(job.party_names):
        data[name] = tmp_path / f"{name}.csv"
        rows: pl.DataFrame = draw_rows(80, number)
        rows.write_csv(tmp_path / f"{name}.csv")
    trees: list[int] = []
    run_local(job, tmp_path / "job.toml", data, tmp_path / "embedded")
    run = run_local_nvflare(job, tmp_path / "job.toml", data, tmp_path / "nvflare", trees.append, simulator=simulator)
    assert trees == [0, 1, 2]
    assert not run.report.get("dropped")
    expected = (tmp_path / "embedded" / "model.json").read_bytes()
    assert (tmp_path / "nvflare" / "model.json").read_bytes() == expected
    for name in job.party_names:
        assert (tmp_path / "nvflare" / name / "model.json").read_bytes() == expected
    assert not (tmp_path / "nvflare" / "nvflare").exists()
    time.sleep(3.0)  # processes of NVFlare jobs look for their parent once a second
    left = subprocess.run(["pgrep", "-fa", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert left == ""

"""Roles killed at random moments: `--resume` finishes, and the model is as good as one that was never interrupted."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.processes.support import free_ports

from veilboost.data import heart_disease_path, heart_job_path
from veilboost.jobs.spec import Job, load_job
from veilboost.tables.binning import bin_column
from veilboost.tables.table import encode_frame
from veilboost.trees.reference import audit
from veilboost.trees.xgboost_json import load_model

KILLS = 20
TREES = 12
END_SECONDS = 30.0


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """The demonstration's job with fewer trees, on free ports."""
    text = heart_job_path().read_text().replace("n_estimators = 20", f"n_estimators = {TREES}")
    for port, free in zip((7100, 7101, 7102), free_ports(3), strict=True):
        text = text.replace(f":{port}", f":{free}")
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def write_tables(job: Job, folder: Path) -> list[str]:
    patients = pl.read_csv(heart_disease_path(), infer_schema=False)
    options = []
    for party in job.parties:
        path = folder / f"{party.name}.csv"
        patients.select(party.columns).write_csv(path)
        options += ["--data", f"{party.name}={path}"]
    return options


def processes_of(out: Path) -> dict[str, int]:
    """Process of every role that writes to a folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if str(out) in words and "--certs" in words:
                kind = words[words.index("veilboost") + 1]
                found[words[words.index("--name") + 1] if kind == "party" else kind] = int(entry.name)
    return found


@pytest.mark.slow
def test_twenty_kills(job_file: Path, tmp_path: Path) -> None:
    chance = random.Random(20)
    job = load_job(job_file)
    options = write_tables(job, tmp_path)
    out, runs, kills = tmp_path / "out0", 0, 0
    longest = 4.0
    while True:
        command = [sys.executable, "-m", "veilboost", "train", str(job_file), *options, "--out", str(out), "--quiet"]
        command += ["--resume"] if out.exists() else []
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
            moment = time.monotonic() + chance.uniform(0.3, longest)
            while kills < KILLS and run.poll() is None and time.monotonic() < moment:
                time.sleep(0.02)
            victims = processes_of(out) if kills < KILLS and run.poll() is None else {}
            if victims:
                role = chance.choice(sorted(victims))
                os.kill(victims[role], signal.SIGKILL)
                killed = time.monotonic()
                message = run.communicate(timeout=END_SECONDS)[1]
                if run.returncode == 0:
                    continue  # it was done already
                kills += 1
                assert run.returncode == 2, message
                assert time.monotonic() - killed < END_SECONDS
                named = job.analyst if role == "analyst" else role
                assert named in message and len(message.splitlines()) == 1, message
                assert not processes_of(out)
                continue
            message = run.communicate(timeout=300)[1]
            assert run.returncode == 0, message
        check_model(job, out)
        if kills >= KILLS:
            break
        runs += 1
        out = tmp_path / f"out{runs}"
    assert kills == KILLS


def check_model(job: Job, out: Path) -> None:
    """Every split is the best one, or within the rounding that parity allows."""
    patients = pl.read_csv(heart_disease_path(), infer_schema=False)
    values = encode_frame(patients, job.features)
    labels = patients[job.data.label].cast(pl.Float64).to_numpy()
    columns = [
        bin_column(f, np.ascontiguousarray(v), job.parameters.max_bin)
        for f, v in zip(job.features, values.T, strict=True)
    ]
    model = load_model(out / "model.json")
    assert len(model.trees) == TREES
    for node in audit(model, columns, labels, job.parameters, 0.05):
        assert not node.splits or node.chosen_gain >= node.best_gain * (1 - 1e-3), node
    assert not list(out.glob("*/tree-*.checkpoint"))

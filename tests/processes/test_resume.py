"""Roles killed at random moments: `--resume` finishes, and the model is as good as one that was never interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.jobs.interrupted import kept
from tests.jobs.test_resume import check_model as model_of_resumed
from tests.processes.support import free_ports, make_case, refusal, role_command, started

from veilboost.data import heart_disease_path, heart_job_path
from veilboost.jobs.job import Job
from veilboost.jobs.spec import load_job
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
    """At moments drawn over the whole time that a run takes, every role in its turn."""
    chance = random.Random(20)
    job = load_job(job_file)
    options = write_tables(job, tmp_path)
    command = [sys.executable, "-m", "veilboost", "train", str(job_file), *options, "--quiet", "--out"]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=300)
    longest = time.monotonic() - began
    check_model(job, tmp_path / "whole")
    out, runs, kills = tmp_path / "out0", 0, Counter[str]()
    while True:
        words = [*command, str(out), *(["--resume"] if out.exists() else [])]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as run:
            moment = time.monotonic() + chance.uniform(0.3, longest)
            while kills.total() < KILLS and run.poll() is None and time.monotonic() < moment:
                time.sleep(0.02)
            victims = processes_of(out) if kills.total() < KILLS and run.poll() is None else {}
            if victims:
                role = min(sorted(victims), key=lambda one: (kills[one], chance.random()))
                with suppress(ProcessLookupError):
                    os.kill(victims[role], signal.SIGKILL)
                killed = time.monotonic()
                message = run.communicate(timeout=END_SECONDS)[1]
                if run.returncode != 0:
                    kills[role] += 1
                    assert run.returncode == 2, message
                    assert time.monotonic() - killed < END_SECONDS
                    named = job.analyst if role == "analyst" else role
                    assert named in message and len(message.splitlines()) == 1, message
                    assert not processes_of(out)
                    continue
            message = run.communicate(timeout=300)[1]
            assert run.returncode == 0, message
        check_model(job, out)
        if kills.total() >= KILLS:
            break
        runs += 1
        out = tmp_path / f"out{runs}"
    assert set(kills) == {"analyst" if role == job.analyst else role for role in job.roles}
    assert min(kills.values()) >= KILLS // len(job.roles) - 1


#: Kills the process that runs it at the nth call of a function, before or after it: the rest is the command line.
DYING = """
import os, signal, sys
from importlib import import_module

module, path, count, order = sys.argv.pop(1).split(":")
holder = import_module(module)
*parents, name = path.split(".")
for parent in parents:
    holder = getattr(holder, parent)
function, calls = getattr(holder, name), 0

def dying(*arguments, **named):
    global calls
    calls += 1
    if calls == int(count) and order == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = function(*arguments, **named)
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, name, dying)
from veilboost.cli import main
main()
"""

#: Role, the moment at which it dies, after how many of four trees the resumed job begins.
MOMENTS = {
    "analyst, model received but not written": ("university", "veilboost.jobs.run:save_model:1:before", 4),
    "analyst, model written but owners not told": ("university", "veilboost.jobs.run:save_model:1:after", 4),
    "analyst, owners told": ("university", "veilboost.jobs.run:_keep_model:1:after", None),
    "analyst, before the reveal": ("university", "veilboost.jobs.run:receive_reveal:1:before", None),
    "owner, in the middle of writing a checkpoint": ("north", "pathlib:Path.replace:3:before", 2),
    "owner, checkpoint just written": ("south", "veilboost.jobs.checkpoint:Checkpoints.keep:3:after", 3),
    "owner, last checkpoint not written": ("south", "veilboost.jobs.checkpoint:Checkpoints.keep:4:before", 3),
    "owner, before the reveal": ("north", "veilboost.jobs.run:reveal_to:1:before", 4),
    "owner, after its part of the reveal": ("north", "veilboost.jobs.run:reveal_to:1:after", None),
    "owner, its share of the model written": ("south", "veilboost.jobs.run:save_share:1:after", None),
    "owner, before it forgets its checkpoints": ("south", "veilboost.jobs.checkpoint:Checkpoints.clear:1:before", None),
    "owner, while all meet": ("south", "veilboost.jobs.run:owner_session:1:before", 0),
    "dealer, while all meet": ("dealer", "veilboost.jobs.run:dealer_session:1:before", 0),
    "dealer, all randomness dealt": ("dealer", "veilboost.jobs.run:reveal_to:1:after", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_this_moment(moment: str, tmp_path: Path) -> None:
    """Every role with a folder of its own, as on machines of their own; survivors end well or name the victim.

    Where the start of the resumed job is None it depends on how far the survivors came: if one is done and has
    forgotten its checkpoints, all begin anew.
    """
    victim, where, trees = MOMENTS[moment]
    case = make_case(tmp_path, n_estimators=4)
    folders = {role: tmp_path / f"machine of {role}" for role in case.job.roles}
    commands = dict(role_command(case, role, folders[role], events=True) for role in case.job.roles)
    dying = [sys.executable, "-c", DYING, where, *commands[victim][3:]]
    with started(*(commands | {victim: dying}).items()) as running:
        for name, one in running.items():
            result = one.wait()
            if name == victim:
                assert result.returncode == -signal.SIGKILL, result.stderr
            elif result.returncode:
                assert victim in refusal(result)
    with started(*((role, [*words, "--resume"]) for role, words in commands.items())) as running:
        results = {name: one.wait() for name, one in running.items()}
    begun = set()
    for name, result in results.items():
        assert (result.returncode, result.stderr) == (0, ""), name
        numbers = [event["number"] for line in result.stdout.splitlines() if "number" in (event := json.loads(line))]
        if name != case.job.analyst:
            assert numbers == list(range(numbers[0], 5))
            begun.add(numbers[0])
    assert begun == {trees} if trees is not None else len(begun) == 1
    together = tmp_path / "together"
    for name in case.job.party_names:
        shutil.copytree(folders[name] / name, together / name)
        assert kept(folders[name], name) == []
    shutil.copy(folders[case.job.analyst] / "model.json", together)
    model_of_resumed(case, together)


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
        assert not node.splits or node.chosen_gain >= node.best_gain * (1 - 1e-3) - 1e-5, node
    assert not list(out.glob("*/tree-*.checkpoint"))

"""Small jobs with their tables and certificates, run as threads of the test or as real processes."""

import itertools
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from veilboost.errors import PeerLost
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.entries import DEALER
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.run import Role, run_analyst, run_dealer, run_party
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job

#: Ports of this process of pytest: 5,000 from 20,000 on for the first, the next 5,000 for the second.
_PORTS = 5000
_FIRST_PORT = 20_000 + _PORTS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2)
_steps = itertools.count(random.randrange(_PORTS))

SRC = Path(__file__).resolve().parents[2] / "src"

FEATURES: list[dict[str, Any]] = [
    {"name": "age", "kind": "continuous"},
    {"name": "prior drugs", "kind": "discrete", "missing": True},
    {"name": "smoker", "kind": "flag"},
    {"name": "referral", "kind": "categorical", "levels": ["ward", "er", "gp"], "missing": True},
]
LABEL = "ms"


@dataclass(frozen=True)
class Case:
    """A job file, its certificates and every party's table.

    Attributes
    ----------
    folder
        Holds everything, and is where results may go.
    path
        The job file.
    tables
        As the parties hold them: only their own columns.
    rows
        All columns together.
    """

    folder: Path
    path: Path
    tables: dict[str, pl.DataFrame]
    rows: pl.DataFrame

    @property
    def job(self) -> Job:
        return load_job(self.path)

    @property
    def certificates(self) -> Path:
        directory = self.folder / "certs"
        if not directory.exists():
            write_certificates(self.job.roles, directory)
        return directory

    def file(self, party: str) -> Path:
        """The party's table as a CSV file."""
        path = self.folder / f"{party}.csv"
        self.tables[party].write_csv(path)
        return path

    def data_options(self) -> list[str]:
        return [word for party in self.tables for word in ("--data", f"{party}={self.file(party)}")]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on.

    Each process of pytest has a range of its own, below those that the system hands out, and takes one port after the
    other: what is free now is free when the participants of a test get there.
    """
    found: list[int] = []
    while len(found) < count:
        port = _FIRST_PORT + next(_steps) % _PORTS
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
    return found


def draw_rows(count: int, seed: int, objective: str = "binary:logistic") -> pl.DataFrame:
    """A table with all FEATURES and a label that depends on them."""
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 12, count).round(2)
    drugs = rng.integers(0, 5, count)
    smoker = rng.random(count) < 0.4
    referral = rng.integers(0, 3, count)
    signal = (age - 50) / 12 + 0.6 * drugs - 1.2 + smoker + (referral == 1) + rng.normal(0, 0.5, count)
    label = (signal > np.median(signal)).astype(int) if objective == "binary:logistic" else 10 * signal + 50
    levels = FEATURES[3]["levels"]
    return pl.DataFrame(
        {
            "age": age,
            "prior drugs": [None if k % 7 == 0 else int(drug) for k, drug in enumerate(drugs)],
            "smoker": ["yes" if yes else "no" for yes in smoker],
            "referral": [None if k % 11 == 0 else levels[code] for k, code in enumerate(referral)],
            LABEL: np.clip(label, 0, 100),
        }
    )


def make_case(
    folder: Path,
    parties: Sequence[str] = ("north", "south"),
    *,
    analyst: str = "university",
    rows: int = 60,
    seed: int = 1,
    **model: Any,
) -> Case:
    """A job on free ports: features dealt out in turn, the label at the last party."""
    model = {"objective": "binary:logistic", "n_estimators": 2, "max_depth": 2, "max_bin": 8} | model
    folder.mkdir(parents=True, exist_ok=True)
    everything = draw_rows(rows, seed, model["objective"])
    ports = free_ports(len(parties) + 1)
    columns = {
        party: [entry["name"] for at, entry in enumerate(FEATURES) if at % len(parties) == number]
        for number, party in enumerate(parties)
    }
    columns[parties[-1]].append(LABEL)
    content = {
        "job": {"name": "diagnosis", "method": "smpc", "analyst": analyst},
        "model": model,
        "data": {"label": LABEL} | ({} if model["objective"] == "binary:logistic" else {"label_range": [0, 100]}),
        "feature": FEATURES,
        "party": [
            {"name": party, "address": f"127.0.0.1:{port}", "columns": columns[party]}
            for party, port in zip(parties, ports[1:], strict=True)
        ],
        "dealer": {"address": f"127.0.0.1:{ports[0]}"},
    }
    path = folder / "job.toml"
    path.write_text(job_to_toml(job_from_dict(content)), encoding="utf-8")
    return Case(folder, path, {party: everything.select(columns[party]) for party in parties}, everything)


def run_roles(
    case: Case, out: Path | None, *, wait_seconds: float = 30.0, tables: dict[str, pl.DataFrame] | None = None
) -> dict[str, Outcome]:
    """Every role of a job as a thread, over TLS; raises the cause if one fails."""
    job, certificates, tables = case.job, case.certificates, tables or case.tables

    def run(name: str) -> Outcome:
        role = Role(job, name, certificates, out, wait_seconds)
        if name == DEALER:
            return run_dealer(role)
        return run_party(role, tables[name], name) if name in tables else run_analyst(role)

    with ThreadPoolExecutor(len(job.roles)) as pool:
        running = {name: pool.submit(run, name) for name in job.roles}
    failures = [error for future in running.values() if (error := future.exception()) is not None]
    for failure in sorted(failures, key=lambda error: isinstance(error, PeerLost)):
        raise failure
    return {name: future.result() for name, future in running.items()}


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "veilboost", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SRC)}


def veilboost(*words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words), env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def complaints(stderr: str) -> list[str]:
    """What a command wrote there but for its progress, a line a minute where the machine is slow."""
    return [line for line in stderr.splitlines() if not re.fullmatch(r"veilboost: .* (so far|left)(, .* sent)?", line)]


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error of a command that ended with status 2."""
    assert result.returncode == 2, (result.returncode, result.stderr)
    (line,) = result.stderr.splitlines()
    assert line.startswith("veilboost: ")
    return line


@dataclass
class Started:
    """A command that runs in the background."""

    process: subprocess.Popen[str]
    name: str = ""
    lines: list[str] = field(default_factory=list)

    def wait(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        out, err = self.process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)

    def await_line(self, text: str) -> None:
        """Read standard output up to a line with the given text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"{self.name} ended before it wrote {text!r}: {self.process.communicate()[1]}")


@contextmanager
def started(*commands: tuple[str, list[str]]) -> Iterator[dict[str, Started]]:
    """Commands by name, in the background; whatever still runs at the end is killed."""
    running: dict[str, Started] = {}
    try:
        for name, words in commands:
            running[name] = start(name, words)
        yield running
    finally:
        for one in running.values():
            stop(one)


def start(name: str, words: list[str]) -> Started:
    process = subprocess.Popen(
        words,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Started(process, name)


def stop(one: Started) -> None:
    if one.process.poll() is None:
        one.process.kill()
    with suppress(ValueError):  # its output has been read already
        one.process.communicate()


def role_command(case: Case, role: str, out: Path, *more: str | Path, events: bool = False) -> tuple[str, list[str]]:
    """Name and command of one role, as its operator would start it."""
    kind = DEALER if role == DEALER else "party" if role in case.tables else "analyst"
    words: list[str | Path] = [kind, case.path, "--certs", case.certificates, "--out", out]
    if kind == "party":
        words += ["--name", role, "--data", case.file(role)]
    if events:
        words += ["--events", str(os.getpid())]
    return role, command(*words, *more)


def children(pid: int) -> dict[int, str]:
    """Living child processes and their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                words = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(path.parent.name)] = words.decode()
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_children(pid: int, count: int, timeout: float = 30) -> dict[int, str]:
    """The children of a process as soon as there are `count` of them."""
    deadline = time.monotonic() + timeout
    while len(found := children(pid)) < count:
        assert time.monotonic() < deadline, f"only {len(found)} child processes"
        time.sleep(0.02)
    return found


def await_end(pids: Sequence[int], timeout: float = 10) -> list[int]:
    """Which of the processes are still alive after a while."""
    deadline = time.monotonic() + timeout
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [pid for pid in pids if is_alive(pid)]

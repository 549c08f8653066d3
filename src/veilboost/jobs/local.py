"""All roles of a job as processes of this machine, over TLS on loopback: for trying out, demos, tests and benchmarks.

On one machine there is nothing to protect the owners' tables from each other; between organisations every role runs
where its data are.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import veilboost.mpc.kernels  # noqa: F401  compile once here, so that the roles find compiled kernels
from veilboost.errors import (
    InputError,
    ParticipantError,
    PeerLost,
    PeerMismatch,
    ProtocolError,
    VeilboostError,
)
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.entries import DEALER
from veilboost.jobs.outcome import collected
from veilboost.jobs.report.page import write_report
from veilboost.jobs.results import prepare_folder, write_json
from veilboost.jobs.spec import Job
from veilboost.mpc.transport.connect import listen
from veilboost.trees.xgboost_json import load_model

_GRACE_SECONDS = 5.0
_ERRORS: dict[str, type[VeilboostError]] = {
    "InputError": InputError,
    "PeerMismatch": PeerMismatch,
    "ProtocolError": ProtocolError,
    "PeerLost": PeerLost,
}


@dataclass
class LocalRun:
    """What came of a job.

    Attributes
    ----------
    report
        As written to report.json: `finished`, `rows`, `seconds_setup`, `seconds_per_tree`, `bytes_sent` per role,
        `rounds`, `roles`, `settings`.
    ledger
        As written to ledger.json.
    """

    report: dict[str, Any]
    ledger: list[dict[str, Any]]


@dataclass
class _Process:
    role: str
    process: subprocess.Popen[bytes]
    outcome: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    last_words: list[str] = field(default_factory=list)
    phase: str = ""
    bytes_sent: int = 0
    follower: threading.Thread | None = None


def run_local(
    job: Job,
    job_file: Path,
    data: Mapping[str, Path | bytes],
    out: Path,
    on_tree: Callable[[int], None] = lambda number: None,
    *,
    resume: bool = False,
    on_progress: Callable[[str, int], None] = lambda phase, bytes_sent: None,
) -> LocalRun:
    """Run every role of a job and collect the results in a folder.

    Parameters
    ----------
    job_file
        The bytes that every role reads.
    data
        For every party its table: a file, or the bytes of a CSV or Parquet file, which reach the party through a pipe.
    out
        The analyst's folder. Gets model.json, ledger.json, report.json, report.html, a folder for every role, and
        certs/ unless it is there. Results of an earlier run of the job are removed at the start, so that a run that
        fails leaves no model that looks like its own; certs/ with the storage keys stays.
    on_tree
        Called with the number of trees done: after the setup, then after every tree.
    resume
        Whether to continue from the checkpoints in `out`.
    on_progress
        Called now and then with what the first party does and the bytes that all roles have sent.

    Raises
    ------
    InputError
        When something that was given is wrong, at any role.
    ParticipantError
        When a role dies.
    """
    check_data_names(job, data)
    _check_ports(job)
    certificates = _prepare(job, out)
    started = time.perf_counter()
    events: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
    processes: list[_Process] = []
    seconds_setup = 0.0
    try:
        for role in job.roles:
            processes.append(_spawn(job, role, job_file, data.get(role), certificates, out, events, resume))
        running = {one.role for one in processes}
        while running:
            one, event = events.get()
            if event is None:
                running.discard(one.role)
                if one.process.wait() != 0:
                    raise _cause(processes, one)
            elif event["event"] == "tree" and one.role == job.party_names[0]:
                if seconds_setup == 0:
                    seconds_setup = time.perf_counter() - started
                on_tree(event["number"])
            elif event["event"] == "progress":
                one.phase, one.bytes_sent = event["phase"], event["bytes_sent"]
                first = next(other for other in processes if other.role == job.party_names[0])
                on_progress(first.phase, sum(other.bytes_sent for other in processes))
            elif event["event"] == "done":
                one.outcome = event["outcome"]
    finally:
        for one in processes:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()
            if one.follower is not None:
                one.follower.join()
            for pipe in (one.process.stdout, one.process.stderr):
                if pipe is not None:
                    pipe.close()
    outcomes = {one.role: one.outcome for one in processes if one.outcome is not None}
    return _collect(job, outcomes, seconds_setup, out)


def check_data_names(job: Job, data: Mapping[str, Any]) -> None:
    """Every party has a table and every table a party."""
    for name in data:
        if name not in job.party_names:
            raise InputError(f"--data {name}=...: the job has no party '{name}': it has {', '.join(job.party_names)}")
    for name in job.party_names:
        if name not in data:
            raise InputError(f"party '{name}' has no table: add --data {name}=FILE")


def _check_ports(job: Job) -> None:
    """A port that is taken, by another start of this job say, is refused before a role dials whoever has it."""
    for role, address in job.addresses.items():
        listen(role, *address).close()


def _prepare(job: Job, out: Path) -> Path:
    certificates = out / "certs"
    there = [role for role in job.roles if (certificates / f"{role}.pem").exists()]
    if (not there and certificates.exists() and any(certificates.iterdir())) or 0 < len(there) < len(job.roles):
        raise InputError(f"{certificates}: belongs to a job with other participants: choose another folder with --out")
    prepare_folder(out)
    for role in job.roles:
        if (out / role).exists():
            prepare_folder(out / role)
    if not there:
        write_certificates(job.roles, certificates)
    return certificates


def _spawn(
    job: Job,
    role: str,
    job_file: Path,
    source: Path | bytes | None,
    certificates: Path,
    out: Path,
    events: queue.Queue[tuple[_Process, dict[str, Any] | None]],
    resume: bool,
) -> _Process:
    kind = "dealer" if role == DEALER else "party" if role in job.party_names else "analyst"
    command = [sys.executable, "-m", "veilboost", kind, str(job_file), "--certs", str(certificates), "--out", str(out)]
    command += ["--name", role] if kind == "party" else []
    command += ["--events", str(os.getpid())]
    command += ["--resume"] if resume else []
    if source is not None:
        command += ["--data", "-" if isinstance(source, bytes) else str(source)]
    one = _Process(
        role,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if isinstance(source, bytes) else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ),
    )
    if isinstance(source, bytes):
        threading.Thread(target=_feed, args=(one.process.stdin, source), daemon=True).start()
    listener = threading.Thread(target=_remember, args=(one.process.stderr, one), daemon=True)
    listener.start()
    one.follower = threading.Thread(target=_follow, args=(one, listener, events), daemon=True)
    one.follower.start()
    return one


def _feed(pipe: IO[bytes] | None, content: bytes) -> None:
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(content)


def _remember(pipe: IO[bytes] | None, one: _Process) -> None:
    assert pipe is not None
    for line in pipe:
        one.last_words = [*one.last_words[-20:], line.decode("utf-8", "replace").rstrip()]


def _follow(
    one: _Process, listener: threading.Thread, events: queue.Queue[tuple[_Process, dict[str, Any] | None]]
) -> None:
    assert one.process.stdout is not None
    for line in one.process.stdout:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event["event"] == "error":
                one.error = event
            else:
                events.put((one, event))
    one.process.wait()
    listener.join()
    events.put((one, None))


def _cause(processes: list[_Process], first: _Process) -> Exception:
    """Why the job failed: the role at fault rather than those that lost a peer because of it."""
    if first.error is None:
        first.error = _parse_error(first)
    if first.error["kind"] == "PeerLost":
        deadline = time.monotonic() + _GRACE_SECONDS
        for one in processes:
            if one.follower is not None:
                one.follower.join(max(0.0, deadline - time.monotonic()))
    failed = [first]
    for one in processes:
        if one is not first and one.process.poll() not in (None, 0):
            one.error = one.error or _parse_error(one)
            failed.append(one)
    for kind in ("InputError", "died", "PeerMismatch", "ProtocolError", "PeerLost"):
        for one in failed:
            if one.error is not None and one.error["kind"] == kind:
                return _ERRORS.get(kind, ParticipantError)(one.error["message"])
    return ParticipantError(f"{first.role}: {first.error['message']}")


def _parse_error(one: _Process) -> dict[str, str]:
    status = one.process.returncode
    if status < 0:
        return {"kind": "died", "message": f"{one.role} was killed by signal {signal.Signals(-status).name}"}
    last = one.last_words[-1] if one.last_words else f"exit status {status}"
    return {"kind": "died", "message": f"{one.role} ended unexpectedly: {last}"}


def _collect(job: Job, outcomes: dict[str, dict[str, Any]], seconds_setup: float, out: Path) -> LocalRun:
    report = {**collected(job, outcomes), "seconds_setup": seconds_setup}
    ledger = outcomes[job.party_names[0]]["ledger"]
    write_json(out / "report.json", report)
    write_json(out / "ledger.json", ledger)
    write_report(out / "report.html", job, load_model(out / "model.json"), report, ledger, one_machine=True)
    return LocalRun(report, ledger)

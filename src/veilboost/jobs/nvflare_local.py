"""A federated job on one machine over NVFlare: its server and sites as real processes with mutual TLS, or simulated.

The aggregators, their dealer and the analyst run as they do without NVFlare. In place of the clients' own processes
there are an NVFlare server and a site per party, provisioned for this run alone, on a free port, under OUT/nvflare.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from veilboost.errors import InputError, ParticipantError, VeilboostError
from veilboost.jobs.children import running, start
from veilboost.jobs.entries import COURIER, NVFLARE
from veilboost.jobs.following import Following
from veilboost.jobs.job import Job
from veilboost.jobs.local import LocalRun, check_data_names, check_headers, check_ports, collect, prepare
from veilboost.jobs.nvflare_kits import USER
from veilboost.jobs.nvflare_settings import DONE, FAILURE, nvflare_name, read_failure, write_settings
from veilboost.jobs.results import writing

_FOLDER: Final = "nvflare"
_SERVER: Final = "localhost"


def run_local_nvflare(
    job: Job,
    job_file: Path,
    data: Mapping[str, Path | bytes],
    out: Path,
    on_tree: Callable[[int], None] = lambda number: None,
    resume: bool = False,
    on_progress: Callable[[str, int], None] = lambda phase, bytes_sent: None,
    on_notice: Callable[[str], None] = lambda text: None,
    *,
    simulator: bool = False,
) -> LocalRun:
    """Run a federated job with clients that NVFlare reaches, and collect the results in a folder.

    Parameters
    ----------
    job, job_file, on_tree, resume, on_progress, on_notice
        As for `run_local`.
    data
        For every party its table: a file, or the bytes of one, which are put into a file for the time of the run.
    out
        As for `run_local`; also gets the folder nvflare/, with start kits and logs of this run. It is removed
        after a success and at the next start.
    simulator
        Whether to take NVFlare's simulator, which has no TLS.

    Raises
    ------
    InputError
        When something that was given is wrong, NVFlare's absence included.
    ParticipantError
        When a role dies that the training needs.
    """
    if job.federated is None:
        raise InputError(f"--engine nvflare: the job is {job.method}: it is for federated jobs")
    check_data_names(job, data)
    check_headers(job, data)
    check_ports(job)
    certificates = prepare(job, out, resume)
    work = out.resolve() / _FOLDER
    with writing(out):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
    for name in (*job.party_names, COURIER):
        for left in (FAILURE, DONE):
            (out / name / left).unlink(missing_ok=True)
    watch = _Watch(job, out, on_tree, on_progress)
    following = Following(job, watch.tree, watch.progress, on_notice)
    roles = [role for role in job.mesh_roles(NVFLARE) if role != COURIER]
    place = _simulation if simulator else _deployment
    try:
        with (
            place(job, job_file.resolve(), data, certificates.resolve(), work) as command,
            running(job, roles, job_file, {}, certificates, out, resume=resume, engine=NVFLARE) as (children, events),
        ):
            children.append(start(COURIER, command, events))
            try:
                outcomes = following.follow(children, events)
            finally:
                _kill_workers(work)  # they hold the pipes of whoever has started them, which are read to their end
    except ParticipantError as error:
        raise _explained(job, out, error) from None
    finally:
        _kill_workers(work)
        for name in job.party_names:
            _table(out, name).unlink(missing_ok=True)
    for name, note in failures(job, out).items():
        following.dropped.setdefault(name, note["message"])
    run = collect(job, outcomes, following, out)
    shutil.rmtree(work, ignore_errors=True)
    return run


def _table(out: Path, name: str) -> Path:
    """Where a table goes that was given as bytes."""
    return out.resolve() / _FOLDER / f"{name}.table"


@contextlib.contextmanager
def _deployment(
    job: Job, job_file: Path, data: Mapping[str, Path | bytes], certificates: Path, work: Path
) -> Iterator[list[str]]:
    """Provision and start a server and the sites; the command that submits the job. Afterwards nothing runs."""
    _provision(work, job)
    _settle(
        job, job_file, data, certificates, work, lambda name: work / (_SERVER if name == COURIER else name) / "local"
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in (_SERVER, *job.party_names):
            started.append(_start("server" if name == _SERVER else "client", work / name))
        yield _command("submit", str(work / USER), str(job_file), str(work / "job"), str(work.parent / COURIER / DONE))
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _simulation(
    job: Job, job_file: Path, data: Mapping[str, Path | bytes], certificates: Path, work: Path
) -> Iterator[list[str]]:
    """Lay out the files of the simulator; the command that runs it."""
    _settle(job, job_file, data, certificates, work, lambda name: work / nvflare_name(job) / "local")
    yield _command("simulate", str(job_file), str(work))


def _provision(work: Path, job: Job) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = subprocess.run(
        _command("provision", str(work), str(port), *job.party_names), capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        last = (made.stderr.strip().splitlines() or [f"exit status {made.returncode}"])[-1]
        raise ParticipantError(f"NVFlare could not provision start kits: {last}")


def _settle(
    job: Job,
    job_file: Path,
    data: Mapping[str, Path | bytes],
    certificates: Path,
    work: Path,
    local: Callable[[str], Path],
) -> None:
    """Write the settings of every place; `local` says where each reads them."""
    out = work.parent
    write_settings(local(COURIER), COURIER, file=job_file, certificates=certificates, out=out / COURIER)
    for name in job.party_names:
        source = data[name]
        if isinstance(source, bytes):
            table = _table(out, name)
            table.touch(mode=0o600)
            table.write_bytes(source)
        else:
            table = source.resolve()
        write_settings(local(name), name, file=job_file, certificates=certificates, table=table, out=out / name)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "veilboost.jobs.nvflare_process", str(os.getpid()), *arguments]


def _start(kind: str, kit: Path) -> subprocess.Popen[bytes]:
    with (kit / "console.txt").open("ab") as console:
        return subprocess.Popen(
            _command(kind, str(kit), kit.name),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the keyboard is ours to handle
        )


def _kill_workers(work: Path) -> None:
    """End the processes that NVFlare has started for jobs of this run.

    They have sessions of their own, and would go on for a while when their parents are gone.
    """
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = found.read_bytes().split(b"\0")
            ours = any(word.startswith(os.fsencode(f"{work}/")) for word in words)
            if ours and any(word.startswith(b"nvflare.private.") for word in words):
                os.kill(int(found.parent.name), signal.SIGKILL)


class _Watch:
    """Ends a run that has not begun when a site refuses its table: somebody is there who can mend it."""

    def __init__(
        self, job: Job, out: Path, on_tree: Callable[[int], None], on_progress: Callable[[str, int], None]
    ) -> None:
        self._job, self._out = job, out
        self._on_tree, self._on_progress = on_tree, on_progress
        self._begun = False

    def tree(self, number: int) -> None:
        self._look()
        self._begun = True
        self._on_tree(number)

    def progress(self, phase: str, bytes_sent: int) -> None:
        self._look()
        self._on_progress(phase, bytes_sent)

    def _look(self) -> None:
        if not self._begun:
            for note in failures(self._job, self._out).values():
                if note["kind"] == "InputError":
                    raise InputError(note["message"])


def failures(job: Job, out: Path) -> dict[str, dict[str, str]]:
    """What clients that have no model have noted of their failures, by name."""
    notes = {name: read_failure(out / name) for name in job.party_names if not (out / name / "model.json").exists()}
    return {
        name: {**note, "message": note["message"].replace(str(_table(out, name)), f"table of {name}")}
        for name, note in notes.items()
        if note is not None
    }


def _explained(job: Job, out: Path, error: ParticipantError) -> VeilboostError:
    """The error with its cause, where a place has noted one: the courier's own, or why too few clients are left."""
    note = read_failure(out / COURIER)
    if note is not None and note["kind"] == "InputError":
        return InputError(note["message"])
    reasons = [one["message"] for one in failures(job, out).values()]
    return type(error)(f"{error} ({'; '.join(reasons)})") if reasons else error

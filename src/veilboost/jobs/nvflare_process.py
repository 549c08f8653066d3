"""NVFlare's parts as processes of this machine, each of which ends with the process that started it.

::

    python -m veilboost.jobs.nvflare_process PARENT provision FOLDER PORT SITE...
    python -m veilboost.jobs.nvflare_process PARENT server|client KIT NAME
    python -m veilboost.jobs.nvflare_process PARENT submit KIT JOB_FILE FOLDER DONE
    python -m veilboost.jobs.nvflare_process PARENT simulate JOB_FILE FOLDER

Processes, because NVFlare takes over what a program has one of: its arguments, its log, its threads. `submit` and
`simulate` tell their parent about errors in JSON, as roles do.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from veilboost.errors import InputError, ParticipantError, PeerLost, VeilboostError
from veilboost.federated.nvflare_app import Console, run_participant, simulate, write_job, write_start_kits
from veilboost.jobs.job import Job
from veilboost.jobs.nvflare_kits import USER, project, restrict_kit
from veilboost.jobs.nvflare_roles import JobCourier, JobSite
from veilboost.jobs.nvflare_settings import nvflare_name
from veilboost.jobs.process import end_with_parent
from veilboost.jobs.spec import load_job

#: How long the server and the sites may take to start, and the server to answer.
_START_SECONDS: Final = 180.0
_SILENCE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_COMPLETED: Final = "FINISHED:COMPLETED"


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit status."""
    parent, command, *rest = arguments
    end_with_parent(int(parent))
    match command, rest:
        case "provision", [folder, port, *sites]:
            provision(Path(folder), int(port), sites)
        case (("server" | "client"), [kit, name]):
            return run_participant(command, Path(kit), name)
        case "submit", [kit, job_file, folder, done]:
            return _telling(lambda: submit(Path(kit), load_job(job_file), Path(folder), Path(done)))
        case "simulate", [job_file, folder]:
            os.setpgrp()  # a process of the simulator that loses its parent kills its whole process group
            return _telling(lambda: simulate_job(load_job(job_file), Path(folder)))
        case _:
            raise InputError(f"{command}: unknown command")
    return 0


def provision(folder: Path, port: int, sites: list[str]) -> None:
    """Make restricted start kits for a server on loopback and its sites, in folders of their names."""
    made = write_start_kits(project("localhost", port, sites), folder / "project")
    for kit in made.iterdir():
        if kit.name != USER:
            restrict_kit(kit)
        kit.rename(folder / kit.name)


def submit(kit: Path, job: Job, folder: Path, done: Path) -> None:
    """Submit a job when its sites are there, and wait until the courier is done.

    Parameters
    ----------
    kit
        The administrator's start kit.
    folder
        Where the NVFlare job is written.
    done
        The courier's file; NVFlare itself takes some time more to end a job.

    Raises
    ------
    ParticipantError
        When the server does not answer, too few sites come, or NVFlare ends the job as failed.
    """
    assert job.federated is not None
    job_hash = job.job_hash().hex()
    written = write_job(nvflare_name(job), JobCourier(job_hash), JobSite(job_hash), job.federated.min_clients, folder)
    deadline = time.monotonic() + _START_SECONDS
    console = _log_in(kit, deadline)
    with contextlib.closing(console):
        there: set[str] = set()
        while not there >= set(job.party_names):
            if time.monotonic() > deadline:
                if len(there) >= job.federated.min_clients:
                    break
                names = ", ".join(sorted(set(job.party_names) - there))
                raise PeerLost(f"NVFlare's sites {names} did not connect within {_START_SECONDS:g} seconds")
            time.sleep(_LOOK_SECONDS)
            there = console.sites()
        number = console.submit(written)
        status = _wait(console, number, done)
    if status != _COMPLETED:
        raise ParticipantError(f"NVFlare has ended its job ({status.rpartition(':')[2].replace('_', ' ').lower()})")


def _log_in(kit: Path, deadline: float) -> Console:
    while True:
        try:
            return Console(kit, USER, _LOOK_SECONDS * 20)
        except Exception as error:  # NVFlare has no common class for what fails while a server starts
            if time.monotonic() > deadline:
                raise PeerLost(f"the NVFlare server does not answer ({type(error).__name__})") from None
            time.sleep(_LOOK_SECONDS)


def _wait(console: Console, number: str, done: Path) -> str:
    """How NVFlare has ended the job, or that it may."""
    heard = time.monotonic()
    while not done.exists():
        try:
            status = console.status(number)
            heard = time.monotonic()
            if status.startswith("FINISHED"):
                return status
        except Exception as error:
            if time.monotonic() > heard + _SILENCE_SECONDS:
                raise PeerLost(f"the NVFlare server is lost ({type(error).__name__})") from None
        time.sleep(_LOOK_SECONDS)
    return _COMPLETED


def simulate_job(job: Job, folder: Path) -> None:
    """Run a job in NVFlare's simulator; settings of all places lie in the job's folder there."""
    job_hash = job.job_hash().hex()
    simulate(nvflare_name(job), JobCourier(job_hash), JobSite(job_hash), job.party_names, folder)


def _telling(work: Callable[[], None]) -> int:
    """Do the work with NVFlare's own output on standard error, and tell the parent what went wrong."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            work()
    except VeilboostError as error:
        kind = "InputError" if isinstance(error, InputError) else "PeerLost"
        print(json.dumps({"event": "error", "kind": kind, "message": str(error)}), flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

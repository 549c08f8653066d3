"""A role of a job as its operator starts it, and what all roles do alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veilboost.errors import ProtocolError
from veilboost.jobs.entries import EMBEDDED
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import Outcome, collected, settings
from veilboost.jobs.report.page import write_report
from veilboost.jobs.results import prepare_folder, write_json, writing
from veilboost.mpc.transport.tls import RECONNECT_SECONDS, TlsTransport

#: How long a role waits for the others, unless told otherwise.
WAIT_SECONDS = 600.0

#: What one participant tells another when a model is on its disk.
_SAVED = b"saved"

_STARTED = time.perf_counter()


@dataclass(frozen=True)
class Role:
    """How a role runs.

    Attributes
    ----------
    job
        The job.
    name
        Which participant this is.
    certificates
        Folder made by `veilboost certs`.
    out
        Folder for results; None keeps nothing.
    wait_seconds
        How long to wait for the others.
    on_tree
        Called with the number of trees done: after the setup, then after every tree.
    resume
        Whether to continue from checkpoints, which need `out`.
    on_phase
        Called with what this role does from now on: the phases of the training (owners and dealer), and what comes
        before and after them.
    reconnect_seconds
        How long a participant whose connection is lost may take to come back.
    on_met
        Called when all roles have met, with the bytes sent to each of them so far, which go on growing.
    on_notice
        Called, by any thread, with a sentence for the operator.
    engine
        What carries questions to the clients of a federated job and their answers back: "embedded" or "nvflare".
    """

    job: Job
    name: str
    certificates: Path
    out: Path | None = None
    wait_seconds: float = WAIT_SECONDS
    on_tree: Callable[[int], None] = lambda number: None
    resume: bool = False
    on_phase: Callable[[str], None] = lambda name: None
    reconnect_seconds: float = RECONNECT_SECONDS
    on_met: Callable[[Mapping[str, int]], None] = lambda bytes_sent: None
    on_notice: Callable[[str], None] = lambda text: None
    engine: str = EMBEDDED


def tell_that_it_is_saved(transport: TlsTransport, peer: str) -> None:
    """Tell a peer that the model is on this participant's disk."""
    transport.send(peer, np.frombuffer(_SAVED, dtype=np.uint8))


def hear_that_it_is_saved(transport: TlsTransport, peer: str) -> None:
    """Wait for what `tell_that_it_is_saved` says; ProtocolError where it is something else."""
    if transport.receive(peer, len(_SAVED)).tobytes() != _SAVED:
        raise ProtocolError(f"{peer} has not confirmed the model: are both on the same version?")


def timed(role: Role, outcome: Outcome) -> Callable[[int], None]:
    """What a training calls with the number of trees done: it takes the time of each for the outcome."""
    last: float | None = None

    def on_tree(number: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if last is None:
            outcome.seconds_setup = now - _STARTED
        else:
            outcome.seconds_per_tree.append(now - last)
        last = now
        role.on_tree(number)

    return on_tree


def folder_of(role: Role) -> Path | None:
    """Where this role writes: the analyst to `out` itself, the others to a folder of their own name in it.

    What an earlier run left there is removed, so that a run that fails leaves no model that looks like its own; but not
    the ledger of a training that is resumed.
    """
    if role.out is None:
        return None
    outsider = role.name == role.job.analyst and role.name not in role.job.party_names
    directory = role.out if outsider else role.out / role.name
    prepare_folder(directory, keep_ledger=role.resume)
    if role.name == role.job.analyst:
        prepare_folder(role.out, keep_ledger=role.resume)
    return directory


def write_results(role: Role, directory: Path | None, outcome: Outcome) -> None:
    """Write report and ledger of a role that keeps results, and the page of one that has the model."""
    if directory is None:
        return
    report = {**outcome.to_dict(), "settings": settings(role.job)}
    ledger = report.pop("ledger")
    with writing(directory):
        write_json(directory / "report.json", report)
        if ledger:
            write_json(directory / "ledger.json", ledger)
    if outcome.model is not None and role.out is not None:  # beside model.json, never in the folder of another role
        with writing(role.out):
            page = collected(role.job, {role.name: outcome.to_dict()})
            write_report(role.out / "report.html", role.job, outcome.model, page, ledger, one_machine=False)

"""All roles of a job as processes of this machine, over TLS on loopback: for trying out, demos, tests and benchmarks.

On one machine there is nothing to protect the owners' tables from each other; between organisations every role runs
where its data are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import veilboost.mpc.kernels  # noqa: F401  compile once here, so that the roles find compiled kernels
from veilboost.errors import InputError, ParticipantError
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.children import running
from veilboost.jobs.entries import COURIER
from veilboost.jobs.following import Following
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import collected
from veilboost.jobs.report.page import write_report
from veilboost.jobs.results import prepare_folder, write_json, writing
from veilboost.mpc.transport.connect import listen
from veilboost.tables.reading import check_columns
from veilboost.trees.xgboost_json import load_model


@dataclass
class LocalRun:
    """What came of a job.

    Attributes
    ----------
    report
        As written to report.json: `finished`, `rows`, `seconds_setup`, `seconds_per_tree`, `bytes_sent` per role,
        `rounds`, `roles`, `settings`; of a federated job `dropped`, the clients that were lost.
    ledger
        As written to ledger.json.
    """

    report: dict[str, Any]
    ledger: list[dict[str, Any]]


def run_local(
    job: Job,
    job_file: Path,
    data: Mapping[str, Path | bytes],
    out: Path,
    on_tree: Callable[[int], None] = lambda number: None,
    *,
    resume: bool = False,
    on_progress: Callable[[str, int], None] = lambda phase, bytes_sent: None,
    on_notice: Callable[[str], None] = lambda text: None,
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
        fails leaves no model that looks like its own; certs/ with the storage keys stays. Parties of a federated job
        keep a model.json of their own.
    on_tree
        Called with the number of trees done: after the setup, then after every tree.
    resume
        Whether to continue from the checkpoints in `out`.
    on_progress
        Called now and then with what the first party, or the first aggregator, does and the bytes that all roles have
        sent.
    on_notice
        Called with sentences for the operator, such as that a client of a federated job was lost.

    Raises
    ------
    InputError
        When something that was given is wrong, at any role.
    ParticipantError
        When a role dies; of a federated job, one that the training needs.
    """
    check_data_names(job, data)
    check_headers(job, data)
    check_ports(job)
    certificates = prepare(job, out, resume)
    following = Following(job, on_tree, on_progress, on_notice)
    roles = [role for role in job.roles if role != COURIER]
    with running(job, roles, job_file, data, certificates, out, resume=resume) as (children, events):
        outcomes = following.follow(children, events)
    return collect(job, outcomes, following, out)


def check_data_names(job: Job, data: Mapping[str, Any]) -> None:
    """Every party has a table and every table a party."""
    for name in data:
        if name not in job.party_names:
            raise InputError(f"--data {name}=...: the job has no party '{name}': it has {', '.join(job.party_names)}")
    for name in job.party_names:
        if name not in data:
            raise InputError(f"party '{name}' has no table: add --data {name}=FILE")


def check_headers(job: Job, data: Mapping[str, Path | bytes]) -> None:
    """A table that is not there, or lacks a column, is refused before anything starts; its party reads the rest."""
    row_id = [] if job.data.id is None else [job.data.id]
    for party in job.parties:
        table = data[party.name]
        source, where = (BytesIO(table), f"table of {party.name}") if isinstance(table, bytes) else (table, str(table))
        check_columns(source, [*party.columns, *row_id], where)


def check_ports(job: Job) -> None:
    """A port that is taken, by another start of this job say, is refused before a role dials whoever has it."""
    for role, address in job.addresses.items():
        listen(role, *address).close()


def prepare(job: Job, out: Path, resume: bool) -> Path:
    """Make the folder for the results of a run, with certificates unless they are there; the folder of these."""
    certificates = out / "certs"
    there = [role for role in job.roles if (certificates / f"{role}.pem").exists()]
    if (not there and certificates.exists() and any(certificates.iterdir())) or 0 < len(there) < len(job.roles):
        raise InputError(f"{certificates}: belongs to a job with other participants: choose another folder with --out")
    prepare_folder(out, keep_ledger=resume)
    for role in job.roles:
        if (out / role).exists():
            prepare_folder(out / role, keep_ledger=resume)
    if not there:
        write_certificates(job.roles, certificates)
    return certificates


def collect(job: Job, outcomes: Mapping[str, dict[str, Any]], following: Following, out: Path) -> LocalRun:
    """Write report and ledger of a run that has ended, beside the analyst's model.

    Parameters
    ----------
    outcomes
        As `Following.follow` returns them.

    Raises
    ------
    ParticipantError
        When the analyst was a client that the training has lost, so that its folder has no model.
    """
    report = {**collected(job, outcomes, following.dropped), "seconds_setup": following.seconds_setup}
    ledger = outcomes[job.lead]["ledger"]
    with writing(out):
        write_json(out / "report.json", report)
        write_json(out / "ledger.json", ledger)
        _take_model(job, out)
    if not (out / "model.json").exists():
        others = [name for name in job.party_names if (out / name / "model.json").exists()]
        where = f": {out / others[0] / 'model.json'} is that of {others[0]}" if others else ""
        why = following.dropped.get(job.analyst, "the training went on without it")
        raise ParticipantError(f"{job.analyst}, the analyst, was lost ({why}), so {out} has no model{where}")
    model = load_model(out / "model.json")
    write_report(out / "report.html", job, model, report, ledger, one_machine=True)
    return LocalRun(report, ledger)


def _take_model(job: Job, out: Path) -> None:
    """An analyst that is a client of a federated job may have its model in the folder of its name."""
    own, target = out / job.analyst / "model.json", out / "model.json"
    if own.exists() and not target.exists():
        partial = target.with_name(f"{target.name}.partial")
        shutil.copy(own, partial)
        partial.replace(target)

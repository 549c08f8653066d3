"""`veilboost certs | dealer | analyst | party`: one role of a job on its own machine."""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from veilboost.cli.options import Certificates, JobFile
from veilboost.cli.progress import TreeProgress
from veilboost.errors import InputError, VeilboostError
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.run import (
    WAIT_SECONDS,
    Outcome,
    Role,
    end_with_parent,
    reuse_memory,
    run_analyst,
    run_dealer,
    run_party,
)
from veilboost.jobs.spec import DEALER, load_job

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for results.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for the others.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the checkpoints in --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Events = Annotated[
    int, typer.Option("--events", hidden=True, metavar="PID", help="Progress as JSON lines, for this parent process.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (certs, party, dealer, analyst):
        app.command()(command)


def certs(
    job_file: JobFile, out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the certificates.")]
) -> None:
    """Make a certificate authority, and one certificate, key and storage key per role."""
    job = load_job(job_file)
    write_certificates(job.roles, out)
    typer.echo(
        f"wrote {out}: give each role ca.pem and the files with its own name, over a safe way; keep ca.key offline"
    )


def party(
    job_file: JobFile,
    certificates: Certificates,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Which party of the job this is.")],
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="Its table, CSV or Parquet; - for stdin.")],
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    events: Events = 0,
) -> None:
    """Take part as a data owner."""
    with _role(job_file, name, certificates, out, wait, resume, quiet, events) as role:
        if name not in role.job.party_names:
            raise InputError(f"--name {name}: the job has no such party: it has {', '.join(role.job.party_names)}")
        source: Any = Path(data)
        if data == "-":
            source = BytesIO(sys.stdin.buffer.read())
        _finish(run_party(role, source, f"table of {name}" if data == "-" else data), events, quiet)


def dealer(
    job_file: JobFile,
    certificates: Certificates,
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    events: Events = 0,
) -> None:
    """Hand out correlated randomness; sees no data."""
    with _role(job_file, DEALER, certificates, out, wait, resume, quiet, events) as role:
        _finish(run_dealer(role), events, quiet)


def analyst(
    job_file: JobFile,
    certificates: Certificates,
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    events: Events = 0,
) -> None:
    """Receive the model; sees no data."""
    with _role(job_file, None, certificates, out, wait, resume, quiet, events) as role:
        if role.name in role.job.party_names:
            raise InputError(
                f"the analyst {role.name} is one of the parties: run 'veilboost party --name {role.name}' instead"
            )
        if out is None:
            raise InputError("the analyst needs --out DIR, where the model goes")
        _finish(run_analyst(role), events, quiet)


class _role:  # noqa: N801  a context manager that reads like a function
    """Load the job, keep a progress bar or send events, and report errors of a child to its parent."""

    def __init__(
        self,
        job_file: Path,
        name: str | None,
        certificates: Path,
        out: Path | None,
        wait: float,
        resume: bool,
        quiet: bool,
        events: int,
    ) -> None:
        self._arguments = (job_file, name, certificates, out, wait)
        self._resume = resume
        self._quiet, self._events = quiet, events
        self._progress: TreeProgress | None = None

    def __enter__(self) -> Role:
        job_file, name, certificates, out, wait = self._arguments
        reuse_memory()
        if self._events:
            end_with_parent(self._events)
        try:
            job = load_job(job_file)
        except VeilboostError as error:
            self._tell(error)
            raise
        if not 0 <= wait < float("inf"):
            raise InputError(f"--wait {wait}: give a number of seconds, 0 or more")
        self._progress = TreeProgress(job.parameters.n_estimators, self._quiet or bool(self._events)).__enter__()
        on_tree = _emit_tree if self._events else self._progress
        return Role(job, job.analyst if name is None else name, certificates, out, wait, on_tree, self._resume)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
        if isinstance(error, VeilboostError):
            self._tell(error)

    def _tell(self, error: VeilboostError) -> None:
        if self._events:
            kind = "InputError" if isinstance(error, InputError) else type(error).__name__
            _emit({"event": "error", "kind": kind, "message": str(error)})


def _finish(outcome: Outcome, events: int, quiet: bool) -> None:
    if events:
        _emit({"event": "done", "outcome": outcome.to_dict()})
    elif not quiet:
        sent = sum(outcome.bytes_sent.values()) / 1e6
        disclosed = f"{len(outcome.ledger)} arrays disclosed to the analyst"
        what = "the model is in model.json" if outcome.model else disclosed
        typer.echo(f"{outcome.role}: done, {sent:.1f} MB sent, {what}")


def _emit_tree(number: int) -> None:
    _emit({"event": "tree", "number": number})


def _emit(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)

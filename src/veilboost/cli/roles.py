"""`veilboost certs | dealer | analyst | party | aggregator`: one role of a job on its own machine."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from veilboost.cli.events import EventProgress, emit
from veilboost.cli.options import Certificates, Engine, JobFile, check_engine, check_seconds
from veilboost.cli.progress import TreeProgress
from veilboost.errors import InputError, VeilboostError
from veilboost.jobs.aggregator import run_aggregator
from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.entries import DEALER, EMBEDDED
from veilboost.jobs.federation import run_client, run_federated_analyst, run_federated_dealer
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.process import end_with_parent, give_way, reuse_memory
from veilboost.jobs.role import WAIT_SECONDS, Role
from veilboost.jobs.run import run_analyst, run_dealer, run_party
from veilboost.jobs.spec import load_job
from veilboost.mpc.ledger import EVERYONE
from veilboost.mpc.transport.tls import RECONNECT_SECONDS

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for results.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for the others.")]
Reconnect = Annotated[
    float,
    typer.Option(
        "--reconnect", metavar="SECONDS", help="How long a participant whose connection is lost may take to come back."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the checkpoints in --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Events = Annotated[
    int, typer.Option("--events", hidden=True, metavar="PID", help="Progress as JSON lines, for this parent process.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (certs, party, aggregator, dealer, analyst):
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
    reconnect: Reconnect = RECONNECT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    events: Events = 0,
) -> None:
    """Take part as a data owner, or as a client of a federated job."""
    with _role(job_file, name, certificates, out, wait, reconnect, resume, quiet, events) as role:
        if name not in role.job.party_names:
            raise InputError(f"--name {name}: the job has no such party: it has {', '.join(role.job.party_names)}")
        source: Any = Path(data)
        if data == "-":
            source = BytesIO(sys.stdin.buffer.read())
        run = run_party if role.job.federated is None else run_client
        outcome = run(role, source, f"table of {name}" if data == "-" else data)
    _finish(outcome, events, quiet)


def aggregator(
    job_file: JobFile,
    certificates: Certificates,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Which aggregator of the job this is.")],
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    reconnect: Reconnect = RECONNECT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    engine: Engine = EMBEDDED,
    events: Events = 0,
) -> None:
    """Add up the clients' updates of a federated job in secret shares; sees none of them."""
    with _role(job_file, name, certificates, out, wait, reconnect, resume, quiet, events, engine) as role:
        if role.job.federated is None:
            raise InputError(f"the job is {role.job.method}, which has no aggregators: they are for federated jobs")
        if name not in role.job.aggregator_names:
            known = ", ".join(role.job.aggregator_names)
            raise InputError(f"--name {name}: the job has no such aggregator: it has {known}")
        outcome = run_aggregator(role)
    _finish(outcome, events, quiet)


def dealer(
    job_file: JobFile,
    certificates: Certificates,
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    reconnect: Reconnect = RECONNECT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    engine: Engine = EMBEDDED,
    events: Events = 0,
) -> None:
    """Hand out correlated randomness; sees no data."""
    with _role(job_file, DEALER, certificates, out, wait, reconnect, resume, quiet, events, engine) as role:
        give_way()
        outcome = (run_dealer if role.job.federated is None else run_federated_dealer)(role)
    _finish(outcome, events, quiet)


def analyst(
    job_file: JobFile,
    certificates: Certificates,
    out: Out = None,
    wait: Wait = WAIT_SECONDS,
    reconnect: Reconnect = RECONNECT_SECONDS,
    resume: Resume = False,
    quiet: Quiet = False,
    engine: Engine = EMBEDDED,
    events: Events = 0,
) -> None:
    """Receive the model; sees no data."""
    with _role(job_file, None, certificates, out, wait, reconnect, resume, quiet, events, engine) as role:
        if role.name in role.job.party_names:
            raise InputError(
                f"the analyst {role.name} is one of the parties: run 'veilboost party --name {role.name}' instead"
            )
        if out is None:
            raise InputError("the analyst needs --out DIR, where the model goes")
        outcome = (run_analyst if role.job.federated is None else run_federated_analyst)(role)
    _finish(outcome, events, quiet)


class _role:  # noqa: N801  a context manager that reads like a function
    """Load the job, keep a progress bar or send events, and report errors of a child to its parent."""

    def __init__(
        self,
        job_file: Path,
        name: str | None,
        certificates: Path,
        out: Path | None,
        wait: float,
        reconnect: float,
        resume: bool,
        quiet: bool,
        events: int,
        engine: str = EMBEDDED,
    ) -> None:
        self._engine = engine
        self._arguments = (job_file, name, certificates, out, wait, reconnect)
        self._resume = resume
        self._quiet, self._events = quiet, events
        self._progress: TreeProgress | EventProgress | None = None

    def __enter__(self) -> Role:
        job_file, name, certificates, out, wait, reconnect = self._arguments
        os.umask(0o077)  # the model above all is for this role's user alone
        reuse_memory()
        if self._events:
            end_with_parent(self._events)
        try:
            job = load_job(job_file)
        except VeilboostError as error:
            self._tell(error)
            raise
        check_engine(job, self._engine)
        check_seconds("--wait", wait)
        check_seconds("--reconnect", reconnect)
        name = job.analyst if name is None else name
        trees = job.parameters.n_estimators
        progress = EventProgress() if self._events else TreeProgress(trees, self._quiet, name)
        self._progress = progress.__enter__()
        return Role(
            job,
            name,
            certificates,
            out,
            wait,
            on_tree=progress,
            resume=self._resume,
            on_phase=progress.phase,
            reconnect_seconds=reconnect,
            on_met=progress.count,
            on_notice=progress.notice,
            engine=self._engine,
        )

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
        if isinstance(error, VeilboostError):
            self._tell(error)

    def _tell(self, error: VeilboostError) -> None:
        if self._events:
            kind = "InputError" if isinstance(error, InputError) else type(error).__name__
            emit({"event": "error", "kind": kind, "message": str(error)})


def _finish(outcome: Outcome, events: int, quiet: bool) -> None:
    if events:
        emit({"event": "done", "outcome": outcome.to_dict()})
    elif not quiet:
        sent = sum(outcome.bytes_sent.values()) / 1e6
        receivers = {entry.receiver for entry in outcome.ledger}
        to = EVERYONE if EVERYONE in receivers else "the analyst"
        what = "the model is in model.json" if outcome.model else f"{len(outcome.ledger)} arrays disclosed to {to}"
        typer.echo(f"{outcome.role}: done, {sent:.1f} MB sent, {what}")

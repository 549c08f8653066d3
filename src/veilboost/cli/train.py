"""`veilboost train`: all roles of a job as local processes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from veilboost.cli.options import Data, JobFile, tables
from veilboost.cli.progress import TreeProgress
from veilboost.jobs.local import LocalRun, check_data_names, run_local
from veilboost.jobs.spec import Job, load_job


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(train)


def train(
    job_file: JobFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")],
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was interrupted.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a job with every role as a process of this machine, over TLS."""
    job = load_job(job_file)
    files = tables(data)
    check_data_names(job, files)
    with TreeProgress(job.parameters.n_estimators, quiet) as progress:
        run = run_local(job, job_file, files, out, progress, resume=resume, on_progress=progress.report)
    if not quiet:
        for line in summary(job, run):
            typer.echo(line)
        typer.echo(f"model and ledger are in {out}; the report is {out / 'report.html'}, for {job.analyst} only")


def tree_times(seconds: Sequence[float]) -> str:
    """How long the trees took, such as "20 trees in 5.4 s: 0.6 s for the first, then 0.22 s per tree (median)"."""
    trees = f"{len(seconds)} {'tree' if len(seconds) == 1 else 'trees'} in {sum(seconds):.1f} s"
    if len(seconds) < 2:
        return trees
    return f"{trees}: {seconds[0]:.2f} s for the first, then {statistics.median(seconds[1:]):.2f} s per tree (median)"


def summary(job: Job, run: LocalRun) -> list[str]:
    """What a person wants to know after a training."""
    sent = ", ".join(f"{role} {count / 1e6:.1f} MB" for role, count in run.report["bytes_sent"].items())
    lines = [
        f"{tree_times(run.report['seconds_per_tree'])}, after {run.report['seconds_setup']:.1f} s of setup",
        f"sent: {sent}",
        "disclosed:",
    ]
    lines += [f"  to {entry['receiver']}: {entry['value']} {tuple(entry['shape'])}" for entry in run.ledger]
    lines.append(f"  to everybody else: nothing ({', '.join(r for r in job.roles if r != job.analyst)})")
    return lines

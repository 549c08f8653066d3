"""`veilboost train`: all roles of a job as local processes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from veilboost.cli.options import Data, JobFile, tables
from veilboost.cli.progress import TreeProgress
from veilboost.errors import ParticipantError
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
        try:
            run = run_local(job, job_file, files, out, progress, resume=resume, on_progress=progress.report)
        except ParticipantError as error:
            kept = kept_trees(job, out)
            if not kept:
                raise
            trees = "1 tree is" if kept == 1 else f"{kept} trees are"
            raise type(error)(f"{error}; {trees} kept: the same command with --resume continues") from None
    if not quiet:
        for line in summary(job, run):
            typer.echo(line)
        typer.echo(f"model and ledger are in {out}; the report is {out / 'report.html'}, for {job.analyst} only")


def kept_trees(job: Job, out: Path) -> int:
    """After how many trees a training that was interrupted can go on; 0 if it must begin again."""
    kept = [[int(path.stem[5:]) for path in (out / name).glob("tree-?????.checkpoint")] for name in job.party_names]
    return min(max(numbers, default=0) for numbers in kept)


def tree_times(seconds: Sequence[float]) -> str:
    """How long the trees took, such as "20 trees in 5.4 s: 0.6 s for the first, then 0.22 s per tree (median)"."""
    trees = f"{len(seconds)} {'tree' if len(seconds) == 1 else 'trees'} in {sum(seconds):.1f} s"
    if len(seconds) < 2:
        return trees
    return f"{trees}: {seconds[0]:.2f} s for the first, then {statistics.median(seconds[1:]):.2f} s per tree (median)"


def summary(job: Job, run: LocalRun) -> list[str]:
    """What a person wants to know after a training."""
    sent = ", ".join(f"{role} {count / 1e6:.1f} MB" for role, count in run.report["bytes_sent"].items())
    before = job.parameters.n_estimators - len(run.report["seconds_per_tree"])
    resumed = f"; {before} trees were there before" if before else ""
    lines = [
        f"{tree_times(run.report['seconds_per_tree'])}, after {run.report['seconds_setup']:.1f} s of setup{resumed}",
        f"sent: {sent}",
        "disclosed:",
    ]
    lines += [f"  to {entry['receiver']}: {entry['value']} {tuple(entry['shape'])}" for entry in run.ledger]
    receivers = {entry["receiver"] for entry in run.ledger}
    lines.append(f"  to everybody else: nothing ({', '.join(role for role in job.roles if role not in receivers)})")
    return lines

"""`veilboost train`: all roles of a job as local processes."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from veilboost.cli.options import Data, Engine, JobFile, check_engine, tables
from veilboost.cli.progress import TreeProgress
from veilboost.errors import InputError, ParticipantError
from veilboost.jobs.entries import EMBEDDED
from veilboost.jobs.job import Job
from veilboost.jobs.local import LocalRun, check_data_names, run_local
from veilboost.jobs.spec import load_job
from veilboost.mpc.ledger import EVERYONE


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(train)


def train(
    job_file: JobFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")],
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was interrupted.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    engine: Engine = EMBEDDED,
) -> None:
    """Train a job with every role as a process of this machine, over TLS."""
    job = load_job(job_file)
    check_engine(job, engine)
    run_all = run_local if engine == EMBEDDED else _nvflare()
    files = tables(data)
    check_data_names(job, files)
    with TreeProgress(job.parameters.n_estimators, quiet) as progress:
        listeners: dict[str, Any] = {"on_notice": progress.notice} if engine == EMBEDDED else {}
        try:
            run = run_all(job, job_file, files, out, progress, resume=resume, on_progress=progress.report, **listeners)
        except ParticipantError as error:
            kept = kept_trees(job, out)
            if kept is None:
                raise
            trees = {0: "what comes before the first tree is", 1: "1 tree is"}.get(kept, f"{kept} trees are")
            raise type(error)(f"{error}; {trees} kept: the same command with --resume continues") from None
    if not quiet:
        for line in summary(job, run):
            typer.echo(line)
        readers = f"{job.analyst} only" if job.federated is None else "participants of the federation only"
        typer.echo(f"model and ledger are in {out}; the report is {out / 'report.html'}, for {readers}")


def kept_trees(job: Job, out: Path) -> int | None:
    """After how many trees a training that was interrupted can go on; None if it must begin again."""
    if job.federated is not None and job.federated.epsilon is not None:
        return None
    keepers = job.aggregator_names or job.party_names
    kept = [[int(path.stem[5:]) for path in (out / name).glob("tree-?????.checkpoint")] for name in keepers]
    number = min(max(numbers, default=0) for numbers in kept)
    if number == 0:
        return None
    return number if job.federated is None else number - 1  # the first one is kept before the first tree


def _nvflare() -> Callable[..., LocalRun]:
    """What runs a job with NVFlare's processes, loaded only when it is asked for."""
    if importlib.util.find_spec("nvflare") is None:
        raise InputError("--engine nvflare needs NVFlare, which is not installed: pip install 'veilboost[federated]'")
    found: Callable[..., LocalRun] = importlib.import_module("veilboost.jobs.nvflare_local").run_local_nvflare
    return found


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
    if run.report.get("dropped"):
        lines.insert(1, f"lost on the way: {', '.join(run.report['dropped'])}")
    receivers = {entry["receiver"] for entry in run.ledger}
    if EVERYONE in receivers:
        return [*lines, "  nothing else to anybody"]
    lines.append(f"  to everybody else: nothing ({', '.join(role for role in job.roles if role not in receivers)})")
    return lines

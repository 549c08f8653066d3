"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from veilboost.errors import InputError
from veilboost.jobs.entries import EMBEDDED, ENGINES
from veilboost.jobs.job import Job

JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file, the same bytes for everybody.")]
Certificates = Annotated[Path, typer.Option("--certs", metavar="DIR", help="Folder made by 'veilboost certs'.")]
Data = Annotated[
    list[str] | None, typer.Option("--data", metavar="NAME=FILE", help="A party and its table, CSV or Parquet.")
]

Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINES),
        help="What carries questions to the clients of a federated job and their answers back.",
    ),
]


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse what is none of the known words."""
    if value not in known:
        raise InputError(f"{option} {value}: must be {' or '.join(known)}")


def check_engine(job: Job, engine: str) -> None:
    """Refuse an engine that there is not, or that the job has no use for."""
    check_choice("--engine", engine, ENGINES)
    if engine != EMBEDDED and job.federated is None:
        raise InputError(f"--engine {engine}: is for federated jobs, and this one is {job.method}: leave it out")


def check_seconds(option: str, value: float) -> None:
    """Refuse what is no number of seconds."""
    if not 0 <= value < float("inf"):
        raise InputError(f"{option} {value}: give a number of seconds, 0 or more")


def tables(data: list[str] | None) -> dict[str, Path]:
    """Parties and their files from NAME=FILE options."""
    found: dict[str, Path] = {}
    for entry in data or []:
        name, equals, file = entry.partition("=")
        if not equals or not name or not file:
            raise InputError(f"--data {entry}: write it as --data NAME=FILE")
        if name in found:
            raise InputError(f"--data {name}=...: is given twice: name one file for each party")
        found[name] = Path(file)
    return found

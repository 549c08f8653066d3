"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilboost.errors import InputError

JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file, the same bytes for everybody.")]
Certificates = Annotated[Path, typer.Option("--certs", metavar="DIR", help="Folder made by 'veilboost certs'.")]
Data = Annotated[
    list[str] | None, typer.Option("--data", metavar="NAME=FILE", help="A party and its table, CSV or Parquet.")
]


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

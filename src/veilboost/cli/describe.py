"""`veilboost describe`: drafts a job file from local samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from veilboost.cli.options import Data, check_choice, tables
from veilboost.errors import InputError
from veilboost.jobs.draft import draft_features, draft_job, fits_classification, may_number_rows
from veilboost.jobs.entries import FEDERATED, METHODS, SMPC
from veilboost.jobs.joining import check_alike
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.reading import column_names, read_columns

_PARAMETERS = {"objective": "binary:logistic", "n_estimators": 20, "max_depth": 4, "learning_rate": 0.3, "max_bin": 64}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(describe)


def describe(
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="The column to predict.")],
    out: Annotated[Path, typer.Option("--out", metavar="JOB.toml", help="Where the draft goes.")],
    data: Data = None,
    row_id: Annotated[
        str | None,
        typer.Option("--id", metavar="COLUMN", help="The column by which rows of different tables belong together."),
    ] = None,
    analyst: Annotated[str, typer.Option("--analyst", metavar="NAME", help="Who gets the model.")] = "analyst",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="smpc|federated",
            help="smpc: tables of different columns or rows. federated: the same columns everywhere.",
        ),
    ] = SMPC,
) -> None:
    """Draft a job file from samples of all parties' tables: kinds, levels, columns with empty cells."""
    if out.exists():
        raise InputError(f"{out}: is there already: choose another file with --out, or move it away")
    check_choice("--method", method, METHODS)
    if method == FEDERATED and row_id is not None:
        raise InputError(f"--id {row_id}: is not used by federated: leave it out")
    files = tables(data)
    frames: dict[str, pl.DataFrame] = {}
    for party, file in files.items():
        names = column_names(file, str(file))
        if row_id is not None and row_id not in names:
            raise InputError(f"--id {row_id}: {file} has no such column: check the name, or leave --id out")
        frames[party] = read_columns(file, [name for name in names if name != row_id], str(file))
    holders = [party for party, frame in frames.items() if label in frame.columns]
    if not holders:
        raise InputError(f"--label {label}: no table has this column: check the name, and give every table with --data")
    where = {party: str(file) for party, file in files.items()}
    if method == FEDERATED:
        check_alike({party: frame.columns for party, frame in frames.items()}, where)
    classes = all([fits_classification(label, frames[party][label], str(files[party])) for party in holders])
    features = draft_features(frames, (label,), where)
    drafts = {party: [features[name] for name in frame.columns if name != label] for party, frame in frames.items()}
    entry = {"label": label} if row_id is None else {"id": row_id, "label": label}
    job = job_from_dict(draft_job(out.stem, drafts, entry, {label: holders}, analyst, _PARAMETERS, method=method))
    try:
        out.write_text(job_to_toml(job), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}): choose another file with --out") from None
    typer.echo(
        f"wrote {out}: look over kinds, levels and parameters; "
        "it names levels of your data and will be shared with everybody"
    )
    for party, frame in frames.items():
        for column in frame.columns:
            if column != label and may_number_rows(frame[column]):
                typer.echo(
                    f"{where[party]}: column '{column}' has a different whole number in every row: if it numbers rows "
                    "or patients, take it out of the draft, or name it with --id if it says which rows belong together"
                )
    if method == FEDERATED:
        typer.echo("the two aggregators are on this machine, for trying out: give their tasks to two organisations")
    if not classes:
        typer.echo(
            f"the label '{label}' has numbers other than 0 and 1, so the draft does not fit it yet: write two classes "
            'as 0 and 1; for K classes, numbered from 0, give objective = "multi:softprob" and num_class = K under '
            '[model]; for regression objective = "reg:squarederror" or "count:poisson", and public bounds '
            "label_range = [LOWEST, HIGHEST] under [data]"
        )

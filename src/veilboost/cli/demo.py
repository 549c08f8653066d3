"""`veilboost demo`: the whole story on real data."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from veilboost.cli.progress import TreeProgress
from veilboost.cli.train import tree_times
from veilboost.data import heart_disease_path, hospitals_job_path
from veilboost.errors import InputError
from veilboost.jobs.job import Job
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import load_job
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

Floats = npt.NDArray[np.float32]

_TEST_PART = 0.3

#: Patients of the laboratory whom no hospital of the job has.
_STRANGERS = 50


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)


def demo(
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep the results in this folder.")] = None,
) -> None:
    """Four hospitals and a laboratory train a model of heart disease on 920 patients; none shows another its table."""
    try:
        import sklearn.metrics
        import sklearn.model_selection
        import xgboost  # noqa: F401
    except ImportError as error:
        raise InputError(f"the demo compares with {error.name}: install 'veilboost[analyst]'") from None
    console = Console()
    job = load_job(hospitals_job_path())
    patients = pl.read_csv(heart_disease_path(), infer_schema=False)
    patients = patients.with_columns(pl.Series("patient", [f"P{number:04}" for number in range(patients.height)]))
    disease = patients[job.data.label].cast(pl.Int64).to_numpy()
    hospitals = patients["hospital"].str.replace("VA Long Beach", "Long-Beach").to_numpy()
    train_rows, test_rows = sklearn.model_selection.train_test_split(
        np.arange(len(disease)), test_size=_TEST_PART, random_state=0, stratify=[*zip(hospitals, disease, strict=True)]
    )
    tables = _tables(job, patients, hospitals, train_rows)
    console.print(
        f"[bold]Heart disease in {patients.height} patients of four hospitals.[/bold] Each hospital holds "
        f"{', '.join(job.parties[0].columns)} of its own patients, a laboratory {', '.join(job.parties[-1].columns)} "
        f"of all of them, and {_STRANGERS} patients of nobody else. Rows to train on:"
    )
    console.print("  " + ", ".join(f"{name} {table.height}" for name, table in tables.items()))
    console.print(
        "Every participant is a process of its own; they speak mutual TLS on this machine, and find their common "
        "patients without showing each other their numbers. The dealer hands out random numbers and sees no data; "
        f"only {job.analyst} will see the model.\n"
    )
    with tempfile.TemporaryDirectory(prefix="veilboost-") as scratch:
        results = Path(scratch)
        data: dict[str, Path | bytes] = {}
        for name, table in tables.items():
            data[name] = results / f"{name}.csv"
            table.write_csv(results / f"{name}.csv")
        with TreeProgress(job.parameters.n_estimators) as progress:
            run = run_local(job, hospitals_job_path(), data, results, progress, on_progress=progress.report)
        model = load_model(results / "model.json")
        if out is not None:
            shutil.copytree(results, out, dirs_exist_ok=True)
    values = encode_frame(patients, job.features)
    console.print(_gains(job, values, disease, hospitals, train_rows, test_rows, model.predict(values)))
    console.print(f"\n{tree_times(run.report['seconds_per_tree'])}. Sent by each role:")
    for role, count in run.report["bytes_sent"].items():
        console.print(f"  {role}: {count / 1e6:.1f} MB")
    console.print(_disclosures(job, run.ledger))
    if out is None:
        console.print("With --out DIR the demo keeps the model, the ledger and the report, a page for your browser.")
    else:
        console.print(f"Model and ledger are in {out}. Open the report in a browser: ", end="")
        console.print(str((out / "report.html").absolute()), soft_wrap=True, markup=False, highlight=False)


def _tables(job: Job, patients: pl.DataFrame, hospitals: Any, train_rows: Any) -> dict[str, pl.DataFrame]:
    """What each party holds; the laboratory in an order of its own, with some patients of nobody else."""
    tables = {}
    for party in job.parties:
        columns = ["patient", *party.columns]
        if job.grid.block_of[job.party_names.index(party.name)] is not None:
            tables[party.name] = patients[train_rows[hospitals[train_rows] == party.name]].select(columns)
        else:
            own = patients[train_rows].select(columns)
            others = own.head(_STRANGERS).with_columns(pl.Series("patient", [f"X{n}" for n in range(_STRANGERS)]))
            tables[party.name] = pl.concat([own, others]).sample(fraction=1, shuffle=True, seed=1)
    return tables


def _gains(
    job: Job, values: Floats, disease: Any, hospitals: Any, train_rows: Any, test_rows: Any, together: Floats
) -> Table:
    """AUC on each hospital's other patients: of a model of its own table alone, and of the common one."""
    own = _columns_of(job, job.parties[0].columns)
    everything = range(len(job.features))
    table = Table(
        title="AUC on other patients: each hospital alone (XGBoost on its own table), and all together",
        title_justify="left",
    )
    for heading in ("hospital", "patients", "with disease", "alone", "together (veilboost)", "gain"):
        table.add_column(heading, justify="left" if heading == "hospital" else "right")
    for name in job.label_holders:
        mine, tested = train_rows[hospitals[train_rows] == name], test_rows[hospitals[test_rows] == name]
        alone = _auc(disease[tested], _plain_model(job, values, disease, mine, own)[tested])
        common = _auc(disease[tested], together[tested])
        ill = f"{disease[tested].mean():.0%}"
        table.add_row(name, str(len(tested)), ill, f"{alone:.3f}", f"{common:.3f}", f"{common - alone:+.3f}")
    pooled = _auc(disease[test_rows], _plain_model(job, values, disease, train_rows, everything)[test_rows])
    ours = _auc(disease[test_rows], together[test_rows])
    table.add_section()
    ill = f"{disease[test_rows].mean():.0%}"
    table.add_row("all", str(len(test_rows)), ill, "", f"[bold]{ours:.3f}[/bold]", "")
    table.caption = f"All rows and columns pooled in one table (XGBoost): {pooled:.3f}"
    table.caption_justify = "left"
    return table


def _disclosures(job: Job, ledger: list[dict[str, Any]]) -> Table:
    table = Table(title="What was disclosed to whom", title_justify="left")
    table.add_column("receiver")
    table.add_column("what")
    table.add_column("shape", justify="right")
    for entry in ledger:
        table.add_row(entry["receiver"], entry["value"], " x ".join(map(str, entry["shape"])))
    for role in job.roles:
        if role not in {entry["receiver"] for entry in ledger}:
            table.add_row(role, "nothing", "0")
    return table


def _plain_model(job: Job, values: Floats, labels: Any, rows: Any, columns: Sequence[int]) -> Floats:
    """What plain XGBoost with the same parameters, trained on these rows and columns, predicts for all rows."""
    import xgboost

    def matrix(chosen: Any) -> Any:
        return xgboost.DMatrix(
            values[chosen][:, columns],
            label=labels[chosen],
            feature_names=[job.features[i].name for i in columns],
            feature_types=["c" if job.features[i].categorical else "float" for i in columns],
            enable_categorical=True,
        )

    names = ("objective", "max_depth", "learning_rate", "max_bin", "reg_lambda", "min_child_weight", "gamma")
    parameters = {name: getattr(job.parameters, name) for name in names}
    parameters |= {"tree_method": "hist", "max_cat_to_onehot": 1000, "seed": 0}
    booster = xgboost.train(parameters, matrix(rows), job.parameters.n_estimators)
    return np.asarray(booster.predict(matrix(np.arange(len(values)))))


def _auc(labels: Any, predictions: Floats) -> float:
    import sklearn.metrics

    return float(sklearn.metrics.roc_auc_score(labels, predictions))


def _columns_of(job: Job, names: Sequence[str]) -> list[int]:
    return [position for position, feature in enumerate(job.features) if feature.name in names]

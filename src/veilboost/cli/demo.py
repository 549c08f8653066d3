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
from veilboost.data import heart_disease_path, heart_job_path
from veilboost.errors import InputError
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import Job, load_job
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

Floats = npt.NDArray[np.float32]

_TEST_PART = 0.2


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)


def demo(
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep the results in this folder.")] = None,
) -> None:
    """A clinic and a laboratory train a model of heart disease on 920 patients; neither shows the other its table."""
    try:
        import sklearn.metrics
        import sklearn.model_selection
        import xgboost  # noqa: F401  needed by _plain_auc
    except ImportError as error:
        raise InputError(f"the demo compares with {error.name}: install 'veilboost[analyst]'") from None
    console = Console()
    job = load_job(heart_job_path())
    patients = pl.read_csv(heart_disease_path(), infer_schema=False)
    disease = patients[job.data.label].cast(pl.Int64).to_numpy()
    train_rows, test_rows = sklearn.model_selection.train_test_split(
        np.arange(len(disease)), test_size=_TEST_PART, random_state=0, stratify=disease
    )
    console.print(
        f"[bold]Heart disease in {patients.height} patients of four hospitals.[/bold] Who holds which column of the "
        f"{len(train_rows)} patients to train on:"
    )
    for party in job.parties:
        console.print(f"  {party.name}: {', '.join(party.columns)}")
    console.print(
        "Every participant is a process of its own; they speak mutual TLS on this machine. The dealer hands out random "
        f"numbers and sees no data; only {job.analyst} will see the model.\n"
    )
    with tempfile.TemporaryDirectory(prefix="veilboost-") as scratch:
        results = Path(scratch)
        data = {}
        for party in job.parties:
            path = results / f"{party.name}.csv"
            patients[train_rows].select(party.columns).write_csv(path)
            data[party.name] = path
        with TreeProgress(job.parameters.n_estimators) as progress:
            run = run_local(job, heart_job_path(), data, results, progress, on_progress=progress.report)
        model = load_model(results / "model.json")
        values = encode_frame(patients, job.features)
        ours = sklearn.metrics.roc_auc_score(disease[test_rows], model.predict(values[test_rows]))
        theirs = _plain_auc(job, values, disease, train_rows, test_rows, range(len(job.features)))
        alone = {
            party.name: _plain_auc(job, values, disease, train_rows, test_rows, _columns_of(job, party.columns))
            for party in job.parties
        }
        if out is not None:
            shutil.copytree(results, out, dirs_exist_ok=True)
    console.print(f"AUC on {len(test_rows)} other patients:")
    for name, auc in alone.items():
        console.print(f"  {auc:.3f}  with the columns of the {name} alone (XGBoost)")
    console.print(f"  [bold]{ours:.3f}  with all columns, none of them shown to anybody (veilboost)[/bold]")
    console.print(f"  {theirs:.3f}  with all columns pooled in one table (XGBoost)\n")
    console.print(f"{tree_times(run.report['seconds_per_tree'])}. Sent by each role:")
    for role, count in run.report["bytes_sent"].items():
        console.print(f"  {role}: {count / 1e6:.1f} MB")
    console.print(_disclosures(job, run.ledger))
    if out is None:
        console.print("With --out DIR the demo keeps the model, the ledger and the report, a page for your browser.")
    else:
        console.print(f"Model and ledger are in {out}. Open the report in a browser: ", end="")
        console.print(str((out / "report.html").absolute()), soft_wrap=True, markup=False, highlight=False)


def _disclosures(job: Job, ledger: list[dict[str, Any]]) -> Table:
    table = Table(title="What was disclosed to whom", title_justify="left")
    table.add_column("receiver")
    table.add_column("what")
    table.add_column("shape", justify="right")
    for entry in ledger:
        table.add_row(entry["receiver"], entry["value"], " x ".join(map(str, entry["shape"])))
    for role in job.roles:
        if role != job.analyst:
            table.add_row(role, "nothing", "0")
    return table


def _plain_auc(job: Job, values: Floats, labels: Any, train_rows: Any, test_rows: Any, columns: Sequence[int]) -> float:
    """AUC of plain XGBoost with the same parameters on the same rows, with some of the columns."""
    import sklearn.metrics
    import xgboost

    def matrix(rows: Any) -> Any:
        return xgboost.DMatrix(
            values[rows][:, columns],
            label=labels[rows],
            feature_names=[job.features[i].name for i in columns],
            feature_types=["c" if job.features[i].categorical else "float" for i in columns],
            enable_categorical=True,
        )

    names = ("objective", "max_depth", "learning_rate", "max_bin", "reg_lambda", "min_child_weight", "gamma")
    parameters = {name: getattr(job.parameters, name) for name in names}
    parameters |= {"tree_method": "hist", "max_cat_to_onehot": 1000, "seed": 0}
    booster = xgboost.train(parameters, matrix(train_rows), job.parameters.n_estimators)
    return float(sklearn.metrics.roc_auc_score(labels[test_rows], booster.predict(matrix(test_rows))))


def _columns_of(job: Job, names: Sequence[str]) -> list[int]:
    return [position for position, feature in enumerate(job.features) if feature.name in names]

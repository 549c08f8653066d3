"""How good are models trained on shares, beside XGBoost on the pooled table with equal parameters, on real data?

    python benchmarks/real_data.py path/to/data [--tables heart thyroid ...] [--splits 10] [--json FILE] [--table]

Every table is split by columns over three owners, by rows over three (heart: its four hospitals), and by both: two
owners of rows (heart: four) and one more of half the columns for all rows. Every role is a process; they talk over
TLS. The area under the curve (AUC) of several classes is the mean over the classes, each against the rest. Means over
random stratified splits of the table, a fifth of it for the test: 10 (heart 30, census 1).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xgboost
from environment import environment
from made_up import free_ports
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from veilboost.jobs.draft import draft_feature, draft_job
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.schema import Feature
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LAYOUTS = ("columns", "rows", "rows and columns")


@dataclass(frozen=True)
class Task:
    """One table to learn from.

    Attributes
    ----------
    columns, labels
        All columns but the label; the label.
    blocks
        Which hospital each row is of, if that is known.
    """

    name: str
    columns: pl.DataFrame
    labels: Floats
    objective: str = "binary:logistic"
    blocks: Ints | None = None
    splits: int = 10
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> bool:
        """Whether the label is a class."""
        return self.objective in ("binary:logistic", "multi:softprob")

    @property
    def objective_parameters(self) -> dict[str, Any]:
        """The objective and, if it has several, the number of classes."""
        several = {"num_class": int(self.labels.max()) + 1} if self.objective == "multi:softprob" else {}
        return {"objective": self.objective, **several}


@dataclass(frozen=True)
class Result:
    """Means over the splits; the differences are veilboost's minus XGBoost's."""

    table: str
    layout: str
    metric: str
    veilboost: float
    xgboost: float
    difference: float
    deviation_of_difference: float
    seconds_per_tree: float
    splits: int


def read_tasks(folder: Path) -> dict[str, Task]:
    """The tables, by name; those that are not in the folder are left out."""
    tasks = []
    heart = folder / "heart_uci_4_hospitals.csv"
    if heart.exists():
        table = pl.read_csv(heart, infer_schema=False)
        hospital = table["dataset"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
        labels = (table["num"].cast(pl.Int64) > 0).cast(pl.Float64).to_numpy()
        # So small that the mean difference over 10 splits would be uncertain by 0.003.
        tasks.append(Task("heart", table.drop("id", "dataset", "num"), labels, blocks=hospital, splits=30))
        known = table["thalch"].is_not_null().to_numpy()
        rate = table["thalch"].cast(pl.Float64).to_numpy()[known]
        others = table.filter(known).drop("id", "dataset", "thalch", "num")
        tasks.append(Task("heart rate", others, rate, "reg:squarederror", blocks=hospital[known]))
    thyroid = folder / "thyroid_uci.csv"
    if thyroid.exists():
        table = pl.read_csv(thyroid, infer_schema=False)
        labels = (table["target"] != "-").cast(pl.Float64).to_numpy()
        tasks.append(Task("thyroid", table.drop("target", "patient_id"), labels))
    credit = folder / "credit_data.csv"
    if credit.exists():
        table = pl.read_csv(credit, infer_schema=False).with_columns(pl.all().replace("NA", None))
        labels = (table["Status"] == "bad").cast(pl.Float64).to_numpy()
        tasks.append(Task("credit", table.drop("Status"), labels))
    readmitted = folder / "readmitted.csv.gz"
    if readmitted.exists():
        table = pl.read_csv(readmitted, infer_schema=False)
        classes = table["readmitted"].cast(pl.Float64).to_numpy()
        tasks.append(Task("readmitted", table.drop("readmitted"), classes, "multi:softprob"))
    census = folder / "census_income_kdd.parquet"
    if census.exists():
        table = pl.read_parquet(census)
        labels = (table["41"].cast(pl.String).str.strip_chars() != "- 50000.").cast(pl.Float64).to_numpy()
        table = table.drop("24", "41", "split").with_columns(pl.col(pl.Categorical).cast(pl.String))
        tasks.append(Task("census", table, labels, splits=1))
    return {task.name: task for task in tasks}


def holders_of(task: Task, layout: str, rows: Ints, seed: int) -> tuple[dict[str, tuple[Ints, list[str]]], list[str]]:
    """Rows and columns of every owner, and the owners of the labels."""
    columns = task.columns.columns
    if layout == "columns":
        names = ["first", "second", "third"]
        return {name: (rows, columns[number::3]) for number, name in enumerate(names)}, ["first"]
    count = 3 if layout == "rows" else 2
    block = np.random.default_rng(seed).integers(0, count, len(rows)) if task.blocks is None else task.blocks[rows]
    half = columns if layout == "rows" else columns[::2]
    held = {f"site{number}": (rows[block == number], half) for number in range(int(block.max()) + 1)}
    sites = list(held)
    if layout != "rows":
        held["laboratory"] = (np.concatenate([held[site][0] for site in sites]), columns[1::2])
    return held, sites


def train(task: Task, layout: str, features: dict[str, Feature], rows: Ints, seed: int) -> tuple[Any, list[float]]:
    """Train on shares; the model and seconds per tree."""
    held, sites = holders_of(task, layout, rows, seed)
    drafts = {name: [features[column] for column in columns] for name, (_, columns) in held.items()}
    data_entry: dict[str, Any] = {"label": "label"}
    if not task.classes:
        data_entry["label_range"] = [float(task.labels.min()), float(task.labels.max())]
    parameters = task.objective_parameters | task.parameters
    ports = free_ports(len(held) + 1)
    content = draft_job(task.name, drafts, data_entry, {"label": sites}, "university", parameters, ports)
    # The order of the features does not depend on who holds them.
    content["feature"].sort(key=lambda entry: task.columns.columns.index(entry["name"]))
    job = job_from_dict(content)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "job.toml").write_text(job_to_toml(job), encoding="utf-8")
        data: dict[str, Path | bytes] = {}
        for name, (own, columns) in held.items():
            frame = task.columns[own].select(columns)
            if name in sites:
                frame = frame.with_columns(pl.Series("label", task.labels[own]))
            data[name] = out / f"{name}.parquet"
            frame.write_parquet(out / f"{name}.parquet")
        run = run_local(job, out / "job.toml", data, out / "out")
        return load_model(out / "out" / "model.json"), run.report["seconds_per_tree"][1:]


def train_xgboost(task: Task, types: Sequence[str], values: npt.NDArray[np.float32], rows: Ints) -> xgboost.Booster:
    """Plain XGBoost on all columns of the same rows."""
    matrix = xgboost.DMatrix(values[rows], label=task.labels[rows], feature_types=list(types), enable_categorical=True)
    parameters = {k: v for k, v in task.parameters.items() if k != "n_estimators"}
    parameters |= task.objective_parameters | {"tree_method": "hist"}
    return xgboost.train(parameters, matrix, task.parameters["n_estimators"])


def measure(task: Task, splits: int) -> list[Result]:
    """All layouts of one table."""
    features = {name: draft_feature(name, task.columns[name], task.name) for name in task.columns.columns}
    values = encode_frame(task.columns, list(features.values()))
    types = ["c" if feature.categorical else "float" for feature in features.values()]
    scores: dict[str, list[float]] = {name: [] for name in (*LAYOUTS, "xgboost")}
    seconds: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}

    def score(predicted: npt.NDArray[Any], test: Ints) -> float:
        if task.classes:
            return float(roc_auc_score(task.labels[test], predicted, multi_class="ovr"))  # the mean over the classes
        return float(np.sqrt(np.mean((predicted - task.labels[test]) ** 2)))

    for seed in range(splits):
        everything = np.arange(len(task.labels))
        rows, test = train_test_split(
            everything, test_size=0.2, random_state=seed, stratify=task.labels if task.classes else None
        )
        booster = train_xgboost(task, types, values, rows)
        matrix = xgboost.DMatrix(values[test], feature_types=types, enable_categorical=True)
        scores["xgboost"].append(score(booster.predict(matrix), test))
        for layout in LAYOUTS:
            model, per_tree = train(task, layout, features, rows, seed)
            scores[layout].append(score(model.predict(values[test]), test))
            seconds[layout] += per_tree
    results = []
    for layout in LAYOUTS:
        differences = np.subtract(scores[layout], scores["xgboost"])
        results.append(
            Result(
                task.name,
                layout,
                "AUC" if task.classes else "RMSE",
                statistics.fmean(scores[layout]),
                statistics.fmean(scores["xgboost"]),
                float(differences.mean()),
                float(differences.std(ddof=1)) if splits > 1 else 0.0,
                statistics.fmean(seconds[layout]),
                splits,
            )
        )
    return results


def as_table(results: Sequence[Result]) -> str:
    """The table of docs/benchmarks.md."""
    lines = [
        "| table | split by | | veilboost | XGBoost | difference | its deviation over splits | seconds per tree |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        digits = 4 if one.metric == "AUC" else 3
        lines.append(
            f"| {one.table} | {one.layout} | {one.metric} | {one.veilboost:.{digits}f} | {one.xgboost:.{digits}f} "
            f"| {one.difference:+.{digits}f} | {one.deviation_of_difference:.{digits}f} | {one.seconds_per_tree:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", nargs="*", default=None)
    parser.add_argument("--splits", type=int, default=None, help="instead of 10, 30 for heart and 1 for census")
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print the table of docs/benchmarks.md")
    chosen = parser.parse_args()
    parameters = {"n_estimators": chosen.trees, "max_depth": 4, "learning_rate": 0.3, "max_bin": 64}
    tasks = read_tasks(chosen.folder)
    results: list[Result] = []
    for name in chosen.tables or tasks:
        task = tasks[name]
        task.parameters.update(parameters)
        results += measure(task, chosen.splits or task.splits)
        print(as_table(results[-len(LAYOUTS) :]), flush=True)
        if chosen.json is not None:
            found = {"parameters": parameters, "results": [asdict(one) for one in results], "on": environment()}
            chosen.json.write_text(json.dumps(found, indent=2))
    if chosen.table:
        print(as_table(results))


if __name__ == "__main__":
    main()

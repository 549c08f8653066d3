"""How good are models of a federation, beside XGBoost on the pooled table, and are they the same whatever carries them?

    python benchmarks/federated_data.py path/to/data [--tables heart census] [--engines embedded nvflare] [--splits 10]
                                        [--json FILE] [--table]

The heart table by its four hospitals, the census table dealt out to eight clients. 20 trees of depth 4, learning rate
0.3, 64 bins. AUC on a stratified fifth. Every role is a process; with NVFlare its server and sites too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost
from environment import environment
from made_up import free_ports
from real_data import Task, read_tasks, train_xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from veilboost.jobs.draft import draft_feature, draft_job
from veilboost.jobs.local import LocalRun, run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.schema import Feature
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

CLIENTS = {"heart": 4, "census": 8}
PARAMETERS = {"n_estimators": 20, "max_depth": 4, "learning_rate": 0.3, "max_bin": 64}


@dataclass(frozen=True)
class Result:
    """Means over the splits of the data; the difference is veilboost's minus XGBoost's."""

    table: str
    engine: str
    clients: int
    veilboost: float
    xgboost: float
    difference: float
    deviation_of_difference: float
    seconds_per_tree: float
    seconds_setup: float
    splits: int
    same_models: bool
    ledger: list[str]


def runner(engine: str) -> Callable[..., LocalRun]:
    """What runs a job with an engine."""
    if engine == "embedded":
        return run_local
    from veilboost.jobs.nvflare_local import run_local_nvflare

    return run_local_nvflare


def clients_of(task: Task, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Rows of every client."""
    count = CLIENTS[task.name]
    block = task.blocks[rows] if task.blocks is not None else np.random.default_rng(seed).integers(0, count, len(rows))
    return {f"client{number}": rows[block == number] for number in range(count)}


def train(
    task: Task, features: dict[str, Feature], rows: np.ndarray, seed: int, engine: str
) -> tuple[bytes, Any, LocalRun]:
    """The bytes of the model, the model, and the run."""
    held = clients_of(task, rows, seed)
    ports = free_ports(len(held) + 3)
    drafts = {name: list(features.values()) for name in held}
    content = draft_job(
        task.name,
        drafts,
        {"label": "label"},
        {"label": list(held)},
        "university",
        task.objective_parameters | PARAMETERS,
        ports,
        method="federated",
    )
    job = job_from_dict(content)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "job.toml").write_text(job_to_toml(job), encoding="utf-8")
        data: dict[str, Path | bytes] = {}
        for name, own in held.items():
            data[name] = out / f"{name}.parquet"
            task.columns[own].with_columns(pl.Series("label", task.labels[own])).write_parquet(data[name])
        run = runner(engine)(job, out / "job.toml", data, out / "out", lambda number: None)
        return (out / "out" / "model.json").read_bytes(), load_model(out / "out" / "model.json"), run


def measure(task: Task, splits: int, engines: list[str]) -> list[Result]:
    """All engines on one table, with the same splits of the data."""
    features = {name: draft_feature(name, task.columns[name], task.name) for name in task.columns.columns}
    values = encode_frame(task.columns, list(features.values()))
    types = ["c" if feature.categorical else "float" for feature in features.values()]
    task.parameters.update(PARAMETERS)
    plain: list[float] = []
    scores: dict[str, list[float]] = {engine: [] for engine in engines}
    runs: dict[str, list[LocalRun]] = {engine: [] for engine in engines}
    same = True
    for seed in range(splits):
        everything = np.arange(len(task.labels))
        rows, test = train_test_split(everything, test_size=0.2, random_state=seed, stratify=task.labels)
        matrix = xgboost.DMatrix(values[test], feature_types=types, enable_categorical=True)
        plain.append(float(roc_auc_score(task.labels[test], train_xgboost(task, types, values, rows).predict(matrix))))
        models = []
        for engine in engines:
            written, model, run = train(task, features, rows, seed, engine)
            models.append(written)
            scores[engine].append(float(roc_auc_score(task.labels[test], model.predict(values[test]))))
            runs[engine].append(run)
        same = same and all(written == models[0] for written in models)
    results = []
    for engine in engines:
        differences = np.subtract(scores[engine], plain)
        seconds = [second for run in runs[engine] for second in run.report["seconds_per_tree"][1:]]
        results.append(
            Result(
                task.name,
                engine,
                CLIENTS[task.name],
                statistics.fmean(scores[engine]),
                statistics.fmean(plain),
                float(differences.mean()),
                float(differences.std(ddof=1)) if splits > 1 else 0.0,
                statistics.fmean(seconds),
                statistics.fmean(run.report["seconds_setup"] for run in runs[engine]),
                splits,
                same,
                sorted({entry["value"] for run in runs[engine] for entry in run.ledger}),
            )
        )
    return results


def as_table(results: list[Result]) -> str:
    """The table of docs/benchmarks.md."""
    lines = [
        "| table | clients | engine | veilboost | XGBoost | difference | its deviation over the splits | "
        "equal models | seconds per tree | setup, seconds |",
        "| --- " * 10 + "|",
    ]
    for one in results:
        lines.append(
            f"| {one.table} | {one.clients} | {one.engine} | {one.veilboost:.4f} | {one.xgboost:.4f} | "
            f"{one.difference:+.4f} | {one.deviation_of_difference:.4f} | {'yes' if one.same_models else 'NO'} | "
            f"{one.seconds_per_tree:.2f} | {one.seconds_setup:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", nargs="*", default=list(CLIENTS))
    parser.add_argument("--engines", nargs="*", default=["embedded", "nvflare"])
    parser.add_argument("--splits", type=int, default=None, help="instead of 10, and 1 for census")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print the table of docs/benchmarks.md")
    chosen = parser.parse_args()
    tasks = read_tasks(chosen.folder)
    results: list[Result] = []
    for name in chosen.tables:
        results += measure(tasks[name], chosen.splits or min(10, tasks[name].splits), chosen.engines)
        print(as_table(results), flush=True)
        if chosen.json is not None:
            found = {"parameters": PARAMETERS, "results": [asdict(one) for one in results], "on": environment()}
            chosen.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if chosen.table:
        print(as_table(results))


if __name__ == "__main__":
    main()

"""What does differential privacy of a federation cost, beside XGBoost on the pooled table without any?

    python benchmarks/federated_privacy.py path/to/data [--tables readmitted census] [--modes leaf_sums histograms]
                                           [--epsilons 0.3 1 3 10 none] [--json FILE] [--table]
                                           [--figure docs/figures/privacy.png]
    python benchmarks/federated_privacy.py --read FILE [--table] [--figure FILE]          no training

AUC on a stratified fifth against epsilon; of three classes the mean of each against the rest. The rows are dealt out to
four clients; unit "row", delta 1e-6. One training for each table, mode and epsilon, all with the same split of the
data and the same seeds; noise differs from run to run. Every role is a process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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

CLIENTS, DELTA, SEED = 4, 1e-6, 0
TABLES = ("readmitted", "census")
_DRAWN = {"max_bin": 32, "learning_rate": 0.3}
_FOUND = {
    "n_estimators": 40,
    "max_depth": 2,
    "max_bin": 8,
    "learning_rate": 0.3,
    "colsample_bytree": 0.1,
    # Categories one against the rest: sorted by noisy sums, sets of them fit the noise.
    "max_cat_to_onehot": 64,
}

#: By mode and table. Without noise `reg_lambda` is 1, with noise it is raised to what the noise needs.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "leaf_sums": {
        "readmitted": _DRAWN | {"n_estimators": 50, "max_depth": 4},
        "census": _DRAWN | {"n_estimators": 100, "max_depth": 6},
    },
    "histograms": {"readmitted": _FOUND, "census": _FOUND},
}

#: XGBoost, pooled.
PLAIN = {"n_estimators": 50, "max_depth": 4, "learning_rate": 0.3, "max_bin": 256}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes
    ----------
    epsilon
        That was allowed; None: no budget.
    spent
        That the job has by its own report; None: no budget.
    deviation
        Estimate of the standard deviation of the AUC over the test's choice of rows, from halves of the test.
    xgboost
        Of the pooled table, on the same test.
    """

    table: str
    mode: str
    epsilon: float | None
    spent: float | None
    auc: float
    deviation: float
    xgboost: float
    rows: int
    seconds: float


def score(labels: npt.NDArray[np.float64], predicted: npt.NDArray[Any]) -> float:
    """AUC; of several classes the mean of each against the rest."""
    return float(roc_auc_score(labels, predicted, multi_class="ovr"))


def deviation_of(labels: npt.NDArray[np.float64], predicted: npt.NDArray[Any]) -> float:
    """Standard deviation of the AUC: that of tenths of the test, over sqrt(10)."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    tenths = [score(labels[part], predicted[part]) for part in np.array_split(order, 10)]
    return statistics.stdev(tenths) / 10**0.5


def train(
    task: Task, features: dict[str, Feature], rows: Ints, mode: str, epsilon: float | None
) -> tuple[Any, LocalRun]:
    """The model, and the run."""
    client = np.random.default_rng(SEED).integers(0, CLIENTS, len(rows))
    held = {f"client{number}": rows[client == number] for number in range(CLIENTS)}
    budget = {} if epsilon is None else {"epsilon": epsilon, "delta": DELTA}
    content = draft_job(
        task.name,
        {name: list(features.values()) for name in held},
        {"label": "label"},
        {"label": list(held)},
        "university",
        task.objective_parameters | SETTINGS[mode][task.name] | {"seed": SEED},
        free_ports(len(held) + 3),
        method="federated",
        federated={"mode": mode, **budget},
    )
    job = job_from_dict(content)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "job.toml").write_text(job_to_toml(job), encoding="utf-8")
        data: dict[str, Path | bytes] = {}
        for name, own in held.items():
            data[name] = out / f"{name}.parquet"
            task.columns[own].with_columns(pl.Series("label", task.labels[own])).write_parquet(data[name])
        run = run_local(job, out / "job.toml", data, out / "out")
        return load_model(out / "out" / "model.json"), run


def measure(task: Task, modes: Sequence[str], epsilons: Sequence[float | None], results: list[Result]) -> Any:
    """Train with all modes and epsilons on one table; yields after every training, which it adds to `results`."""
    features = {name: draft_feature(name, task.columns[name], task.name) for name in task.columns.columns}
    values = encode_frame(task.columns, list(features.values()))
    types = ["c" if feature.categorical else "float" for feature in features.values()]
    task.parameters.update(PLAIN)
    everything = np.arange(len(task.labels))
    rows, test = train_test_split(everything, test_size=0.2, random_state=SEED, stratify=task.labels)
    matrix = xgboost.DMatrix(values[test], feature_types=types, enable_categorical=True)
    plain = score(task.labels[test], train_xgboost(task, types, values, rows).predict(matrix))
    for mode in modes:
        for epsilon in epsilons:
            model, run = train(task, features, rows, mode, epsilon)
            predicted = model.predict(values[test])
            results.append(
                Result(
                    task.name,
                    mode,
                    epsilon,
                    run.report["privacy"]["epsilon"] if epsilon is not None else None,
                    score(task.labels[test], predicted),
                    deviation_of(task.labels[test], predicted),
                    plain,
                    len(rows),
                    run.report["seconds_setup"] + sum(run.report["seconds_per_tree"]),
                )
            )
            yield


def as_table(results: Sequence[Result]) -> str:
    """The table of docs/benchmarks.md."""
    epsilons = sorted({one.epsilon for one in results}, key=lambda epsilon: epsilon or np.inf)
    names = ["no privacy" if epsilon is None else f"epsilon {epsilon:g}" for epsilon in epsilons]
    lines = [
        "| table | training rows | mode | trees, depth, bins | " + " | ".join(names) + " | XGBoost, pooled |",
        "| --- " * (5 + len(names)) + "|",
    ]
    for table, mode in dict.fromkeys((one.table, one.mode) for one in results):
        of_mode = {one.epsilon: one for one in results if (one.table, one.mode) == (table, mode)}
        any_one, settings = next(iter(of_mode.values())), SETTINGS[mode][table]
        shape = ", ".join(str(settings[key]) for key in ("n_estimators", "max_depth", "max_bin"))
        aucs = [f"{of_mode[epsilon].auc:.4f}" if epsilon in of_mode else "" for epsilon in epsilons]
        lines.append(
            f"| {table} | {any_one.rows:,} | `{mode}` | {shape} | {' | '.join(aucs)} | {any_one.xgboost:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print, or read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tables", nargs="*", default=TABLES, choices=TABLES)
    parser.add_argument("--modes", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--epsilons", nargs="*", default=["0.3", "1", "3", "10", "none"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every training")
    parser.add_argument("--read", type=Path, metavar="FILE", help="results of an earlier run; no training")
    parser.add_argument("--table", action="store_true", help="print the table of docs/benchmarks.md")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them (.svg or .png)")
    chosen = parser.parse_args()
    results: list[Result] = []
    if chosen.read is not None:
        results = [Result(**one) for one in json.loads(chosen.read.read_text(encoding="utf-8"))["results"]]
    elif chosen.folder is None:
        parser.error("give the folder of the tables, or --read FILE")
    else:
        epsilons = [None if word == "none" else float(word) for word in chosen.epsilons]
        tasks = read_tasks(chosen.folder)
        for name in chosen.tables:
            for _ in measure(tasks[name], chosen.modes, epsilons, results):
                print(results[-1], flush=True)
                if chosen.json is not None:
                    found = {
                        "settings": SETTINGS,
                        "xgboost": PLAIN,
                        "results": [asdict(one) for one in results],
                        "on": environment(),
                    }
                    chosen.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if chosen.figure is not None:
        from privacy_figure import draw

        draw(results, chosen.figure)
    if chosen.table:
        print(as_table(results))


if __name__ == "__main__":
    main()

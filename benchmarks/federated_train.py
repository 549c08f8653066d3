"""How fast does a federation train, and what does each part of it send?

    python benchmarks/federated_train.py [--rows 1000000] [--columns 50] [--clients 3] [--depth 6] [--bins 64]
                                         [--trees 6] [--engine embedded] [--json FILE] [--table]

Normal columns, logistic loss, rows dealt out evenly to the clients; two aggregators, dealer and analyst. Every role is
a process of this machine; they talk over TLS. Plain XGBoost on the pooled table runs after it, on all cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost
from environment import environment
from made_up import Setting, free_ports, make_table

from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.trees.xgboost_json import load_model

ENGINES = ("embedded", "nvflare")


@dataclass(frozen=True)
class Federation:
    """Size of one training."""

    rows: int = 1_000_000
    columns: int = 50
    clients: int = 3
    aggregators: int = 2
    depth: int = 6
    bins: int = 64
    trees: int = 6
    engine: str = "embedded"
    mode: str = "histograms"

    @property
    def names(self) -> list[str]:
        return [f"client{number}" for number in range(self.clients)]


def measure(setting: Federation) -> dict[str, Any]:
    """Train the federation, then XGBoost on the pooled rows."""
    table, labels = make_table(Setting(setting.rows, setting.columns))
    table = table.with_columns(pl.Series("label", labels))
    ports = iter(free_ports(setting.clients + setting.aggregators + 1))
    columns = [name for name in table.columns if name != "label"]
    model = {"n_estimators": setting.trees, "max_depth": setting.depth, "max_bin": setting.bins}
    job = job_from_dict(
        {
            "job": {"name": "benchmark", "method": "federated", "analyst": "analyst"},
            "model": {"objective": "binary:logistic", **model},
            "data": {"label": "label"},
            "federated": {"mode": setting.mode},
            "feature": [{"name": name, "kind": "continuous"} for name in columns],
            "party": [
                {"name": name, "address": f"127.0.0.1:{next(ports)}", "columns": [*columns, "label"]}
                for name in setting.names
            ],
            "aggregator": [
                {"name": f"aggregator{number}", "address": f"127.0.0.1:{next(ports)}"}
                for number in range(setting.aggregators)
            ],
            "dealer": {"address": f"127.0.0.1:{next(ports)}"},
        }
    )
    data: dict[str, Path | bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        job_file = Path(scratch) / "job.toml"
        job_file.write_text(job_to_toml(job), encoding="utf-8")
        for number, name in enumerate(setting.names):
            data[name] = Path(scratch) / f"{name}.parquet"
            part = slice(number * setting.rows // setting.clients, (number + 1) * setting.rows // setting.clients)
            table[part].write_parquet(data[name])
        if setting.engine == "nvflare":
            from veilboost.jobs.nvflare_local import run_local_nvflare

            run = run_local_nvflare(job, job_file, data, Path(scratch) / "out", lambda number: None)
        else:
            run = run_local(job, job_file, data, Path(scratch) / "out")
        trained = load_model(Path(scratch) / "out" / "model.json")
    values = table.select(columns).to_numpy()
    report = run.report
    seconds = report["seconds_per_tree"]
    plain_seconds, plain = train_plain(values, labels, setting)
    return {
        "settings": asdict(setting),
        "seconds_per_tree_mean": statistics.fmean(seconds[1:] or seconds),
        "seconds_per_tree": seconds,
        "seconds_setup": report["seconds_setup"],
        "bytes_sent": report["bytes_sent"],
        "rounds": report["rounds"],
        "roles": report["roles"],
        "auc": area(labels, trained.predict(values)),
        "xgboost_seconds_per_tree": plain_seconds,
        "xgboost_auc": area(labels, plain),
    }


def train_plain(values: Any, labels: Any, setting: Federation) -> tuple[float, Any]:
    """Seconds per tree of XGBoost on the pooled table, binning left out, and its predictions."""
    matrix = xgboost.QuantileDMatrix(values, label=labels, max_bin=setting.bins)
    given = {"objective": "binary:logistic", "max_depth": setting.depth, "max_bin": setting.bins, "tree_method": "hist"}
    started = time.perf_counter()
    booster = xgboost.train(given, matrix, setting.trees)
    return (time.perf_counter() - started) / setting.trees, booster.predict(matrix)


def area(labels: Any, scores: Any) -> float:
    """Area under the curve."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = int(np.sum(labels))
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive)))


def as_table(found: dict[str, Any]) -> str:
    """A row of the table of docs/benchmarks.md."""
    setting, sent = found["settings"], found["bytes_sent"]
    trees = setting["trees"]
    clients = [count / trees / 1e6 for role, count in sent.items() if role.startswith("client")]
    return (
        "| rows x columns | clients | engine | seconds per tree | setup, seconds | MB per tree: a client | "
        "XGBoost pooled, seconds per tree | AUC | XGBoost's |\n" + "| --- " * 9 + "|\n"
        f"| {setting['rows']:,} x {setting['columns']} | {setting['clients']} | {setting['engine']} "
        f"| {found['seconds_per_tree_mean']:.2f} | {found['seconds_setup']:.1f} "
        f"| {f'{statistics.fmean(clients):.2f}' if clients else 'by NVFlare'} "
        f"| {found['xgboost_seconds_per_tree']:.2f} | {found['auc']:.4f} | {found['xgboost_auc']:.4f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Federation()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print the table of docs/benchmarks.md")
    chosen = vars(parser.parse_args())
    file, table = chosen.pop("json"), chosen.pop("table")
    found = measure(Federation(**chosen)) | {"on": environment()}
    print(json.dumps(found, indent=2))
    if file is not None:
        file.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if table:
        print(as_table(found))


if __name__ == "__main__":
    main()

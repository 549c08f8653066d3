"""Training on made-up data: seconds per tree, processor seconds, bytes and peak memory per role, as JSON.

Every role is a process of its own, over TLS on loopback; wall time per tree includes the dealer's work.

    python benchmarks/xorboost_train.py --rows 25000 --columns 300 --bins 128 --depth 4 --trees 5
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from environment import environment

from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml

FIRST_PORT = 17100


def make_table(rows: int, columns: int, kind: str, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Normal columns (or flags) and a label that depends on five of them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)).astype(np.float32)
    if kind == "discrete":
        values = values.round(1)
    if kind == "flag":
        values = (values > 0.5).astype(np.float32)
    score = values[:, : min(5, columns)] @ rng.normal(size=min(5, columns)) + rng.normal(size=rows)
    names = [f"x{i:03d}" for i in range(columns)]
    return pl.DataFrame({name: values[:, i] for i, name in enumerate(names)}), (score > np.median(score)).astype(int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--bins", type=int, default=10)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--trees", type=int, default=5)
    parser.add_argument("--owners", type=int, default=2)
    parser.add_argument("--kind", choices=["continuous", "discrete", "flag"], default="continuous")
    chosen = parser.parse_args()
    table, label = make_table(chosen.rows, chosen.columns, chosen.kind)
    names = [f"owner{i}" for i in range(chosen.owners)]
    columns = {name: table.columns[i :: chosen.owners] for i, name in enumerate(names)}
    job = job_from_dict(
        {
            "job": {"name": "benchmark", "method": "smpc", "analyst": "analyst"},
            "model": {
                "objective": "binary:logistic",
                "n_estimators": chosen.trees,
                "max_depth": chosen.depth,
                "max_bin": chosen.bins,
            },
            "data": {"label": "label"},
            "feature": [{"name": name, "kind": chosen.kind} for name in table.columns],
            "party": [
                {
                    "name": name,
                    "address": f"127.0.0.1:{FIRST_PORT + 1 + i}",
                    "columns": columns[name] + ["label"] * (i == 0),
                }
                for i, name in enumerate(names)
            ],
            "dealer": {"address": f"127.0.0.1:{FIRST_PORT}"},
        }
    )
    data = {}
    for i, name in enumerate(names):
        frame = table.select(columns[name])
        buffer = BytesIO()
        (frame.with_columns(pl.Series("label", label)) if i == 0 else frame).write_parquet(buffer)
        data[name] = buffer.getvalue()
    with tempfile.TemporaryDirectory() as scratch:
        job_file = Path(scratch) / "job.toml"
        job_file.write_text(job_to_toml(job), encoding="utf-8")
        run = run_local(job, job_file, data, Path(scratch) / "out")
    seconds = run.report["seconds_per_tree"]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "settings": vars(chosen),
                "seconds_per_tree_median": statistics.median(seconds[1:] or seconds),
                "seconds_per_tree": seconds,
                "seconds_setup": run.report["seconds_setup"],
                "cpu_seconds_all_roles": usage.ru_utime + usage.ru_stime,
                "roles": run.report["roles"],
                "bytes_sent": run.report["bytes_sent"],
                "rounds": run.report["rounds"],
                "environment": environment(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

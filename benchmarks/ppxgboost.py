"""Encrypted prediction: seconds and bytes of every step, and whether predictions are XGBoost's.

    python benchmarks/ppxgboost.py [--schemes ore ope] [--trees 100] [--depth 6] [--batch 10000] [--json FILE] [--table]

A made-up table of 15 normal columns, logistic loss. Everything but the batch runs on one core; times are medians of
many calls, and processor seconds beside wall seconds, since other programs may run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost
from environment import environment

from veilboost.ppxgboost import EncryptedModel, Proxy, UserKeys

COLUMNS = 15
TRAINING_ROWS = 20_000


def train(trees: int, depth: int) -> tuple[xgboost.Booster, npt.NDArray[np.float32]]:
    """A model, and rows that it has not seen."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2 * TRAINING_ROWS, COLUMNS)).astype(np.float32)
    signal = values[:, 0] * values[:, 1] + np.sin(3 * values[:, 2]) + 0.3 * values[:, 3:].sum(axis=1)
    labels = signal + rng.normal(size=len(values)) > 0
    known = xgboost.DMatrix(values[:TRAINING_ROWS], label=labels[:TRAINING_ROWS], feature_names=names())
    parameters = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.1, "min_child_weight": 14}
    return xgboost.train(parameters, known, trees), values[TRAINING_ROWS:]


def names() -> list[str]:
    return [f"column {number}" for number in range(COLUMNS)]


def rows_of(values: npt.NDArray[np.float32]) -> list[dict[str, float]]:
    return [dict(zip(names(), map(float, row), strict=True)) for row in values]


def median_ms(call: Callable[[], object], count: int) -> dict[str, float]:
    """Medians over `count` calls, after one more."""
    call()
    wall, processor = [], []
    for _ in range(count):
        started, started_processor = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - started_processor)
    return {"ms": 1000 * statistics.median(wall), "processor_ms": 1000 * statistics.median(processor)}


def personalise(
    booster: xgboost.Booster, scheme: str, repeats: int
) -> tuple[EncryptedModel, UserKeys, dict[str, float]]:
    wall, processor = [], []
    for _ in range(repeats):
        started, started_processor = time.perf_counter(), time.process_time()
        model, keys = Proxy(scheme=scheme).personalise(booster)  # type: ignore[arg-type]
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - started_processor)
    return model, keys, {"seconds": statistics.median(wall), "processor_seconds": statistics.median(processor)}


def measure(booster: xgboost.Booster, values: npt.NDArray[np.float32], scheme: str, settings: Any) -> dict[str, Any]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    model, keys, personal = personalise(booster, scheme, settings.repeats)
    row = rows_of(values[:1])[0]
    query = keys.encrypt_query(row)
    result = model.evaluate(query, processes=1)
    found: dict[str, Any] = {
        "scheme": scheme,
        "splits": int(np.count_nonzero(~model.trees.leaf)),
        "leaves": len(model.leaves),
        "personalise": personal,
        "encrypt": median_ms(lambda: keys.encrypt_query(row), settings.calls),
        "evaluate": median_ms(lambda: model.evaluate(query, processes=1), settings.calls),
        "decrypt": median_ms(lambda: keys.decrypt(result), settings.calls),
        "bytes": {"model": len(model.to_bytes()), "query": len(query), "result": len(result)},
    }
    os.sched_setaffinity(0, cores)
    some = values[: settings.batch]
    rows = rows_of(some)
    started = time.perf_counter()
    query = keys.encrypt_query(rows)
    encrypted = time.perf_counter()
    result = model.evaluate(query)
    evaluated = time.perf_counter()
    margins = keys.decrypt(result, output_margin=True)
    decrypted = time.perf_counter()
    found["batch"] = {
        "rows": len(rows),
        "cores": len(cores),
        "encrypt_seconds": encrypted - started,
        "evaluate_seconds": evaluated - encrypted,
        "decrypt_seconds": decrypted - evaluated,
        "query_bytes": len(query),
        "result_bytes": len(result),
    }
    expected = booster.predict(xgboost.DMatrix(some, feature_names=names()), output_margin=True)
    found["largest_difference_of_margins"] = float(np.abs(margins - expected).max())
    return found


def as_table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| scheme | splits | personalise, s | encrypt a query, ms | evaluate, ms | decrypt, ms | model, MB "
        "| query, bytes | result, bytes | largest difference of margins |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        sizes = one["bytes"]
        lines.append(
            f"| `{one['scheme']}` | {one['splits']:,} | {one['personalise']['processor_seconds']:.1f} "
            f"| {one['encrypt']['processor_ms']:.2f} | {one['evaluate']['processor_ms']:.2f} "
            f"| {one['decrypt']['processor_ms']:.1f} | {sizes['model'] / 1e6:.1f} | {sizes['query']:,} "
            f"| {sizes['result']:,} | {one['largest_difference_of_margins']:.1e} |"
        )
    lines += [
        "",
        "| scheme | rows in one call | encrypt, s | evaluate, s | decrypt, s | query, MB | result, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        batch = one["batch"]
        lines.append(
            f"| `{one['scheme']}` | {batch['rows']:,} | {batch['encrypt_seconds']:.1f} "
            f"| {batch['evaluate_seconds']:.1f} | {batch['decrypt_seconds']:.1f} "
            f"| {batch['query_bytes'] / 1e6:.1f} | {batch['result_bytes'] / 1e6:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemes", nargs="*", default=["ore", "ope"])
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="models to encrypt, of which the median is given")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print the tables of docs/benchmarks.md")
    chosen = parser.parse_args()
    booster, values = train(chosen.trees, chosen.depth)
    results = [measure(booster, values, scheme, chosen) for scheme in chosen.schemes]
    content = {"settings": {**vars(chosen), "json": None}, "results": results, "on": environment()}
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(content, indent=2))
    print(as_table(results) if chosen.table else json.dumps(content, indent=2))


if __name__ == "__main__":
    main()

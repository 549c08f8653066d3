"""What a prediction server sees of real queries under order-revealing encryption.

    python benchmarks/ore_leakage.py [--queries 1 10 100 920] [--json FILE]

A model of the heart disease table; its patients are the queries of one user, far more than one person has. What is
counted follows from plaintexts: for every query value and threshold of a column, which is smaller and the first byte in
which their codes differ (docs/protocols/ore.md). At rest nothing is seen: `tests/ppxgboost/test_ore.py`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xgboost
from environment import environment

from veilboost.ppxgboost.order_codes import to_codes
from veilboost.ppxgboost.personal_model import Columns
from veilboost.trees.scoring_file import read_scoring_model

Words32 = npt.NDArray[np.uint32]
NUMERIC = ["age", "trestbps", "chol", "thalch", "oldpeak", "ca"]


def columns() -> list[tuple[Words32, Words32, npt.NDArray[np.bool_]]]:
    """Codes of the thresholds of each column of the model, codes of all patients, and who has no value there."""
    table = pd.read_csv(str(files("veilboost") / "data" / "heart_disease.csv"))
    values = table[NUMERIC].astype(np.float32)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 6}, xgboost.DMatrix(values, label=table["disease"]), 100
    )
    model = read_scoring_model(booster)
    found = []
    for column in Columns.of(model, bytes(32)).numeric:
        asked = [tree.threshold[~tree.leaf & (tree.feature == column.feature)] for tree in model.trees]
        left = [tree.default_left[~tree.leaf & (tree.feature == column.feature)] for tree in model.trees]
        cuts = np.unique(np.concatenate(asked)[np.concatenate(left) == column.missing_left])
        cells = values.to_numpy()[:, column.feature]
        found.append((to_codes(cuts), column.codes(cells), np.isnan(cells)))
    return found


def first_difference(x: Words32, y: Words32) -> npt.NDArray[np.int64]:
    """The first byte in which numbers differ, 4 for equal ones."""
    different = (x[:, None] ^ y[None]).astype(np.uint64)
    return np.select([different >= 1 << 24, different >= 1 << 16, different >= 1 << 8, different > 0], [0, 1, 2, 3], 4)


def entropy(seen: Sequence[object]) -> float:
    parts = np.array(list(Counter(seen).values())) / len(seen)
    return float(-(parts * np.log2(parts)).sum())


def measure(queries: int) -> dict[str, Any]:
    """Means over the columns, weighted by nothing, and the parts of pairs over all columns together."""
    known = pairs = repeated = cells = 0
    shared_bytes, bits, lone_missing, lone_present, beyond_missing, beyond_present = [], [], [], [], [], []
    for cuts, asked, missing in columns():
        x, absent = asked[:queries], missing[:queries]
        position = np.searchsorted(cuts, x, side="right")  # thresholds at or below the value
        separated = np.unique(np.concatenate([[0], position, [len(cuts)]]))
        groups = np.diff(separated)  # thresholds between which no query lies
        pairs += len(cuts) * (len(cuts) - 1) // 2
        known += len(cuts) * (len(cuts) - 1) // 2 - int((groups * (groups - 1) // 2).sum())
        byte = first_difference(x, cuts)
        shared_bytes += byte.max(axis=1).tolist()
        bits.append(entropy([(int(p), bytes(row.astype(np.uint8))) for p, row in zip(position, byte, strict=True)]))
        repeated += len(x) - len(np.unique(x))
        cells += len(x)
        alone = byte.max(axis=1) == 0
        lone_missing += alone[absent].tolist()
        lone_present += alone[~absent].tolist()
        beyond = (position == 0) | (position == len(cuts))
        beyond_missing += beyond[absent].tolist()
        beyond_present += beyond[~absent].tolist()
    return {
        "queries": queries,
        "pairs_of_thresholds_in_known_order": known / pairs,
        "leading_bytes_shared_with_a_threshold_mean": float(np.mean(shared_bytes)),
        "bits_seen_of_a_value_mean": float(np.mean(bits)),
        "values_that_repeat_an_earlier_one": repeated / cells,
        "first_byte_differs_from_all_thresholds_missing": float(np.mean(lone_missing)) if lone_missing else None,
        "first_byte_differs_from_all_thresholds_present": float(np.mean(lone_present)),
        "beyond_all_thresholds_missing": float(np.mean(beyond_missing)) if beyond_missing else None,
        "beyond_all_thresholds_present": float(np.mean(beyond_present)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="*", default=[1, 10, 100, 920])
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    results = [measure(count) for count in chosen.queries]
    thresholds = [len(cuts) for cuts, _, _ in columns()]
    content = {"columns": len(thresholds), "thresholds": sum(thresholds), "results": results, "on": environment()}
    text = json.dumps(content, indent=2)
    print(text)
    if chosen.json is not None:
        chosen.json.write_text(text)


if __name__ == "__main__":
    main()

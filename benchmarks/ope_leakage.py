"""How much of a value linear interpolation finds from its order-preserving ciphertext alone.

The guess is ciphertext / 2^32, by anyone without a key. Random values, and the numbers of the demonstration table as
float32, each column under many keys of its own.

python benchmarks/ope_leakage.py --keys 50
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from environment import environment

from veilboost.ppxgboost.coins import Coins
from veilboost.ppxgboost.ope import OrderPreserving
from veilboost.ppxgboost.order_codes import to_codes

#: How many values there are from one whole number to the next; everybody knows it.
COLUMNS = {"age": 1, "trestbps": 1, "chol": 1, "thalch": 1, "oldpeak": 10, "ca": 1}
HALF = np.uint32(1 << 31)
SHOWN = ("values", "leading_bits_mean", "leading_bits_median", "bits_by_distance_median", "relative_error_median")
SHOWN += ("relative_error_95", "found_by_rounding")

Codes = npt.NDArray[np.uint32]


def to_floats(codes: Codes) -> npt.NDArray[np.float32]:
    """Back from their codes."""
    return np.where(codes & HALF, codes ^ HALF, ~codes).view(np.float32)


def column(name: str) -> npt.NDArray[np.float32]:
    """The cells of one column that are not empty."""
    with (files("veilboost") / "data" / "heart_disease.csv").open(encoding="utf-8") as table:
        return np.array([row[name] for row in csv.DictReader(table) if row[name]], dtype=np.float32)


def attack(codes: Codes, keys: int, name: str) -> tuple[Codes, Codes]:
    """Values and guesses of every one of them under every key."""
    guesses = []
    for number in range(keys):
        key = hashlib.sha256(f"ope leakage {name} {number}".encode()).digest()
        images = OrderPreserving(key).encrypt(codes)
        guesses.append((images >> np.uint64(32)).astype(np.uint32))
    return np.tile(codes, keys), np.concatenate(guesses)


def leading_bits(values: Codes, guesses: Codes) -> npt.NDArray[np.int64]:
    """How many leading bits of value and guess agree."""
    return 32 - np.frexp((values ^ guesses).astype(np.float64))[1].astype(np.int64)


def summary(name: str, codes: Codes, keys: int, grid: int | None = None) -> dict[str, Any]:
    """One line of the table."""
    values, guesses = attack(codes, keys, name)
    distances = np.abs(values.astype(np.int64) - guesses.astype(np.int64))
    bits = leading_bits(values, guesses)
    line = {
        "values": name,
        "count": int(codes.size),
        "keys": keys,
        "leading_bits_mean": round(float(bits.mean()), 2),
        "leading_bits_median": float(np.median(bits)),
        "bits_by_distance_median": round(32 - float(np.log2(np.median(distances))), 2),
    }
    if grid is not None:
        exact, guess = to_floats(values).astype(np.float64), to_floats(guesses).astype(np.float64)
        errors = np.abs(guess - exact)[exact != 0] / np.abs(exact[exact != 0])
        line["relative_error_median"] = float(f"{np.median(errors):.2g}")
        line["relative_error_95"] = float(f"{np.quantile(errors, 0.95):.2g}")
        line["found_by_rounding"] = round(float((np.rint(guess * grid) == np.rint(exact * grid)).mean()), 3)
    return line


def main() -> None:
    """Print all lines as JSON and as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=50, help="keys per line")
    parser.add_argument("--random", type=int, default=500, help="random values")
    given = parser.parse_args()
    coins = Coins(bytes(32), b"ope leakage")
    drawn = np.array([coins.bits(32) for _ in range(given.random)], dtype=np.uint32)
    lines = [summary("random 32-bit numbers", drawn, given.keys)]
    lines += [summary(name, to_codes(column(name)), given.keys, grid) for name, grid in COLUMNS.items()]
    print(json.dumps({"environment": environment(), "lines": lines}, indent=1))
    titles = [
        "values",
        "leading bits, mean",
        "median",
        "by distance",
        "relative error, median",
        "95 %",
        "found exactly",
    ]
    rows = [titles, ["---"] * len(titles), *([str(line.get(name, "")) for name in SHOWN] for line in lines)]
    print("\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows))


if __name__ == "__main__":
    main()

"""How time, bytes, rounds and memory grow with rows, columns, bins, depth and owners, one at a time.

    python benchmarks/growth.py --json growth.json --figure docs/figures/growth.png      about ten minutes on two cores
    python benchmarks/growth.py --quick --json growth.json                               one minute, smaller
    python benchmarks/growth.py --read growth.json --table --figure growth.png           no training: table and figure

Every role is a process of its own, over TLS on loopback, on free ports. Without `--json` the results go to standard
output. `--table` prints tables for docs/benchmarks.md instead.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from made_up import DEALER, Setting, measure

BASE = Setting(rows=20_000, columns=40, bins=32, depth=4, trees=6)
VALUES = {
    "rows": (5_000, 10_000, 20_000, 40_000, 80_000, 160_000),
    "columns": (10, 20, 40, 80, 160),
    "bins": (8, 16, 32, 64, 128),
    "depth": (2, 3, 4, 5, 6),
    "owners": (2, 3, 4, 5, 6, 7, 8),
}
QUICK_BASE = Setting(rows=2_000, columns=12, bins=16, depth=3, trees=3)
QUICK_VALUES = {
    "rows": (1_000, 2_000, 4_000),
    "columns": (6, 12, 24),
    "bins": (8, 16, 32),
    "depth": (2, 3, 4),
    "owners": (2, 3, 4),
}


@dataclass(frozen=True)
class Law:
    """What something should be a linear function of."""

    name: str
    of: Callable[[float], float]


@dataclass(frozen=True)
class Quantity:
    """Something that is measured.

    Attributes
    ----------
    title
        With its unit.
    read
        Its value in a point of the results.
    tolerance
        By which part a measurement may miss the fitted line and still count as lying on it.
    laws
        By what is varied.
    """

    title: str
    read: Callable[[dict[str, Any]], float]
    tolerance: float
    laws: dict[str, Law]


SAME = {name: Law(name, lambda value: value) for name in VALUES}
LEVELS = {"depth": Law("2^depth", lambda value: 2.0**value)}
OTHERS = {"owners": Law("owners - 1", lambda value: value - 1)}
#: Tournaments over the candidates of a level take rounds with the logarithm of their number.
ROUNDS = {
    "columns": Law("log2(columns)", math.log2),
    "bins": Law("log2(bins)", math.log2),
}

OWNER = "owner0"
QUANTITIES = {
    "seconds": Quantity("seconds per tree", lambda p: p["seconds_per_tree_mean"], 0.25, SAME | LEVELS),
    "owner bytes": Quantity(
        "MB per tree: an owner", lambda p: p["bytes_per_tree"][OWNER] / 1e6, 0.03, SAME | LEVELS | OTHERS
    ),
    "dealer bytes": Quantity(
        "MB per tree: the dealer", lambda p: p["bytes_per_tree"][DEALER] / 1e6, 0.03, SAME | LEVELS | OTHERS
    ),
    "rounds": Quantity("rounds per tree", lambda p: p["rounds"] / p["settings"]["trees"], 0.03, SAME | ROUNDS),
    "owner memory": Quantity(
        "peak memory of an owner, MiB", lambda p: p["roles"][OWNER]["peak_memory_bytes"] / 2**20, 0.15, SAME | LEVELS
    ),
    "dealer memory": Quantity(
        "peak memory of the dealer, MiB", lambda p: p["roles"][DEALER]["peak_memory_bytes"] / 2**20, 0.15, SAME | LEVELS
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller settings")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, after every training")
    parser.add_argument("--read", type=Path, metavar="FILE", help="take results from a file instead of training")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them (.svg or .png)")
    parser.add_argument("--table", action="store_true", help="print them as tables of docs/benchmarks.md")
    chosen = parser.parse_args()
    if chosen.read:
        results = json.loads(chosen.read.read_text(encoding="utf-8"))
    else:
        results = run(QUICK_BASE, QUICK_VALUES, chosen.json) if chosen.quick else run(BASE, VALUES, chosen.json)
    results["fits"] = fits(results)
    if chosen.json:
        _write(chosen.json, results)
    if chosen.figure:
        from growth_figure import draw

        draw(results, chosen.figure)
    if chosen.table:
        if chosen.figure:
            print(f"![Growth of time, bytes, memory and rounds](figures/{chosen.figure.name})\n")
        print("\n".join(tables(results)))
    elif not chosen.json and not chosen.figure:
        print(json.dumps(results, indent=2))


def run(base: Setting, values: dict[str, Sequence[int]], path: Path | None) -> dict[str, Any]:
    """Train the base once, and every other setting that differs from it in one value."""
    settings = {base: None} | {replace(base, **{name: v}): None for name, many in values.items() for v in many}
    results: dict[str, Any] = {
        "base": asdict(base),
        "values": values,
        "points": [],
        "environment": environment(),
    }
    for number, setting in enumerate(settings, start=1):
        point = measure(setting)
        results["points"].append(point)
        seconds = point["seconds_per_tree_mean"]
        print(f"{number}/{len(settings)}: {asdict(setting)}: {seconds:.2f} s per tree", file=sys.stderr, flush=True)
        if path is not None:
            _write(path, results)
    return results


def series(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The points in which nothing but `name` differs from the base, by its value."""
    rest = {key: value for key, value in results["base"].items() if key != name}
    points = [p for p in results["points"] if rest.items() <= p["settings"].items()]
    return sorted(points, key=lambda p: p["settings"][name])


def fits(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A line through every series in the variable that it should be linear in, and whether it is."""
    found = []
    for name in results["values"]:
        points = series(results, name)
        for key, quantity in QUANTITIES.items():
            law = quantity.laws[name]
            x = np.array([law.of(p["settings"][name]) for p in points])
            y = np.array([quantity.read(p) for p in points])
            found.append({"varied": name, "quantity": key, "in": law.name, **fit(x, y, quantity.tolerance)})
    return found


def fit(x: np.ndarray, y: np.ndarray, tolerance: float) -> dict[str, Any]:
    """The line with the least squares of relative deviations, and a verdict.

    What no line fits within the tolerance is called faster or slower than linear if a parabola fits it.
    """
    slope, intercept = np.polyfit(x, y, 1, w=1 / y)
    parabola = np.polyfit(x, y, 2, w=1 / y)
    worst = float(np.max(np.abs(intercept + slope * x - y) / y))
    bent = "faster than linear" if parabola[0] > 0 else "slower than linear"
    curved = len(x) > 3 and np.max(np.abs(np.polyval(parabola, x) - y) / y) <= tolerance
    verdict = "linear" if worst <= tolerance else bent if curved else "no line"
    if worst <= tolerance and abs(slope) * (x[-1] - x[0]) <= tolerance * y.mean():
        verdict = "constant"
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "worst_deviation": worst,
        "verdict": verdict,
    }


def tables(results: dict[str, Any]) -> list[str]:
    """Markdown: one table of measurements, one of the lines through them and what they say."""
    base = results["base"]
    lines = [
        f"Base: {base['rows']:,} x {base['columns']}, {base['bins']} bins, depth {base['depth']}, "
        f"{base['owners']} owners, {base['trees']} trees.",
        "",
        "| varied | | " + " | ".join(q.title for q in QUANTITIES.values()) + " |",
        "| --- " * (len(QUANTITIES) + 2) + "|",
    ]
    for name in results["values"]:
        for point in series(results, name):
            cells = [_shown(quantity.read(point)) for quantity in QUANTITIES.values()]
            lines.append(f"| {name} | {point['settings'][name]:,} | " + " | ".join(cells) + " |")
    names = list(results["values"])
    found = {(one["varied"], one["quantity"]): one for one in results["fits"]}
    lines += ["", "| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for key, quantity in QUANTITIES.items():
        lines.append(f"| {quantity.title} | " + " | ".join(_line(found[name, key]) for name in names) + " |")
    return lines


def _line(one: dict[str, Any]) -> str:
    """A verdict with its line, and by how much the worst measurement misses it."""
    if one["verdict"] == "constant":
        return "constant"
    sign = "+" if one["slope"] >= 0 else "-"
    law = f"({one['in']})" if " " in one["in"] else one["in"]
    line = f"{_shown(one['intercept'])} {sign} {abs(one['slope']):.3g} {law}"
    return f"{one['verdict']}: {line}; within {one['worst_deviation']:.0%}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

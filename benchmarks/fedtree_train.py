"""FedTree 1.0.5 on the table of federated_train.py, for comparison; it needs an environment of its own.

    pip install fedtree    (and the library libntl44 of Debian)
    python benchmarks/fedtree_train.py [--rows 1000000] [--columns 50] [--parties 3] [--depth 6] [--bins 64] [--trees 4]

All parties are threads of one C++ process; "sa" masks their histograms and shows the server the sums. Seconds per tree
are the difference between a training of so many trees and one of a single tree, so that loading does not count.
"""

from __future__ import annotations

import argparse
import time

import numpy as np


def seconds(rows: int, columns: int, parties: int, depth: int, bins: int, trees: int) -> float:
    """How long a training takes."""
    from fedtree import FLClassifier

    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, columns)).astype(np.float32)
    score = values[:, :5] @ rng.normal(size=5) + rng.normal(size=rows)
    model = FLClassifier(
        n_trees=trees,
        max_depth=depth,
        n_parties=parties,
        mode="horizontal",
        privacy_tech="sa",
        max_num_bin=bins,
        objective="binary:logistic",
        learning_rate=0.3,
    )
    started = time.perf_counter()
    model.fit(values, (score > np.median(score)).astype(int))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("rows", 1_000_000),
        ("columns", 50),
        ("parties", 3),
        ("depth", 6),
        ("bins", 64),
        ("trees", 4),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = vars(parser.parse_args())
    trees = chosen.pop("trees")
    one, many = seconds(**chosen, trees=1), seconds(**chosen, trees=trees)
    print(f"FedTree: {(many - one) / (trees - 1):.2f} seconds per tree, {one:.1f} s for a training of one tree")


if __name__ == "__main__":
    main()

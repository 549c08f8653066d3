"""Training on made-up data: seconds per tree, processor seconds, bytes and peak memory per role, as JSON.

Every role is a process of its own, over TLS on loopback; wall time per tree includes the dealer's work.

    python benchmarks/xorboost_train.py --rows 25000 --columns 300 --bins 128 --depth 4 --trees 5
"""

from __future__ import annotations

import argparse
import json

from environment import environment
from made_up import KINDS, SPLITS, Setting, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Setting()
    for name in ("rows", "columns", "bins", "depth", "trees", "owners"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--kind", choices=KINDS, default=default.kind)
    parser.add_argument("--split", choices=SPLITS, default=default.split)
    chosen = parser.parse_args()
    print(json.dumps(measure(Setting(**vars(chosen))) | {"environment": environment()}, indent=2))


if __name__ == "__main__":
    main()

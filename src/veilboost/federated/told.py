"""What a client has been told when it answers: its boxes are bound to that, and aggregators sign it at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from veilboost.federated.forest import Forest


class Told:
    """SHA-256 of what clients answer by: numbers of rows, then cuts and first margin, then one tree after the other.

    Clients bind their boxes to it (`keys.ClientKeys.seal`). Whoever relays questions could otherwise tell a client
    another model, or other numbers of rows, and so choose what it sums.
    """

    def __init__(self) -> None:
        self._after: list[bytes] = []  # so many trees

    def before(self, kind: str, tree: int, rows: Mapping[str, int], forest: Forest) -> bytes:
        """Of all that is told before a question of this kind on a tree; trees that are complete never change."""
        sizes = _chained(b"", sorted(rows.items()))
        if kind in ("edges", "labels"):
            return sizes
        if not self._after:
            self._after.append(_chained(sizes, Forest(forest.edges, forest.ratios).to_json()))
        while len(self._after) <= tree:
            self._after.append(_chained(self._after[-1], forest.trees[len(self._after) - 1].to_json()))
        return self._after[tree]

    def at_the_end(self, trees: int, rows: Mapping[str, int], forest: Forest, metrics: Any, ledger: Any) -> bytes:
        """Of the whole model, and of what the question "done" tells besides: aggregators sign it."""
        return _chained(self.before("done", trees, rows, forest), [metrics, ledger])


def _chained(before: bytes, news: Any) -> bytes:
    return hashlib.sha256(before + json.dumps(news, sort_keys=True).encode()).digest()

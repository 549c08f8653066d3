"""The model as it grows: public to the federation, the same at clients and aggregators."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import ProtocolError
from veilboost.federated.task import RATIO_BITS, FederatedTask
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.splitting.metrics import best_round
from veilboost.tables.schema import Kind
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.monotone import in_order
from veilboost.trees.objective import LEAST_PRIOR, BaseScore, sigmoid, to_margins

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

#: Noise must not say that a class has nobody: trees would take long to make up for it.
_LEAST_NOISY_PRIOR = 0.01

_FLAG_CUT = np.array([0.5], dtype=np.float32)


@dataclass(frozen=True)
class Split:
    """How a node splits.

    Attributes
    ----------
    feature
        Position.
    place
        Number of the cut: cells in bins up to this one go left. Of a column with missing cells, one beyond the cuts:
        all present cells go left. No meaning for a categorical column.
    default_left
        Where missing cells go.
    categories
        Codes that go right, of a categorical column.
    """

    feature: int
    place: int
    default_left: bool
    categories: tuple[int, ...] = ()

    def to_json(self) -> list[Any]:
        return [self.feature, self.place, int(self.default_left), list(self.categories)]


Level = tuple[Split | None, ...]


@dataclass
class GrownTree:
    """A tree: its levels of splits so far and, at the end, its leaves.

    Attributes
    ----------
    levels
        Of each level the splits of its nodes from left to right; None where a node does not split: all goes right.
    weights
        Leaf weights in the unit of the job with 24 fraction bits, learning rate included; None while it grows.
    gains, covers
        In the unit of the loss, where they are disclosed.
    """

    levels: list[Level] = field(default_factory=list)
    weights: tuple[int, ...] | None = None
    gains: tuple[float, ...] = ()
    covers: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "levels": [[None if split is None else split.to_json() for split in level] for level in self.levels],
            "weights": self.weights,
            "gains": self.gains,
            "covers": self.covers,
        }


@dataclass
class Forest:
    """What the federation has learned.

    Attributes
    ----------
    edges
        Different cuts of each numeric column, ascending; by position among the numeric ones. None before they are
        known.
    ratios
        Sums of labels over the sum of weights, 28 fraction bits: what the base score follows from. Empty before it is
        known, and where the base score is given.
    trees
        All but the last one complete.
    metrics
        The validation metric of every round, at the end of a training with early stopping.
    """

    edges: list[Float32] | None = None
    ratios: tuple[int, ...] = ()
    trees: list[GrownTree] = field(default_factory=list)
    metrics: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "edges": None if self.edges is None else [[float(edge) for edge in edges] for edges in self.edges],
            "ratios": self.ratios,
            "trees": [tree.to_json() for tree in self.trees],
            "metrics": self.metrics,
        }

    def to_bytes(self) -> bytes:
        return json.dumps(self.to_json(), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, task: FederatedTask) -> Forest:
        """Raises ProtocolError where it is none for this task."""
        try:
            return forest_from_json(json.loads(data), task)
        except (ValueError, RecursionError):
            raise ProtocolError("the model so far cannot be read: is the sender on another version?") from None

    def cuts_of(self, task: FederatedTask, feature: int) -> Float32:
        """The cuts of a numeric column or a flag."""
        if task.features[feature].kind is Kind.FLAG:
            return _FLAG_CUT
        assert self.edges is not None
        return self.edges[task.numeric.index(feature)]

    def base_margins(self, task: FederatedTask) -> Float64:
        """Margins before the first tree, shape (outputs,)."""
        return to_margins(task.parameters.objective, self.base_score(task)).astype(np.float64)

    def base_score(self, task: FederatedTask) -> BaseScore:
        """The prediction before the first tree, as a model file has it."""
        parameters, unit = task.parameters, task.unit
        if parameters.base_score is not None:
            return (
                parameters.base_score
                if parameters.num_class is None
                else (parameters.base_score,) * task.parameters.outputs
            )
        # With noise a part can be anything. What is cut off here follows from what was published.
        parts = np.clip(np.array(self.ratios, dtype=np.float64) / 2.0**RATIO_BITS, -1.0, 1.0)
        least = LEAST_PRIOR if task.privacy is None else _LEAST_NOISY_PRIOR
        if parameters.objective == "multi:softprob":
            logs = np.log(np.maximum(parts, least))
            return tuple(float(np.float32(margin)) for margin in logs - logs.mean())
        part = float(parts[0])
        if parameters.objective == "reg:squarederror":
            return float(np.float32(unit.middle + unit.half_width * part))
        if parameters.objective == "count:poisson":
            assert task.label_range is not None
            return float(np.float32(max(part, least) * task.label_range[1]))
        if parameters.scale_pos_weight != 1:
            return float(np.float32(sigmoid(np.array(4.0 * (max(part, 0.0) - 0.5)))))
        return float(np.float32(min(1 - least, max(least, part))))

    def to_ensemble(self, task: FederatedTask) -> Ensemble:
        """The complete trees as a model; nodes that do not split are pruned."""
        trees = [self._tree(task, tree) for tree in self.trees if tree.weights is not None]
        if task.parameters.constrained:
            signs = task.parameters.signs(task.features)
            trees = [in_order(tree, signs) for tree in trees]
        ensemble = Ensemble(task.features, task.parameters.objective, self.base_score(task), tuple(trees))
        name, patience = task.parameters.eval_metric, task.parameters.early_stopping_rounds
        if name is None or patience is None or not self.metrics:
            return ensemble
        best = best_round(self.metrics, patience)
        return replace(ensemble.cut(best, self.metrics[best]), metrics={"validation": {name: self.metrics}})

    def _tree(self, task: FederatedTask, tree: GrownTree) -> Tree:
        splits = [split for level in tree.levels for split in level]
        plain = [split or Split(0, 0, False) for split in splits]
        thresholds = [0.0 if split is None else self.threshold(task, split) for split in splits]
        return Tree.from_complete(
            len(tree.levels),
            [split is not None for split in splits],
            [split.feature for split in plain],
            np.array(thresholds, dtype=np.float32),
            CategorySets.of([split.categories for split in plain]),
            [split.default_left for split in plain],
            leaf_values(task, tree),
            tree.gains or None,
            tree.covers or None,
        )

    def threshold(self, task: FederatedTask, split: Split) -> float:
        """The threshold of a numeric split, for a model file."""
        if task.features[split.feature].categorical:
            return 0.0
        cuts = self.cuts_of(task, split.feature)
        return float(cuts[split.place]) if split.place < len(cuts) else float(np.finfo(np.float32).max)


def leaf_values(task: FederatedTask, tree: GrownTree) -> Float32:
    """Leaf weights as a model file has them, float32, shape (leaves,)."""
    assert tree.weights is not None
    return (np.array(tree.weights, dtype=np.float64) / 2.0**FRACTION_BITS * task.unit.half_width).astype(np.float32)


def forest_from_json(fields: Any, task: FederatedTask) -> Forest:
    """The inverse of `Forest.to_json`, checked; ProtocolError where it does not fit the task."""
    try:
        edges = fields["edges"]
        read = None if edges is None else [_edges_from_json(column, task) for column in edges]
        _require(read is None or len(read) == len(task.numeric))
        ratios = tuple(fields["ratios"])
        _require(len(ratios) in (0, task.label_columns))
        _require(all(type(ratio) is int and abs(ratio) < 1 << 62 for ratio in ratios))
        trees = [tree_from_json(tree, task) for tree in fields["trees"]]
        metrics = metrics_from_json(fields.get("metrics"), task)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unreadable() from None
    return Forest(read, ratios, trees, metrics)


def metrics_from_json(entries: Any, task: FederatedTask) -> tuple[float, ...]:
    """Metrics of rounds, none or one for each; ProtocolError where they do not fit the task."""
    try:
        metrics = tuple(float(entry) for entry in entries or ())
    except (TypeError, ValueError, OverflowError):
        raise _unreadable() from None
    if len(metrics) not in (0, task.parameters.n_estimators):
        raise _unreadable()
    return metrics


def _edges_from_json(column: Sequence[Any], task: FederatedTask) -> Float32:
    _require(len(column) <= task.cuts and all(type(edge) in (int, float) for edge in column))
    exact = np.array(column, dtype=np.float64)
    _require(bool(np.all(np.abs(exact) <= np.finfo(np.float32).max)))  # not of NaN
    edges = exact.astype(np.float32)
    _require(bool(np.all(np.diff(edges) > 0)))
    return edges


def tree_from_json(fields: Any, task: FederatedTask) -> GrownTree:
    """A tree of `Forest.to_json`; ProtocolError where it does not fit the task."""
    try:
        levels = levels_from_json(fields["levels"], task)
        weights = fields["weights"]
        if weights is not None:
            _require(len(levels) == task.parameters.max_depth and len(weights) == 2 ** len(levels))
            _require(all(type(weight) is int and abs(weight) < 1 << 62 for weight in weights))
        gains, covers = (tuple(float(value) for value in fields[name]) for name in ("gains", "covers"))
        inner = 2**task.parameters.max_depth - 1
        _require(len(gains) in (0, inner) and len(covers) in (0, 2 * inner + 1))
        _require(all(math.isfinite(value) for value in gains + covers))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unreadable() from None
    return GrownTree(levels, None if weights is None else tuple(weights), gains, covers)


def levels_from_json(entries: Any, task: FederatedTask) -> list[Level]:
    """Levels of splits; ProtocolError where they do not fit the task."""
    try:
        _require(len(entries) <= task.parameters.max_depth)
        levels: list[Level] = []
        for number, level in enumerate(entries):
            _require(len(level) == 2**number)
            levels.append(tuple(None if entry is None else _split_from_json(entry, task) for entry in level))
    except (KeyError, TypeError, ValueError):
        raise _unreadable() from None
    return levels


def _split_from_json(entry: Sequence[Any], task: FederatedTask) -> Split:
    feature, place, default_left, categories = entry
    _require(type(feature) is int and 0 <= feature < len(task.features))
    column = task.features[feature]
    _require(type(place) is int and 0 <= place < task.space.plans[feature].n_candidates)
    _require(default_left in (0, 1))
    _require(all(type(code) is int and 0 <= code < len(column.levels) for code in categories))
    _require(bool(categories) == column.categorical)
    return Split(feature, place, bool(default_left), tuple(categories))


def _require(sound: bool) -> None:
    if not sound:
        raise ValueError


def _unreadable() -> ProtocolError:
    return ProtocolError("the model so far does not fit this job: are all participants on the same version?")

"""Decision trees and ensembles of them, with XGBoost's exact semantics.

A row goes left where `x < threshold` in float32, a missing value (NaN) goes by the node's default direction, and at a
categorical node the listed categories go right and every other, codes unknown in training included, left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.tables.schema import Feature
from veilboost.trees import kernels
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.forest import add_margins, checked_values, forest_of, leaf_index, weights_of
from veilboost.trees.objective import BaseScore, to_margins, to_prediction
from veilboost.trees.parameters import Objective

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree; node 0 is the root, nodes are numbered breadth first. Arrays have shape (nodes,).

    Attributes
    ----------
    left, right
        int32: children; -1 at a leaf.
    feature
        int32: column of the split; 0 at a leaf.
    threshold
        float32: rows below go left; 0 at a leaf or categorical node.
    categories
        The codes that go right; of a leaf or numeric node none.
    default_left
        bool: whether missing values go left; False at a leaf.
    weight
        float32: weight of a leaf, learning rate included; 0 at an inner node.
    gain, cover
        float32: loss reduction of the split and sum of hessians; zeros where not disclosed.
    """

    left: Int32
    right: Int32
    feature: Int32
    threshold: Float32
    categories: CategorySets
    default_left: Bool
    weight: Float32
    gain: Float32
    cover: Float32

    @property
    def n_nodes(self) -> int:
        return len(self.left)

    @property
    def leaf(self) -> Bool:
        """bool, shape (nodes,): which nodes are leaves."""
        return self.left < 0

    @property
    def depths(self) -> Int32:
        """int32, shape (nodes,): levels above each node."""
        depths = np.zeros(self.n_nodes, dtype=np.int32)
        for node in np.flatnonzero(~self.leaf):  # parents come before their children
            depths[[self.left[node], self.right[node]]] = depths[node] + 1
        return depths

    @classmethod
    def from_complete(
        cls,
        depth: int,
        split: npt.ArrayLike,
        feature: npt.ArrayLike,
        threshold: npt.ArrayLike,
        categories: npt.ArrayLike | CategorySets,
        default_left: npt.ArrayLike,
        leaf_weight: npt.ArrayLike,
        gain: npt.ArrayLike | None = None,
        cover: npt.ArrayLike | None = None,
    ) -> "Tree":
        """Build a tree from a complete binary tree in heap order: node i has the children 2i + 1 and 2i + 2.

        An inner node that does not split is a pass-through: all of its rows went right, down to its right-most
        leaf. It becomes a leaf with that leaf's weight; what lies below it is dropped.

        Parameters
        ----------
        depth
            Levels of inner nodes, at least 0.
        split, feature, threshold, categories, default_left, gain
            Shape (2**depth - 1,): inner nodes. `categories` are sets, empty at numeric nodes, or where all have one
            category at most, the array of these with -1 for none.
        leaf_weight
            Shape (2**depth,): learning rate included.
        cover
            Shape (2**(depth + 1) - 1,): inner nodes, then leaves. It and `gain` stop at the largest float32 number.

        Raises
        ------
        ValueError
            An array has another shape.
        """
        n_inner, n_leaves = 2**depth - 1, 2**depth
        splits = _shaped("split", split, np.bool_, n_inner)
        features = _shaped("feature", feature, np.int32, n_inner)
        thresholds = _shaped("threshold", threshold, np.float32, n_inner)
        sets = categories
        if not isinstance(sets, CategorySets):
            sets = CategorySets.single(_shaped("categories", sets, np.int32, n_inner))
        if len(sets) != n_inner:
            raise ValueError(f"categories are of {len(sets)} nodes, not {n_inner}")
        lefts = _shaped("default_left", default_left, np.bool_, n_inner)
        weights = _shaped("leaf_weight", leaf_weight, np.float32, n_leaves)
        gains = _shaped("gain", np.zeros(n_inner) if gain is None else _finite(gain), np.float32, n_inner)
        n_nodes = n_inner + n_leaves
        covers = _shaped("cover", np.zeros(n_nodes) if cover is None else _finite(cover), np.float32, n_nodes)

        heap = [0]  # heap number of each node kept, breadth first
        children: list[tuple[int, int]] = []
        for at in heap:  # grows while it is walked
            if at < n_inner and splits[at]:
                children.append((len(heap), len(heap) + 1))
                heap += [2 * at + 1, 2 * at + 2]
            else:
                children.append((-1, -1))
        kept = np.array(heap)
        left, right = np.array(children, dtype=np.int32).T.copy()
        inner = left >= 0

        def at_inner(values: npt.NDArray[Any], elsewhere: int) -> npt.NDArray[Any]:
            filled = np.full(len(kept), elsewhere, dtype=values.dtype)
            filled[inner] = values[kept[inner]]
            return filled

        numeric = at_inner(~sets.given, 0)
        rightmost = kept.copy()
        while np.any(rightmost < n_inner):
            rightmost = np.where(rightmost < n_inner, 2 * rightmost + 2, rightmost)
        return cls(
            left=left,
            right=right,
            feature=at_inner(features, 0),
            threshold=np.where(numeric, at_inner(thresholds, 0), np.float32(0)),
            categories=CategorySets.of(
                [sets[at] if is_inner else () for at, is_inner in zip(heap, inner, strict=True)]
            ),
            default_left=at_inner(lefts, 0),
            weight=np.where(inner, np.float32(0), weights[rightmost - n_inner]),
            gain=at_inner(gains, 0),
            cover=covers[kept],
        )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A trained model.

    Attributes
    ----------
    features
        Columns, in the order of the columns of `values` below.
    objective
        See `veilboost.trees.objective`.
    base_score
        Prediction before the first tree, in the label's space, a float32; for multi:softprob one margin per class.
    trees
        In the order of training; for multi:softprob one per class and round, the classes of a round in order.
    best_iteration
        The last round, counted from 0, when the rounds after the best were cut off (early stopping); else None.
    best_score
        The validation metric of that round; None as above.
    metrics
        By data set and metric its value after every round that was trained, as XGBoost's `evals_result`. Model files do
        not hold it.
    """

    features: tuple[Feature, ...]
    objective: Objective
    base_score: BaseScore
    trees: tuple[Tree, ...]
    best_iteration: int | None = None
    best_score: float | None = None
    metrics: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Margins per row: the number of classes for multi:softprob, else 1."""
        return len(self.base_score) if isinstance(self.base_score, tuple) else 1

    @property
    def rounds(self) -> int:
        """Rounds of boosting."""
        return len(self.trees) // self.outputs

    def cut(self, best_iteration: int, best_score: float) -> "Ensemble":
        """The model up to the round `best_iteration`, counted from 0."""
        kept = self.trees[: (best_iteration + 1) * self.outputs]
        return replace(self, trees=kept, best_iteration=best_iteration, best_score=best_score)

    def predict_margin(self, values: npt.NDArray[Any]) -> Float32:
        """Sum of the leaf weights, base score included.

        Parameters
        ----------
        values
            float32, shape (rows, features): numbers, 0/1 for flags, codes for categories; NaN where missing. Other
            dtypes are rounded to float32.

        Returns
        -------
        float32, shape (rows,), or (rows, classes) for multi:softprob

        Raises
        ------
        DataError
            `values` has another number of columns.
        """
        values = checked_values(values, len(self.features))
        base = to_margins(self.objective, self.base_score)
        margins = np.repeat(base[:, np.newaxis], len(values), axis=1)
        for output, forest in enumerate(self._forests):
            add_margins(values, forest, weights_of(self.trees[output :: self.outputs]), margins[output])
        return np.ascontiguousarray(margins.T) if isinstance(self.base_score, tuple) else margins[0]

    def predict(self, values: npt.NDArray[Any]) -> Float32:
        """Predictions in the label's space, float32, shape (rows,): values, counts, or probabilities of class 1.

        For multi:softprob the probabilities of all classes, shape (rows, classes).

        `values` as in `predict_margin`.
        """
        predictions: Float32 = to_prediction(self.objective, self.predict_margin(values))
        return predictions

    def leaf_index(self, values: npt.NDArray[Any]) -> Int32:
        """The leaf of each row in each tree: node numbers, int32, shape (rows, trees); `values` as above."""
        return leaf_index(checked_values(values, len(self.features)), forest_of(self.trees))

    @cached_property
    def _forests(self) -> list[kernels.Forest]:
        """The trees of each output."""
        return [forest_of(self.trees[output :: self.outputs]) for output in range(self.outputs)]


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Labels of 1e20 have gains of 1e40, which no model file holds."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(np.asarray(values, dtype=np.float64), -largest, largest)


def _shaped(name: str, values: npt.ArrayLike, dtype: type[np.generic], length: int) -> npt.NDArray[Any]:
    array = np.asarray(values).astype(dtype)
    if array.shape != (length,):
        raise ValueError(f"{name} has shape {array.shape}, not {(length,)}")
    return array

"""The plaintext oracle: boosted trees as XGBoost's `hist` grows them, in float64, on given bins.

`train` is what training on secret shares must reproduce on the same columns; `audit` judges every decision of a model
that was trained elsewhere. Both see everything in the clear and are for tests, comparisons and pooled data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.errors import DataError
from veilboost.tables.binning import BinnedColumn
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.exact_splits import (
    NO_BOUNDS,
    Bounds,
    Candidates,
    Float64,
    NodeSums,
    bounds_of_children,
    is_worth,
    leaf_weight,
    optimal_weight,
)
from veilboost.trees.objective import BaseScore, estimate_base_score, gradients, rounded, row_weights, to_margins
from veilboost.trees.parameters import Objective, Parameters
from veilboost.trees.sampling import sample_features, sample_rows, validation_rows

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NodeAudit:
    """One node of a model under audit, judged on the margins that the model's own earlier trees left.

    Attributes
    ----------
    tree, node, depth
        Which node; `depth` is 0 at the root.
    rows
        Sampled training rows that reach it.
    splits, should_split
        What the model does, and what exact arithmetic would do.
    chosen_gain
        Gain of the model's split; -inf if that split is not allowed, 0 at a leaf.
    best_gain
        Largest gain of an allowed split, be it worth splitting or not; -inf if there is none.
    stated_weight, exact_weight
        Leaf weight in the model and by exact arithmetic, learning rate included; None at inner nodes.
    """

    tree: int
    node: int
    depth: int
    rows: int
    splits: bool
    should_split: bool
    chosen_gain: float
    best_gain: float
    stated_weight: float | None
    exact_weight: float | None


def train(
    columns: Sequence[BinnedColumn], labels: Float64, parameters: Parameters, weights: Float64 | None = None
) -> Ensemble:
    """Grow an ensemble depth-wise.

    XGBoost with `tree_method="hist"` and the same cuts grows the same trees, if it has seen the last level of every
    categorical column, and `max_cat_to_onehot` exceeds the levels of those that have more than 16; except where gains
    are within float32 rounding of a tie. Its row and column samples are different draws from the same distribution.

    Parameters
    ----------
    columns
        At least one, all with the same rows.
    labels
        float64, shape (rows,), in the objective's domain.
    parameters
        With `early_stopping_rounds` the rows held back take no part; all rounds are kept.
    weights
        float64, shape (rows,): sample weights; None: all 1.

    Raises
    ------
    DataError
        No columns, no rows, or different numbers of rows.
    """
    _check(columns, labels)
    candidates = Candidates(columns, parameters)
    base_score = _base_score(labels, parameters, weights)
    margins = _first_margins(parameters.objective, base_score, len(labels))
    trees = []
    for first in range(0, parameters.n_trees, parameters.outputs):
        gradient, hessian = _gradients(parameters, margins, labels, weights)
        for output in range(parameters.outputs):
            tree, step = _grow(candidates, gradient[output], hessian[output], first + output, parameters)
            margins[output] += step
            trees.append(tree)
    return Ensemble(
        tuple(column.feature for column in columns), parameters.objective, rounded(base_score), tuple(trees)
    )


def audit(
    ensemble: Ensemble,
    columns: Sequence[BinnedColumn],
    labels: Float64,
    parameters: Parameters,
    hessian_tolerance: float = 0.0,
    gradient_tolerance: float = 0.0,
    weights: Float64 | None = None,
) -> list[NodeAudit]:
    """Replay a model trained on the same columns and judge every node.

    A split of the model is recognised by its column and by a cut equal to its threshold; one that is not among the
    candidates, or on a column not sampled for the node, is not allowed. In a partitioned column any set of categories
    is: weights that are nearly equal may be sorted either way.

    Parameters
    ----------
    columns, labels, parameters, weights
        What the model was trained on and with; `base_score` is the model's.
    hessian_tolerance
        A chosen split may undercut `min_child_weight` by this much, and a better split counts only if it exceeds
        `min_child_weight` by as much.
    gradient_tolerance
        The gradient of a row may be off by this much: categories of partitioned columns whose weights are within it may
        be sorted either way, and the best gain is that of candidates that are there in any case.

    Returns
    -------
    All nodes, tree after tree, in the order of their numbers.

    Raises
    ------
    DataError
        The columns are not the model's, or have different numbers of rows.
    """
    _check(columns, labels)
    if tuple(column.feature for column in columns) != ensemble.features:
        raise DataError("the columns are not those that the model was trained on: give them in the model's order")
    candidates = Candidates(columns, parameters)
    margins = _first_margins(ensemble.objective, ensemble.base_score, len(labels))
    tolerances = hessian_tolerance, gradient_tolerance
    findings: list[NodeAudit] = []
    for number, tree in enumerate(ensemble.trees):
        output = number % ensemble.outputs
        if output == 0:
            gradient, hessian = _gradients(parameters, margins, labels, weights)
        findings += _audit_tree(
            candidates, tree, number, margins[output], gradient[output], hessian[output], parameters, *tolerances
        )
    return findings


def _base_score(labels: Float64, parameters: Parameters, weights: Float64 | None) -> BaseScore:
    """The prediction before the first tree: as given, else estimated from the rows that are not held back."""
    if parameters.base_score is not None:
        return parameters.base_score if parameters.num_class is None else (parameters.base_score,) * parameters.outputs
    training = ~validation_rows(parameters, len(labels))
    return estimate_base_score(
        parameters.objective,
        labels[training],
        None if weights is None else weights[training],
        scale_pos_weight=parameters.scale_pos_weight,
        num_class=parameters.num_class,
    )


def _first_margins(objective: Objective, base_score: BaseScore, rows: int) -> Float64:
    """float64, shape (outputs, rows)."""
    return np.repeat(to_margins(objective, base_score).astype(np.float64)[:, np.newaxis], rows, axis=1)


def _gradients(
    parameters: Parameters, margins: Float64, labels: Float64, weights: Float64 | None
) -> tuple[Float64, Float64]:
    """Gradient and hessian for margins of shape (outputs, rows), both of this shape."""
    objective, each = parameters.objective, row_weights(parameters, labels, weights)
    if objective == "multi:softprob":
        gradient, hessian = gradients(objective, margins.T, labels, each)
        return gradient.T, hessian.T
    gradient, hessian = gradients(objective, margins[0], labels, each, parameters.max_delta_step)
    return gradient[np.newaxis], hessian[np.newaxis]


def _grow(
    candidates: Candidates, gradient: Float64, hessian: Float64, number: int, parameters: Parameters
) -> tuple[Tree, Float64]:
    """One tree, and the weight of each row's leaf."""
    depth = parameters.max_depth
    n_inner = 2**depth - 1
    split = np.zeros(n_inner, dtype=np.bool_)
    chosen = np.zeros(n_inner, dtype=np.int64)
    sets: list[tuple[int, ...]] = [()] * n_inner
    gain = np.zeros(n_inner, dtype=np.float32)
    weights = np.zeros(2**depth, dtype=np.float32)
    cover = np.zeros(2 * n_inner + 1)
    margins = np.zeros(len(gradient))
    sampled = sample_rows(parameters, number, len(gradient))
    members: dict[int, Rows] = {0: np.arange(len(gradient))}  # heap number -> rows, sampled or not
    bounds = {0: NO_BOUNDS}
    for level in range(depth + 1):
        first = 2**level - 1
        features = sample_features(parameters, number, level, len(candidates.columns)) if level < depth else None
        for node in sorted(members):
            rows = members.pop(node)
            own = rows[sampled[rows]]
            cover[node] = hessian[own].sum()
            if features is not None and len(own):
                sums = candidates.sums(own, gradient, hessian)
                gains = candidates.gains(sums, parameters, features[node - first], bounds=bounds[node])
                best = int(np.argmax(gains))
                if is_worth(gains[best], parameters):
                    split[node], chosen[node], gain[node] = True, best, gains[best]
                    sets[node] = candidates.categories(best, sums, parameters)
                    left = candidates.goes_left(best, rows, sets[node])
                    members[2 * node + 1], members[2 * node + 2] = rows[left], rows[~left]
                    sides = own[left[sampled[rows]]], own[~left[sampled[rows]]]
                    sign = int(candidates.signs[candidates.feature[best]])
                    bounds[2 * node + 1], bounds[2 * node + 2] = _bounds(
                        gradient, hessian, sides, sign, parameters, bounds[node]
                    )
                    continue
            leaf = (node + 2) * 2 ** (depth - level) - 2  # the right-most leaf below a node that does not split
            weights[leaf - n_inner] = leaf_weight(gradient[own].sum(), cover[node], len(own), parameters, bounds[node])
            margins[rows] = weights[leaf - n_inner]
    feature, bins = candidates.feature[chosen], candidates.bin[chosen]
    cuts = [candidates.columns[f].cuts[j] for f, j in zip(feature, bins, strict=True)]
    tree = Tree.from_complete(
        depth,
        split,
        feature,
        cuts,
        CategorySets.of(sets),
        candidates.default_left[chosen],
        weights,
        gain,
        cover,
    )
    return tree, margins


def _bounds(
    gradient: Float64, hessian: Float64, sides: tuple[Rows, Rows], sign: int, parameters: Parameters, bounds: Bounds
) -> tuple[Bounds, Bounds]:
    """Bounds of the children of a node whose sampled rows are `sides`."""
    if sign == 0:
        return bounds, bounds
    left, right = (
        float(optimal_weight(gradient[rows].sum(), hessian[rows].sum(), parameters, bounds)) for rows in sides
    )
    return bounds_of_children(left, right, sign, bounds)


def _audit_tree(
    candidates: Candidates,
    tree: Tree,
    number: int,
    margins: Float64,
    gradient: Float64,
    hessian: Float64,
    parameters: Parameters,
    hessian_tolerance: float,
    gradient_tolerance: float,
) -> list[NodeAudit]:
    """Judge one tree, and add its leaf weights to `margins`."""
    findings = []
    # A leaf that a split within the tolerance has made has a weight.
    least_weight = max(0.0, parameters.min_child_weight - hessian_tolerance)
    with_tolerance = parameters.model_copy(update={"min_child_weight": least_weight})
    sampled = sample_rows(parameters, number, len(margins))
    features = [sample_features(parameters, number, d, len(candidates.columns)) for d in range(parameters.max_depth)]
    no_features = np.zeros(len(candidates.columns), dtype=np.bool_)
    depths = tree.depths
    # node -> its rows and its number from the left within its level
    members: dict[int, tuple[Rows, int]] = {0: (np.arange(len(margins)), 0)}
    bounds = {0: NO_BOUNDS}
    for node in range(tree.n_nodes):
        rows, position = members.pop(node)
        own = rows[sampled[rows]]
        depth = int(depths[node])
        usable = features[depth][position] if depth < parameters.max_depth else no_features
        sums = candidates.sums(own, gradient, hessian)
        least = parameters.min_child_weight
        definite = candidates.definite(sums, parameters, hessian_tolerance, gradient_tolerance)
        gains = candidates.gains(sums, parameters, usable, least + hessian_tolerance, definite, bounds[node])
        best_gain = np.max(gains, initial=np.float32(-np.inf))
        splits = not tree.leaf[node]
        chosen_gain, stated, exact = 0.0, None, None
        if splits:
            chosen_gain = _chosen_gain(
                candidates, tree, node, sums, parameters, usable, least - hessian_tolerance, bounds[node]
            )
            left = _goes_left(candidates, tree, node, rows)
            sides = own[left[sampled[rows]]], own[~left[sampled[rows]]]
            sign = int(candidates.signs[tree.feature[node]])
            below = _bounds(gradient, hessian, sides, sign, parameters, bounds[node])
            bounds[int(tree.left[node])], bounds[int(tree.right[node])] = below
            members[int(tree.left[node])] = rows[left], 2 * position
            members[int(tree.right[node])] = rows[~left], 2 * position + 1
        else:
            stated = float(tree.weight[node])
            exact = leaf_weight(float(sums.total[0]), float(sums.total[1]), len(own), with_tolerance, bounds[node])
            margins[rows] += stated
        findings.append(
            NodeAudit(
                number,
                node,
                depth,
                len(own),
                splits,
                is_worth(best_gain, parameters),
                chosen_gain,
                float(best_gain),
                stated,
                exact,
            )
        )
    return findings


def _chosen_gain(
    candidates: Candidates,
    tree: Tree,
    node: int,
    sums: NodeSums,
    parameters: Parameters,
    usable: npt.NDArray[np.bool_],
    least_hessian: float,
    bounds: Bounds,
) -> float:
    """The gain of the split of a model, -inf if it is not allowed."""
    feature = int(tree.feature[node])
    if candidates.partitioned[feature]:
        right = tree.categories[node]
        if not usable[feature] or not 0 < len(right) < candidates.columns[feature].plan.n_bins:
            return -np.inf
        missing_left = bool(tree.default_left[node])
        return float(candidates.gain_of_set(feature, right, missing_left, sums, parameters, least_hessian, bounds))
    candidate = _find_candidate(candidates, tree, node)
    if candidate is None:
        return -np.inf
    return float(candidates.gains(sums, parameters, usable, least_hessian, bounds=bounds)[candidate])


def _find_candidate(candidates: Candidates, tree: Tree, node: int) -> int | None:
    """The candidate that a node of a model splits by; None when there is none such."""
    number = int(tree.feature[node])
    column = candidates.columns[number]
    right = tree.categories[node]
    if len(right) != column.feature.categorical:
        return None
    if column.feature.categorical:
        same = candidates.bin == right[0]
    else:
        bins = np.flatnonzero((column.cuts == tree.threshold[node]) & column.valid)
        same = np.isin(candidates.bin, bins[:1])  # equal cuts make equal splits
    same &= candidates.feature == number
    if column.feature.missing:
        same &= candidates.default_left == tree.default_left[node]
    found = np.flatnonzero(same)
    return int(found[0]) if len(found) else None


def _goes_left(candidates: Candidates, tree: Tree, node: int, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether each row goes left at a node of a model, which need not split by one of the candidates."""
    column = candidates.columns[int(tree.feature[node])]
    bins = column.bins[rows]
    if len(tree.categories[node]):
        left = ~np.isin(bins, tree.categories[node])
    else:
        # A bin lies below the threshold when the next cut that separates values does.
        upper = np.full(column.plan.n_bins + 1, np.inf, dtype=np.float32)
        upper[: len(column.cuts)] = np.where(column.valid, column.cuts, np.inf)
        upper = np.minimum.accumulate(upper[::-1])[::-1]
        left = upper[bins] <= tree.threshold[node]
    goes_left: npt.NDArray[np.bool_] = np.where(bins == column.plan.n_bins, tree.default_left[node], left)
    return goes_left


def _check(columns: Sequence[BinnedColumn], labels: Float64) -> None:
    if not columns or len(labels) == 0:
        raise DataError("training needs at least one feature column and one row")
    if any(len(column.bins) != len(labels) for column in columns):
        raise DataError("the columns and the labels have different numbers of rows: align them first")

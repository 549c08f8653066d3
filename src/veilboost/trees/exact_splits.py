"""All candidate splits of a node and their gains, in float64: what XGBoost's `hist` updater enumerates.

Candidates are numbered feature by feature, and of equally good ones the first wins.

- Numeric column: `bins <= j` goes left. First missing-right for j ascending, then missing-left for j descending (only
  where the column has missing cells; without missing rows in the node it ties with missing-right and loses).
- Categorical column, one against the rest: category j goes right. For each j missing-left, then missing-right
  (likewise).
- Categorical column that is partitioned (`category_sets.is_partitioned`): its categories are sorted by the weight of a
  leaf that has them alone, per node; categories below `min_child_weight`, empty ones among them, have the weight 0, and
  equal ones keep the order of their codes. The first j + 1 go right, of at most all but one: first missing-left for j
  ascending, then missing-right for j descending (likewise).

With monotone constraints weights are kept within the bounds of their node, and at a split by a constrained column the
left and the right weight must be in order. Halfway between them is a bound of the children.

Gains are rounded to float32, the precision of XGBoost's, so that candidates whose gains are equal but for the rounding
of the sums tie here as they do there. Source: src/tree/hist/evaluate_splits.h, src/tree/split_evaluator.h and
src/tree/param.h of XGBoost 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.tables.binning import BinnedColumn
from veilboost.trees.category_sets import is_partitioned
from veilboost.trees.parameters import Parameters

Float64 = npt.NDArray[np.float64]

#: Least and greatest weight of the leaves below a node, before the learning rate.
Bounds = tuple[float, float]
NO_BOUNDS: Final[Bounds] = (-np.inf, np.inf)

#: A split must reduce the loss by more than this (XGBoost's kRtEps).
LEAST_GAIN: Final = np.float32(1e-6)


@dataclass(frozen=True)
class NodeSums:
    """Histograms of one node; F features, B bins of which the last is for missing cells.

    Attributes
    ----------
    gradient, hessian, rows
        float64, shape (F, B): sums over the node's sampled rows.
    total
        float64, shape (3,): gradient, hessian and rows of the whole node.
    """

    gradient: Float64
    hessian: Float64
    rows: Float64
    total: Float64


class Candidates:
    """The candidates of a table, numbered as the module says.

    Attributes
    ----------
    feature, bin
        int64, shape (candidates,): column, and bin, category or place in the order j.
    partitioned
        bool, shape (F,): columns split into sets of categories.
    signs
        int64, shape (F,): the monotone constraint of each column.
    default_left
        bool, shape (candidates,): where missing rows go.
    """

    def __init__(self, columns: Sequence[BinnedColumn], parameters: Parameters) -> None:
        self.columns = tuple(columns)
        onehot = parameters.max_cat_to_onehot
        self.partitioned = np.array([is_partitioned(column.feature, onehot) for column in columns])
        self.signs = parameters.signs(column.feature for column in columns)
        n_bins = max(column.plan.n_bins for column in columns)
        self._shape = (len(columns), n_bins + 1)
        cells = np.empty((len(columns[0].bins), len(columns)), dtype=np.int64)
        for number, column in enumerate(columns):
            bins = np.where(column.bins == column.plan.n_bins, n_bins, column.bins)
            cells[:, number] = number * (n_bins + 1) + bins
        self._cells = cells
        numbering = [_number(number, column, self.partitioned[number]) for number, column in enumerate(columns)]
        # `_joined`: whether the missing rows are on the side of bins 0 to j, or of category j.
        self.feature, self.bin, self._joined = np.concatenate(numbering, axis=1)
        self._categorical = np.array([column.feature.categorical for column in columns])
        self.default_left = (self._joined == 1) != self._categorical[self.feature]
        self._valid = np.concatenate(
            [column.valid[bins] for column, (_, bins, _) in zip(columns, numbering, strict=True)]
        )

    def sums(self, rows: npt.NDArray[np.int64], gradient: Float64, hessian: Float64) -> NodeSums:
        """Histograms over `rows` (sampled rows of a node) of `gradient` and `hessian`, float64 (all rows,)."""
        cells = self._cells[rows].ravel()
        size = self._shape[0] * self._shape[1]

        def histogram(values: Float64) -> Float64:
            weights = np.repeat(values, self._shape[0])
            sums = np.bincount(cells, weights=weights, minlength=size).astype(np.float64)
            return sums.reshape(self._shape)

        own_gradient, own_hessian = gradient[rows], hessian[rows]
        return NodeSums(
            histogram(own_gradient),
            histogram(own_hessian),
            histogram(np.ones(len(rows))),
            np.array([own_gradient.sum(), own_hessian.sum(), len(rows)]),
        )

    def gains(
        self,
        sums: NodeSums,
        parameters: Parameters,
        features: npt.NDArray[np.bool_],
        least_hessian: float | None = None,
        definite: npt.NDArray[np.bool_] | None = None,
        bounds: Bounds = NO_BOUNDS,
    ) -> npt.NDArray[np.float32]:
        """Loss reduction of every candidate, float32, shape (candidates,); -inf where a split is not allowed.

        Not allowed are an empty side, a hessian sum below `min_child_weight` (or `least_hessian`, when given), fewer
        than `min_rows_per_leaf` rows, a cut between equal values, and a column outside `features`, bool (F,).
        Nor those that are not `definite`, when given; `bounds` are those of the node.
        """
        near = np.stack([sums.gradient, sums.hessian, sums.rows])
        missing = near[:, :, -1:]
        for feature in np.flatnonzero(self.partitioned).tolist():
            order = self.order(feature, sums, parameters)
            near[:, feature, : len(order)] = near[:, feature, order]
        one_by_one = self._categorical & ~self.partitioned
        near = np.where(one_by_one[:, np.newaxis], near[:, :, :-1], np.cumsum(near[:, :, :-1], axis=2))
        both = np.stack([near, near + missing])
        one_side = both[self._joined, :, self.feature, self.bin].T
        allowed = self._valid & features[self.feature]
        if definite is not None:
            allowed = allowed & definite
        return _gains(one_side, sums, parameters, allowed, least_hessian, bounds, self.signs[self.feature])

    def gain_of_set(
        self,
        feature: int,
        right: npt.NDArray[np.int32],
        missing_left: bool,
        sums: NodeSums,
        parameters: Parameters,
        least_hessian: float | None = None,
        bounds: Bounds = NO_BOUNDS,
    ) -> np.float32:
        """Loss reduction if these categories of a column go right; -inf where that is not allowed, as in `gains`."""
        per_bin = np.stack([sums.gradient[feature], sums.hessian[feature], sums.rows[feature]])
        one_side = per_bin[:, right].sum(axis=1, keepdims=True)
        if not missing_left:
            one_side += per_bin[:, -1:]
        gains = _gains(one_side, sums, parameters, np.array([True]), least_hessian, bounds, np.array([0]))
        return np.float32(gains[0])

    def order(self, feature: int, sums: NodeSums, parameters: Parameters) -> npt.NDArray[np.int64]:
        """The categories of a partitioned column in the order of their weights in a node."""
        return np.argsort(self._weights(feature, sums, parameters, parameters.min_child_weight), kind="stable")

    def definite(
        self, sums: NodeSums, parameters: Parameters, hessian_tolerance: float, gradient_tolerance: float
    ) -> npt.NDArray[np.bool_]:
        """Which candidates a node has however rounding orders categories, bool (candidates,).

        A prefix of the order is one of them if all of its categories come before all others also with weights that
        are off by the tolerances. `gradient_tolerance` is how far the gradient of a row may be off.
        """
        definite = np.ones(len(self.feature), dtype=np.bool_)
        for feature in np.flatnonzero(self.partitioned).tolist():
            count = self.columns[feature].plan.n_bins
            hessian, rows = sums.hessian[feature, :count], sums.rows[feature, :count]
            off = gradient_tolerance * rows / np.maximum(hessian + parameters.reg_lambda, 1e-12)
            low, high = np.full(count, np.inf), np.full(count, -np.inf)
            for least in {parameters.min_child_weight + sign * hessian_tolerance for sign in (-1, 1)}:
                weight = self._weights(feature, sums, parameters, least)
                exact = np.where((hessian > 0) & (hessian >= least), off, 0)
                low, high = np.minimum(low, weight - exact), np.maximum(high, weight + exact)
            order = self.order(feature, sums, parameters)
            latest = np.maximum.accumulate(high[order])[:-1]
            earliest = np.minimum.accumulate(low[order][::-1])[::-1][1:]
            own = np.flatnonzero(self.feature == feature)
            definite[own] = (latest <= earliest)[self.bin[own]]
        return definite

    def _weights(self, feature: int, sums: NodeSums, parameters: Parameters, least_hessian: float) -> Float64:
        """Of every category of a column the weight of a leaf that has it alone; 0 below the least hessian."""
        count = self.columns[feature].plan.n_bins
        gradient, hessian = sums.gradient[feature, :count], sums.hessian[feature, :count]
        enough = (hessian > 0) & (hessian >= least_hessian)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(enough, optimal_weight(gradient, hessian, parameters), 0.0)

    def categories(self, candidate: int, sums: NodeSums, parameters: Parameters) -> tuple[int, ...]:
        """The categories that go right at a split by `candidate` of the node with these sums; none of numeric ones."""
        feature, chosen = int(self.feature[candidate]), int(self.bin[candidate])
        if self.partitioned[feature]:
            return tuple(self.order(feature, sums, parameters)[: chosen + 1].tolist())
        return (chosen,) if self._categorical[feature] else ()

    def goes_left(
        self, candidate: int, rows: npt.NDArray[np.int64], categories: Sequence[int]
    ) -> npt.NDArray[np.bool_]:
        """Whether each of `rows` goes left at a split by `candidate`, whose `categories` go right."""
        column = self.columns[self.feature[candidate]]
        bins, chosen = column.bins[rows], self.bin[candidate]
        left = ~np.isin(bins, categories) if column.feature.categorical else bins <= chosen
        goes_left: npt.NDArray[np.bool_] = np.where(bins == column.plan.n_bins, self.default_left[candidate], left)
        return goes_left


def _gains(
    one_side: Float64,
    sums: NodeSums,
    parameters: Parameters,
    allowed: npt.NDArray[np.bool_],
    least_hessian: float | None,
    bounds: Bounds,
    signs: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Loss reduction of candidates with these sums on one side, float64 (3, candidates); of constrained ones the left.

    `signs` are the constraints of the candidates' columns.
    """
    other_side = sums.total[:, np.newaxis] - one_side
    least = parameters.min_child_weight if least_hessian is None else least_hessian
    for _, hessian, rows in (one_side, other_side):
        allowed = allowed & (hessian > 0) & (hessian >= least) & (rows >= max(1, parameters.min_rows_per_leaf))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if parameters.constrained:
            one, other = (optimal_weight(side[0], side[1], parameters, bounds) for side in (one_side, other_side))
            allowed = allowed & ~(signs * (other - one) < 0)
        gains = score(one_side[0], one_side[1], parameters, bounds)
        gains += score(other_side[0], other_side[1], parameters, bounds)
        gains -= score(sums.total[0], sums.total[1], parameters, bounds)
        return np.where(allowed, gains, -np.inf).astype(np.float32)


def score(gradient: Any, hessian: Any, parameters: Parameters, bounds: Bounds = NO_BOUNDS) -> Any:
    """Twice the loss that a leaf with these sums saves.

    With L1 regularisation it is T(G)^2 / (H + lambda), T soft-thresholding; only with `max_delta_step` or constraints
    it is computed from the clipped weight as -(2 G w + (H + lambda) w^2), in which alpha does not appear. So does
    XGBoost.
    """
    if parameters.max_delta_step == 0 and not parameters.constrained:
        return _soft_threshold(gradient, parameters.reg_alpha) ** 2 / (hessian + parameters.reg_lambda)
    weight = optimal_weight(gradient, hessian, parameters, bounds)
    return -(2 * gradient * weight + (hessian + parameters.reg_lambda) * weight**2)


def leaf_weight(
    gradient: float, hessian: float, rows: int, parameters: Parameters, bounds: Bounds = NO_BOUNDS
) -> float:
    """Weight of a leaf, learning rate included.

    0 below `min_child_weight` or `min_rows_per_leaf`, where only a root can be: it would describe too few rows.
    """
    if hessian <= 0 or hessian < parameters.min_child_weight or rows < parameters.min_rows_per_leaf:
        return 0.0
    return parameters.learning_rate * float(optimal_weight(gradient, hessian, parameters, bounds))


def bounds_of_children(left: float, right: float, sign: int, bounds: Bounds) -> tuple[Bounds, Bounds]:
    """Bounds below a split into these weights by a column with this constraint."""
    low, high = bounds
    middle = (left + right) / 2
    if sign == 0:
        return bounds, bounds
    return ((low, middle), (middle, high)) if sign > 0 else ((middle, high), (low, middle))


def is_worth(gain: np.float32, parameters: Parameters) -> bool:
    """Whether the best candidate of a node splits it."""
    return bool(gain > LEAST_GAIN and gain >= np.float32(parameters.gamma))


def optimal_weight(gradient: Any, hessian: Any, parameters: Parameters, bounds: Bounds = NO_BOUNDS) -> Any:
    """Weight of a leaf with these sums, before the learning rate."""
    weight = -_soft_threshold(gradient, parameters.reg_alpha) / (hessian + parameters.reg_lambda)
    limit = parameters.max_delta_step
    weight = np.clip(weight, -limit, limit) if limit else weight
    return weight if bounds is NO_BOUNDS else np.clip(weight, *bounds)


def _soft_threshold(gradient: Any, alpha: float) -> Any:
    return np.sign(gradient) * np.maximum(np.abs(gradient) - alpha, 0.0)


def _number(number: int, column: BinnedColumn, partitioned: bool) -> npt.NDArray[np.int64]:
    """The candidates of column `number`: feature, bin and `_joined`, int64 (3, candidates)."""
    bins = np.arange(column.plan.n_bins - 1 if partitioned else column.plan.n_candidates)
    joined = np.zeros_like(bins)
    if column.feature.missing:
        if column.feature.categorical and not partitioned:
            bins, joined = np.repeat(bins, 2), np.tile([0, 1], len(bins))
        else:
            bins, joined = np.concatenate([bins, bins[::-1]]), np.repeat([0, 1], len(bins))
    return np.stack([np.full_like(bins, number), bins, joined])

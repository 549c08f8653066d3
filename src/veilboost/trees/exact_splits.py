"""All candidate splits of a node and their gains, in float64: what XGBoost's `hist` updater enumerates.

Candidates are numbered feature by feature, and of equally good ones the first wins.

- Numeric column: `bins <= j` goes left. First missing-right for j ascending, then missing-left for j descending (only
  where the column has missing cells; without missing rows in the node it ties with missing-right and loses).
- Categorical column: category j goes right. For each j missing-left, then missing-right (likewise).

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
from veilboost.trees.parameters import Parameters

Float64 = npt.NDArray[np.float64]

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
        int64, shape (candidates,): column, and bin or category j.
    default_left
        bool, shape (candidates,): where missing rows go.
    """

    def __init__(self, columns: Sequence[BinnedColumn]) -> None:
        self.columns = tuple(columns)
        n_bins = max(column.plan.n_bins for column in columns)
        self._shape = (len(columns), n_bins + 1)
        cells = np.empty((len(columns[0].bins), len(columns)), dtype=np.int64)
        for number, column in enumerate(columns):
            bins = np.where(column.bins == column.plan.n_bins, n_bins, column.bins)
            cells[:, number] = number * (n_bins + 1) + bins
        self._cells = cells
        numbering = [_number(number, column) for number, column in enumerate(columns)]
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
    ) -> npt.NDArray[np.float32]:
        """Loss reduction of every candidate, float32, shape (candidates,); -inf where a split is not allowed.

        Not allowed are an empty side, a hessian sum below `min_child_weight` (or `least_hessian`, when given), fewer
        than `min_rows_per_leaf` rows, a cut between equal values, and a column outside `features`, bool (F,).
        """
        near = np.stack([sums.gradient, sums.hessian, sums.rows])
        missing = near[:, :, -1:]
        near = np.where(self._categorical[:, np.newaxis], near[:, :, :-1], np.cumsum(near[:, :, :-1], axis=2))
        both = np.stack([near, near + missing])
        one_side = both[self._joined, :, self.feature, self.bin].T
        other_side = sums.total[:, np.newaxis] - one_side
        least = parameters.min_child_weight if least_hessian is None else least_hessian
        allowed = self._valid & features[self.feature]
        for _, hessian, rows in (one_side, other_side):
            allowed &= (hessian > 0) & (hessian >= least) & (rows >= max(1, parameters.min_rows_per_leaf))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            gains = score(one_side[0], one_side[1], parameters) + score(other_side[0], other_side[1], parameters)
            gains -= score(sums.total[0], sums.total[1], parameters)
            return np.where(allowed, gains, -np.inf).astype(np.float32)

    def goes_left(self, candidate: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each of `rows` goes left at a split by `candidate`."""
        column = self.columns[self.feature[candidate]]
        bins, chosen = column.bins[rows], self.bin[candidate]
        left = bins != chosen if column.feature.categorical else bins <= chosen
        goes_left: npt.NDArray[np.bool_] = np.where(bins == column.plan.n_bins, self.default_left[candidate], left)
        return goes_left


def score(gradient: Any, hessian: Any, parameters: Parameters) -> Any:
    """Twice the loss that a leaf with these sums saves.

    With L1 regularisation it is T(G)^2 / (H + lambda), T soft-thresholding; only with `max_delta_step` it is computed
    from the clipped weight as -(2 G w + (H + lambda) w^2), in which alpha does not appear. So does XGBoost.
    """
    if parameters.max_delta_step == 0:
        return _soft_threshold(gradient, parameters.reg_alpha) ** 2 / (hessian + parameters.reg_lambda)
    weight = _optimal_weight(gradient, hessian, parameters)
    return -(2 * gradient * weight + (hessian + parameters.reg_lambda) * weight**2)


def leaf_weight(gradient: float, hessian: float, parameters: Parameters) -> float:
    """Weight of a leaf, learning rate included; 0 for sums below `min_child_weight`, which only a root can have."""
    if hessian <= 0 or hessian < parameters.min_child_weight:
        return 0.0
    return parameters.learning_rate * float(_optimal_weight(gradient, hessian, parameters))


def is_worth(gain: np.float32, parameters: Parameters) -> bool:
    """Whether the best candidate of a node splits it."""
    return bool(gain > LEAST_GAIN and gain >= np.float32(parameters.gamma))


def _optimal_weight(gradient: Any, hessian: Any, parameters: Parameters) -> Any:
    weight = -_soft_threshold(gradient, parameters.reg_alpha) / (hessian + parameters.reg_lambda)
    limit = parameters.max_delta_step
    return np.clip(weight, -limit, limit) if limit else weight


def _soft_threshold(gradient: Any, alpha: float) -> Any:
    return np.sign(gradient) * np.maximum(np.abs(gradient) - alpha, 0.0)


def _number(number: int, column: BinnedColumn) -> npt.NDArray[np.int64]:
    """The candidates of column `number`: feature, bin and `_joined`, int64 (3, candidates)."""
    bins = np.arange(column.plan.n_candidates)
    joined = np.zeros_like(bins)
    if column.feature.missing:
        if column.feature.categorical:
            bins, joined = np.repeat(bins, 2), np.tile([0, 1], len(bins))
        else:
            bins, joined = np.concatenate([bins, bins[::-1]]), np.repeat([0, 1], len(bins))
    return np.stack([np.full_like(bins, number), bins, joined])

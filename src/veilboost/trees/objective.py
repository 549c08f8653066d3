"""Training objectives: link, gradients, label domain and the prediction before the first tree.

Definitions are XGBoost's (src/objective of XGBoost 3.2): the gradient g and the hessian h of the loss are taken with
respect to the margin, the sum of the leaf weights. A row's weight multiplies both.

================  ==========================  ============  =======  ====================
objective         loss of margin m, label y   prediction    g        h
================  ==========================  ============  =======  ====================
reg:squarederror  (m - y)^2 / 2               m             m - y    1
binary:logistic   log(1 + e^m) - y m          1/(1+e^-m)=p  p - y    max(p (1 - p), e)
multi:softprob    log sum_k e^m_k - m_y       softmax(m)=p  p_k-y_k  max(2 p (1 - p), e)
count:poisson     e^m - y m                   e^m           e^m - y  e^(m + d)
================  ==========================  ============  =======  ====================

e is 1e-16, d is `max_delta_step`. multi:softprob has one margin per class, y_k says whether the row is of class k, and
its hessian is an upper bound of the diagonal of the matrix of second derivatives.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import DataError
from veilboost.trees.parameters import POISSON_DELTA_STEP, Objective, Parameters

Float64 = npt.NDArray[np.float64]

#: A prediction before the first tree: in the label's space, or for multi:softprob the margin of every class.
BaseScore = float | tuple[float, ...]

#: Least hessian of one row in binary:logistic and multi:softprob.
LEAST_HESSIAN: Final = 1e-16

#: Least part of the rows that a class counts as in the prediction before the first tree of multi:softprob.
LEAST_PRIOR: Final = 1e-6


def gradients(
    objective: Objective,
    margins: Float64,
    labels: Float64,
    weights: Float64 | None = None,
    max_delta_step: float = POISSON_DELTA_STEP,
) -> tuple[Float64, Float64]:
    """First and second derivative of the loss of each row.

    Parameters
    ----------
    margins
        float64, shape (rows,), or (rows, classes) for multi:softprob.
    labels, weights
        float64, shape (rows,); weights None: all 1.
    max_delta_step
        Of count:poisson, whose hessian it enlarges.

    Returns
    -------
    gradient, hessian
        float64, of the shape of `margins`.
    """
    if objective == "reg:squarederror":
        gradient, hessian = margins - labels, np.ones_like(margins)
    elif objective == "count:poisson":
        gradient, hessian = np.exp(margins) - labels, np.exp(margins + max_delta_step)
    elif objective == "multi:softprob":
        probability = softmax(margins)
        gradient = probability - (labels[:, np.newaxis] == np.arange(margins.shape[1]))
        hessian = np.maximum(2.0 * probability * (1.0 - probability), LEAST_HESSIAN)
    else:
        probability = sigmoid(margins)
        gradient, hessian = probability - labels, np.maximum(probability * (1.0 - probability), LEAST_HESSIAN)
    if weights is None:
        return gradient, hessian
    each = weights if margins.ndim == 1 else weights[:, np.newaxis]
    return gradient * each, hessian * each


def row_weights(parameters: Parameters, labels: Float64, weights: Float64 | None) -> Float64 | None:
    """What each row's gradient is multiplied by: its sample weight, times `scale_pos_weight` in class 1."""
    if parameters.scale_pos_weight == 1:
        return weights
    of_class: Float64 = np.where(labels == 1, parameters.scale_pos_weight, 1.0)
    return of_class if weights is None else of_class * weights


def to_prediction(objective: Objective, margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Predictions from margins, of the same shape and dtype: values, counts, or probabilities (of class 1)."""
    if objective == "reg:squarederror":
        return margins
    if objective == "count:poisson":
        with np.errstate(over="ignore"):  # infinity, as in XGBoost
            predictions: npt.NDArray[Any] = np.exp(margins)
        return predictions
    return softmax(margins) if objective == "multi:softprob" else sigmoid(margins)


def to_margin(objective: Objective, base_score: float) -> float:
    """Margin of a prediction, in float32 with XGBoost's rounding; the inverse of `to_prediction`.

    For multi:softprob, whose base scores are margins, the number itself.
    """
    score = np.float32(base_score)
    if objective == "count:poisson":
        return float(np.log(score))
    if objective != "binary:logistic":
        return float(score)
    return float(np.float32(-math.log(np.float32(1) / score - np.float32(1))))


def to_margins(objective: Objective, base_score: BaseScore) -> npt.NDArray[np.float32]:
    """`to_margin` of every output, float32, shape (outputs,)."""
    scores = base_score if isinstance(base_score, tuple) else (base_score,)
    return np.array([to_margin(objective, score) for score in scores], dtype=np.float32)


def rounded(base_score: BaseScore) -> BaseScore:
    """As float32, which is what a model file keeps."""
    if isinstance(base_score, tuple):
        return tuple(float(np.float32(score)) for score in base_score)
    return float(np.float32(base_score))


def sigmoid(margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + e^-m) without overflow, in the dtype of `margins`."""
    decayed = np.exp(-np.abs(margins))
    probabilities: npt.NDArray[Any] = np.where(margins >= 0, np.ones_like(decayed), decayed) / (1 + decayed)
    return probabilities


def softmax(margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """e^m over the sum along the last axis, without overflow, in the dtype of `margins`."""
    powers = np.exp(margins - margins.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[Any] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def estimate_base_score(
    objective: Objective,
    labels: Float64,
    weights: Float64 | None = None,
    *,
    scale_pos_weight: float = 1.0,
    num_class: int | None = None,
) -> BaseScore:
    """The prediction before the first tree as XGBoost 3.2 estimates it, rounded to float32.

    The weighted mean of the labels, in the label's space. With `scale_pos_weight` it is instead one Newton step from
    margin 0, sigmoid(4 (mean - 1/2)), where the mean counts class 1 so often. For multi:softprob the margin of every
    class: the logarithm of its weighted part of the rows (at least 1e-6), minus the mean of these logarithms.

    XGBoost 2 takes the mean for reg:squarederror, and the Newton step for binary:logistic always; XGBoost 1.7 and older
    use 1/2. The estimate does not depend on regularisation or on sampling.
    """
    each = np.ones(len(labels)) if weights is None else weights
    if objective == "multi:softprob":
        assert num_class is not None
        parts = np.bincount(labels.astype(np.int64), weights=each, minlength=num_class) / each.sum()
        logs = np.log(np.maximum(parts, LEAST_PRIOR))
        return tuple(float(np.float32(margin)) for margin in logs - logs.mean())
    if scale_pos_weight != 1:
        each = np.where(labels == 1, scale_pos_weight, 1.0) * each
        mean = (each * labels).sum() / each.sum()
        return float(np.float32(sigmoid(np.array(4.0 * (mean - 0.5)))))
    if weights is None:
        return float(np.float32(np.mean(labels, dtype=np.float64)))
    return float(np.float32((each * labels).sum() / each.sum()))


def check_labels(
    objective: Objective,
    labels: npt.NDArray[np.float64],
    label_range: tuple[float, float] | None = None,
    *,
    both_classes: bool = True,
    num_class: int | None = None,
) -> None:
    """Refuse labels outside the domain of the objective.

    Parameters
    ----------
    labels
        float64, shape (rows,); NaN where the cell is empty.
    label_range
        Public bounds, both allowed themselves; None: none.
    both_classes
        Whether binary:logistic needs a row of each class among these labels; False for an owner of some of the rows.
    num_class
        Number of classes of multi:softprob.

    Raises
    ------
    DataError
        Names the first bad row, counted from 1; never its label.
    """
    if len(labels) == 0:
        raise DataError("label: there are no rows; give a table with at least one row")
    _refuse_first(np.isnan(labels), "is missing: fill it or remove the row")
    if objective == "binary:logistic":
        _refuse_first((labels != 0) & (labels != 1), "is neither 0 nor 1, as binary:logistic needs: recode it")
        if both_classes and np.all(labels == labels[0]):
            raise DataError("label: all rows are of one class; binary:logistic needs rows of both classes 0 and 1")
    elif objective == "multi:softprob":
        assert num_class is not None
        outside = (labels < 0) | (labels >= num_class) | (labels != np.floor(labels))
        _refuse_first(outside, f"is not a whole number from 0 to {num_class - 1}, as multi:softprob needs: recode it")
    else:
        largest = float(np.finfo(np.float32).max)
        _refuse_first(np.abs(labels) > largest, "is not a finite number within float32: correct it")
        if objective == "count:poisson":
            _refuse_first(labels < 0, "is below 0, and count:poisson needs counts: correct it")
    if label_range is not None:
        low, high = label_range
        _refuse_first(
            (labels < low) | (labels > high),
            f"is outside label_range [{low:g}, {high:g}]: correct it or widen label_range in the job file",
        )


def _refuse_first(bad: npt.NDArray[np.bool_], complaint: str) -> None:
    if bad.any():
        raise DataError(f"label: row {int(np.argmax(bad)) + 1} {complaint}")

"""Training objectives: link, gradients, label domain and the prediction before the first tree.

Definitions are XGBoost's (src/objective/regression_obj.cu): the gradient g and the hessian h of the loss are taken
with respect to the margin, the sum of the leaf weights.

===================  ==============================  ==============  ===========  =====================
objective            loss of margin m and label y    prediction      g            h
===================  ==============================  ==============  ===========  =====================
reg:squarederror     (m - y)^2 / 2                   m               m - y        1
binary:logistic      log(1 + e^m) - y m              p = 1/(1+e^-m)  p - y        max(p (1 - p), 1e-16)
===================  ==============================  ==============  ===========  =====================
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import DataError
from veilboost.trees.parameters import Objective

#: Least hessian of one row in binary:logistic.
LEAST_HESSIAN: Final = 1e-16


def gradients(
    objective: Objective, margins: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """First and second derivative of the loss of each row.

    Parameters
    ----------
    margins, labels
        float64, shape (rows,).

    Returns
    -------
    gradient, hessian
        float64, shape (rows,).
    """
    if objective == "reg:squarederror":
        return margins - labels, np.ones_like(margins)
    probability = sigmoid(margins)
    return probability - labels, np.maximum(probability * (1.0 - probability), LEAST_HESSIAN)


def to_prediction(objective: Objective, margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Predictions from margins: the margins themselves, or probabilities of class 1; same shape and dtype."""
    return margins if objective == "reg:squarederror" else sigmoid(margins)


def to_margin(objective: Objective, base_score: float) -> float:
    """Margin of a prediction, in float32 with XGBoost's rounding; the inverse of `to_prediction`."""
    score = np.float32(base_score)
    if objective == "reg:squarederror":
        return float(score)
    return float(np.float32(-math.log(np.float32(1) / score - np.float32(1))))


def sigmoid(margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + e^-m) without overflow, in the dtype of `margins`."""
    decayed = np.exp(-np.abs(margins))
    probabilities: npt.NDArray[Any] = np.where(margins >= 0, np.ones_like(decayed), decayed) / (1 + decayed)
    return probabilities


def estimate_base_score(objective: Objective, labels: npt.NDArray[np.float64]) -> float:
    """The mean of the labels, rounded to float32, in the label's space.

    This is what XGBoost 3.1 and newer do for both objectives. XGBoost 2 takes the mean for reg:squarederror, but for
    binary:logistic one Newton step from margin 0, sigmoid(4 (mean - 1/2)); XGBoost 1.7 and older use 1/2. The estimate
    does not depend on regularisation or on sampling.
    """
    return float(np.float32(np.mean(labels, dtype=np.float64)))


def check_labels(
    objective: Objective,
    labels: npt.NDArray[np.float64],
    label_range: tuple[float, float] | None = None,
    *,
    both_classes: bool = True,
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
    else:
        largest = float(np.finfo(np.float32).max)
        _refuse_first(np.abs(labels) > largest, "is not a finite number within float32: correct it")
    if label_range is not None:
        low, high = label_range
        _refuse_first(
            (labels < low) | (labels > high),
            f"is outside label_range [{low:g}, {high:g}]: correct it or widen label_range in the job file",
        )


def _refuse_first(bad: npt.NDArray[np.bool_], complaint: str) -> None:
    if bad.any():
        raise DataError(f"label: row {int(np.argmax(bad)) + 1} {complaint}")

"""Validation metrics: how exactly averages of losses are disclosed, what they mean, and which round is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.splitting.units import Unit
from veilboost.trees.parameters import Parameters

Float64 = npt.NDArray[np.float64]

#: Fraction bits of a disclosed average loss: 0.0001 of logloss or of the part of wrong rows.
METRIC_BITS: Final = 13

#: The same of squared errors, in units of the squared range of labels: of a root mean squared error of a tenth of the
#: range, a hundred-thousandth of the range.
SQUARE_METRIC_BITS: Final = 20

#: A metric over fewer rows would tell too much of each of them.
LEAST_VALIDATION_ROWS: Final = 50

#: The entry in the ledger.
METRICS: Final = "validation metric of every round"


def metric_bits_of(parameters: Parameters, label_range: tuple[float, float] | None) -> int:
    """Fraction bits of the averages of losses that are disclosed, at most 20.

    Of poisson-nloglik the same part of 1 as of other losses, or 2^-20 of the unit where that is more.
    """
    if parameters.objective == "reg:squarederror":
        return SQUARE_METRIC_BITS - 2  # the unit is half of the range
    if parameters.eval_metric == "rmse":
        return SQUARE_METRIC_BITS
    if parameters.eval_metric == "poisson-nloglik":
        assert label_range is not None
        return min(SQUARE_METRIC_BITS, max(0, METRIC_BITS + round(math.log2(label_range[1]))))
    return METRIC_BITS


def metric_of(
    parameters: Parameters, unit: Unit, label_range: tuple[float, float] | None, averages: Float64
) -> Float64:
    """The metric from averages of losses in the unit of the job: squares of residuals, or losses."""
    counts = parameters.objective == "count:poisson"
    scale = label_range[1] if counts and label_range is not None else unit.half_width
    if parameters.eval_metric == "rmse":
        return np.sqrt(np.maximum(averages, 0.0)) * scale
    return averages * scale if counts else averages


def check_held_back(parameters: Parameters, count: int, rows: int) -> None:
    """Refuse early stopping that holds back fewer than `LEAST_VALIDATION_ROWS` of so many rows.

    Raises
    ------
    InputError
        At all participants alike: the numbers are public.
    """
    if parameters.early_stopping_rounds is not None and count < LEAST_VALIDATION_ROWS:
        raise InputError(
            f"early stopping would hold back {count} of {rows} rows, and its metric needs at least "
            f"{LEAST_VALIDATION_ROWS}: give a larger validation_fraction or more rows, or leave early_stopping_rounds "
            "out"
        )


def best_round(metric: Sequence[float], patience: int) -> int:
    """The round, counted from 0, whose model XGBoost's early stopping returns; smaller metrics are better.

    Training would stop after `patience` rounds without a smaller metric than the smallest one so far.
    """
    best = 0
    for number in range(1, len(metric)):
        if metric[number] < metric[best]:
            best = number
        elif number - best >= patience:
            break
    return best

"""The validation metric of every round: computed on shares, for the analyst alone, who cuts the model at the best one.

All rounds are trained, so that no owner learns where training would have stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.mpc.fixed_point import decode
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.objectives.base import Objective, round_off

#: Weighted averages of losses stay below 2^(1 + _LOSS_BITS).
_LOSS_BITS = 6
_QUOTIENT_BITS = 26


#: A metric over fewer rows would tell too much of each of them.
LEAST_VALIDATION_ROWS = 50


def check_held_back(parameters: Parameters, rows: int) -> None:
    """Refuse early stopping that would hold back fewer than `LEAST_VALIDATION_ROWS` of so many rows.

    Raises
    ------
    InputError
        At all participants alike: the number is public.
    """
    count = int(validation_rows(parameters, rows).sum())
    if parameters.early_stopping_rounds is not None and count < LEAST_VALIDATION_ROWS:
        raise InputError(
            f"early stopping would hold back {count} of {rows} rows, and its metric needs at least "
            f"{LEAST_VALIDATION_ROWS}: give a larger validation_fraction or more rows, or leave early_stopping_rounds "
            "out"
        )


def sum_of_losses(
    session: Session, objective: Objective, margins: Shared, labels: Shared, weights: Shared | None
) -> Shared:
    """The loss summed over validation rows, times their weights; shape (1,), 24 fraction bits.

    Parameters
    ----------
    margins, labels, weights
        Shapes (outputs, rows), (label_columns, rows) and (rows,), of the validation rows alone; weights None: all 1.
    """
    losses = objective.losses(session, margins, labels)
    if weights is not None:
        (products,) = multiply(session, (losses, weights))
        (losses,) = truncate(session, (products, FRACTION_BITS))
    return losses.reshape(1, losses.size).sum(axis=1)


def finish(session: Session, sums: Shared, weights: Shared | None) -> Shared:
    """What is disclosed of the sums of all rounds, shape (rounds,).

    Without weights the sums themselves, since the number of rows is public. With weights the sums over that of the
    weights, with 20 fraction bits, so that the sum of the weights stays secret.
    """
    if weights is None:
        return sums
    rows = weights.size
    excess = max(0, math.ceil(math.log2((rows + 1) / (0.98 * 2.0 ** (30 - FRACTION_BITS)))))
    total, numerators = round_off(session, (weights.reshape(1, rows).sum(axis=1), excess), (sums, excess + _LOSS_BITS))
    # One unit more, so that no division is by zero where all validation rows have the weight 0.
    return divide(session, numerators, total + to_ring(1), _QUOTIENT_BITS, 2)


def metric_values(objective: Objective, words: Words, rows: int, weighted: bool) -> npt.NDArray[np.float64]:
    """The metric of every round from what `finish` returned, opened; `rows` is the number of validation rows."""
    averages = decode(words, _QUOTIENT_BITS - _LOSS_BITS) if weighted else decode(words, FRACTION_BITS) / rows
    return objective.metric(averages)


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

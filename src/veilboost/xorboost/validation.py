"""The validation metric of every round: computed on shares, for the analyst alone, who cuts the model at the best one.

All rounds are trained, so that no owner learns where training would have stopped. A metric is an average over at least
50 rows, and is rounded in shares before it is disclosed: see docs/leakage.md for what it says all the same.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from veilboost.mpc.fixed_point import decode
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.splitting import metrics
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.objectives.base import Objective, round_off

#: Weighted averages of losses stay below 2^(1 + _LOSS_BITS).
_LOSS_BITS = 6

#: Averages without weights stay below 2^20: a base_score far from the labels makes them large. With more rows than
#: 2^_INVERSE_BITS no base_score is that far.
_INVERSE_BITS = 18
_QUOTIENT_BITS = 26


def check_held_back(parameters: Parameters, rows: int) -> None:
    """Refuse early stopping that would hold back too few of so many rows; see `splitting.metrics.check_held_back`."""
    metrics.check_held_back(parameters, int(validation_rows(parameters, rows).sum()), rows)


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


def finish(session: Session, objective: Objective, sums: Shared, weights: Shared | None, rows: int) -> Shared:
    """What is disclosed of the sums of all rounds: averages, shape (rounds,), rounded in shares.

    They have `objective.metric_bits` fraction bits and nothing below them, so that a word says of single rows what such
    an average says, and no more. An average is off by less than two units.

    Parameters
    ----------
    weights
        Of the rows held back, shape (rows,); None: all 1. The sum of the weights stays secret.
    rows
        How many rows are held back.
    """
    if weights is None:
        factor, bits = _inverse(rows)
        return round_off(session, (sums * to_ring(factor), FRACTION_BITS + bits - objective.metric_bits))[0]
    excess = max(0, math.ceil(math.log2((rows + 1) / (0.98 * 2.0 ** (30 - FRACTION_BITS)))))
    total, numerators = round_off(session, (weights.reshape(1, rows).sum(axis=1), excess), (sums, excess + _LOSS_BITS))
    # One unit more, so that no division is by zero where all validation rows have the weight 0.
    quotients = divide(session, numerators, total + to_ring(1), _QUOTIENT_BITS, 2)
    return round_off(session, (quotients, _QUOTIENT_BITS - _LOSS_BITS - objective.metric_bits))[0]


def metric_values(objective: Objective, words: Words, rows: int, weighted: bool) -> npt.NDArray[np.float64]:
    """The metric of every round from what `finish` returned, opened; `rows` is the number of validation rows."""
    exact = 1.0
    if not weighted:
        factor, bits = _inverse(rows)
        exact = 2.0**bits / (factor * rows)  # both public: the metric is as exact as if the factor were
    return objective.metric(decode(words, objective.metric_bits) * exact)


def _inverse(rows: int) -> tuple[int, int]:
    """1 / rows in fixed point: the nearest whole number, at least 1, and its fraction bits."""
    bits = max(_INVERSE_BITS, rows.bit_length())
    return round((1 << bits) / rows), bits

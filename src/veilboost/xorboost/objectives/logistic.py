"""binary:logistic: logistic loss of two classes."""

from __future__ import annotations

import numpy as np

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.compare import negative
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS, sigmoid
from veilboost.mpc.protocols.softplus import softplus
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate
from veilboost.trees.objective import to_prediction
from veilboost.xorboost.objectives.base import (
    Float64,
    Objective,
    logarithms_of_parts,
    square,
    weighted_sums,
)


class Logistic(Objective):
    """|g| <= 1, h <= 1/4; labels are shared as 0 or 2^24."""

    def encode_labels(self, labels: Float64) -> Words:
        return encode(labels[np.newaxis], FRACTION_BITS)

    def estimate(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """Log-odds of the classes, neither rarer than 1e-6; with `scale_pos_weight` a step from 0, as XGBoost."""
        if weights is None:
            # Labels are 0 or 2^24, so the division leaves no remainder and the number of positive rows is exact.
            (positive,) = truncate(session, (labels.sum(axis=1), FRACTION_BITS))
            whole = session.constant(to_ring([labels.shape[1]]))
        else:
            sums = weighted_sums(session, labels, weights)
            positive, whole = sums[:1], sums[1:]
        if self.parameters.scale_pos_weight != 1:
            half_step = divide(session, positive * to_ring(2) - whole, whole, FRACTION_BITS, 2)
            return half_step * to_ring(2)
        logs = logarithms_of_parts(session, concatenate([positive, whole - positive]), whole)
        return logs[:1] - logs[1:]

    def derivatives(self, session: Session, margins: Shared, labels: Shared) -> tuple[tuple[Shared, int], ...]:
        probability = sigmoid(session, margins[0]).reshape(*margins.shape)
        (square_of_it,) = multiply(session, (probability, probability))
        variance = probability * to_ring(1 << FRACTION_BITS) - square_of_it
        return (probability - labels, FRACTION_BITS), (variance, 2 * FRACTION_BITS)

    def losses(self, session: Session, margins: Shared, labels: Shared) -> Shared:
        """logloss: log(1 + e^z) for z = (1 - 2 y) m; error: whether [m > 0] differs from y; rmse: (p - y)^2."""
        margin, label = margins[0], labels[0]
        if self.parameters.eval_metric == "rmse":
            return square(session, sigmoid(session, margin) - label)
        if self.parameters.eval_metric == "error":
            one = to_ring(1 << FRACTION_BITS)
            (wrong,) = select(session, negative(session, -margin), one - label * to_ring(2))
            return label + wrong
        (product,) = multiply(session, (margin, label))
        (of_ones,) = truncate(session, (product, FRACTION_BITS))
        return softplus(session, margin - of_ones * to_ring(2))

    def _prediction(self, margin: float) -> float:
        return float(to_prediction("binary:logistic", np.array([margin]))[0])

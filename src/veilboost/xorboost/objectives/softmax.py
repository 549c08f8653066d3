"""multi:softprob: cross entropy of several classes, one tree for each in every round."""

from __future__ import annotations

import numpy as np

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS, softmax
from veilboost.mpc.protocols.softplus import log_sum_exp
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.trees.objective import BaseScore
from veilboost.xorboost.objectives.base import Float64, Objective, logarithms_of_parts, weighted_sums


class Softmax(Objective):
    """|g| <= 1, h = 2 p (1 - p) <= 1/2, and -4e-6 <= p; labels are shared as one-hot vectors of 0 and 2^24."""

    @property
    def label_columns(self) -> int:
        return self.parameters.outputs

    def encode_labels(self, labels: Float64) -> Words:
        return encode(labels == np.arange(self.parameters.outputs)[:, np.newaxis], FRACTION_BITS)

    def estimate(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """Logarithms of the classes' parts of the rows, minus their mean."""
        sums = weighted_sums(session, labels, weights)
        logs = logarithms_of_parts(session, sums[:-1], sums[-1:])
        classes = len(logs)
        total = logs.reshape(1, classes).sum(axis=1)
        (mean,) = truncate(session, (total * to_ring(round(2**24 / classes)), 24))
        return logs - mean

    def derivatives(self, session: Session, margins: Shared, labels: Shared) -> tuple[tuple[Shared, int], ...]:
        probability = softmax(session, margins.transpose()).transpose()
        (square_of_it,) = multiply(session, (probability, probability))
        variance = probability * to_ring(1 << FRACTION_BITS) - square_of_it
        return (probability - labels, FRACTION_BITS), (variance, 2 * FRACTION_BITS - 1)

    def losses(self, session: Session, margins: Shared, labels: Shared) -> Shared:
        """mlogloss: log of the sum of e^m over the classes, minus the margin of the row's own class."""
        (product,) = multiply(session, (margins, labels))
        (own,) = truncate(session, (product.sum(axis=0), FRACTION_BITS))
        return log_sum_exp(session, margins.transpose()) - own

    def to_base_score(self, margins: Float64) -> BaseScore:
        return tuple(float(margin) for margin in margins)

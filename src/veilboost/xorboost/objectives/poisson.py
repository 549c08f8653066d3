"""count:poisson: counts in units of the public upper bound of the label.

A margin m is log(high) + shared margin, so that e^m and the label have the unit `high`.
"""

from __future__ import annotations

import math

import numpy as np

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.softplus import capped_exponential
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.splitting.units import LARGEST_MEAN, poisson_factor
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.objectives.base import (
    Float64,
    Objective,
    logarithms_of_parts,
    square,
    weighted_sums,
)

_FACTOR_BITS = 16


class Poisson(Objective):
    """-1 <= g <= 4, h <= 4 e^max_delta_step."""

    def __init__(
        self, parameters: Parameters, label_range: tuple[float, float] | None, largest_weight: float | None
    ) -> None:
        super().__init__(parameters, label_range, largest_weight)
        if label_range is None:
            raise ValueError("count:poisson needs label_range")
        self.high = label_range[1]

    @property
    def label_columns(self) -> int:
        return 2 if self.parameters.eval_metric == "poisson-nloglik" else 1

    def encode_labels(self, labels: Float64) -> Words:
        """Labels; for poisson-nloglik also log(y!), which does not depend on the model."""
        columns = [labels]
        if self.label_columns == 2:
            columns.append(np.array([math.lgamma(label + 1.0) for label in labels]))
        return encode(np.stack(columns) / self.high, FRACTION_BITS)

    def estimate(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """The logarithm of the mean label."""
        sums = weighted_sums(session, labels[:1], weights)
        logs = logarithms_of_parts(session, sums, sums[1:])
        return logs[:1] - logs[1:]

    def _mean(self, session: Session, margins: Shared) -> Shared:
        """e^m, at most `LARGEST_MEAN`."""
        (output, rows) = margins.shape
        lowered = margins.reshape(output * rows) - encode(math.log(LARGEST_MEAN), FRACTION_BITS)
        return capped_exponential(session, lowered).reshape(output, rows) * to_ring(LARGEST_MEAN)

    def derivatives(self, session: Session, margins: Shared, labels: Shared) -> tuple[tuple[Shared, int], ...]:
        mean = self._mean(session, margins)
        hessian = mean * encode(poisson_factor(self.parameters), _FACTOR_BITS)
        return (mean - labels[:1], FRACTION_BITS), (hessian, FRACTION_BITS + _FACTOR_BITS)

    def losses(self, session: Session, margins: Shared, labels: Shared) -> Shared:
        """poisson-nloglik: e^m - y m + log(y!); rmse: (e^m - y)^2."""
        mean = self._mean(session, margins)[0]
        if self.parameters.eval_metric == "rmse":
            return square(session, mean - labels[0])
        (product,) = multiply(session, (labels[0], margins[0] + encode(self.unit.middle, FRACTION_BITS)))
        (log_power,) = truncate(session, (product, FRACTION_BITS))
        return mean - log_power + labels[1]

    def _prediction(self, margin: float) -> float:
        return math.exp(margin)

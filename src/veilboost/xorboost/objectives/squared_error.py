"""reg:squarederror: least squares, with labels scaled to [-1, 1] by their public bounds."""

from __future__ import annotations

import numpy as np

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.splitting.scales import Scales
from veilboost.xorboost.objectives.base import (
    Float64,
    Objective,
    round_off,
    square,
    weighted_sums,
)

_RECIPROCAL_BITS = 36


class SquaredError(Objective):
    """A bound of the mean g^2 from the first residuals; h is 1, or the row's weight."""

    def encode_labels(self, labels: Float64) -> Words:
        return encode((labels[np.newaxis] - self.unit.middle) / self.unit.half_width, FRACTION_BITS)

    def estimate(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """The mean label."""
        if weights is None:
            factor = to_ring(round(2**_RECIPROCAL_BITS / labels.shape[1]))
            (mean,) = truncate(session, (labels.sum(axis=1) * factor, _RECIPROCAL_BITS))
            return mean
        sums = weighted_sums(session, labels, weights)
        return divide(session, sums[:1], sums[1:], FRACTION_BITS, 2)

    def derivatives(self, session: Session, margins: Shared, labels: Shared) -> tuple[tuple[Shared, int], ...]:
        ones = session.constant(to_ring(np.ones(margins.shape)))
        return (margins - labels, FRACTION_BITS), (ones, 0)

    def gradients(
        self, session: Session, margins: Shared, labels: Shared, weights: Shared | None, scales: Scales
    ) -> tuple[Shared, Shared]:
        difference, bits = margins - labels, FRACTION_BITS
        if weights is None:
            hessian = session.constant(to_ring(np.full(margins.shape, 1 << scales.hessian_bits)))
            return round_off(session, (difference, bits - scales.gradient_bits))[0], hessian
        (product,) = multiply(session, (difference, weights))
        gradient, hessian = round_off(
            session,
            (product, 2 * bits - scales.gradient_bits),
            (weights.reshape(*margins.shape), bits - scales.hessian_bits),
        )
        return gradient, hessian

    def losses(self, session: Session, margins: Shared, labels: Shared) -> Shared:
        """(m - y)^2."""
        return square(session, margins[0] - labels[0])

    def _prediction(self, margin: float) -> float:
        return margin

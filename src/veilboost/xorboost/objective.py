"""Training objectives on shares: labels, first prediction, gradients and hessians.

Margins and labels have 24 fraction bits. Regression labels are moved and scaled to [-1, 1] by their public bounds,
which changes nothing but units: margins scale with them, gains with their square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.divide import logarithm
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS, sigmoid
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, stack
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.trees.objective import to_margin, to_prediction
from veilboost.trees.parameters import Parameters

_LARGEST_LABEL = 1e30
_NARROWEST_RANGE = 1e-30


@dataclass(frozen=True)
class LabelUnit:
    """How labels and margins are scaled: value = middle + half_width * scaled."""

    middle: float = 0.0
    half_width: float = 1.0

    @classmethod
    def of(cls, parameters: Parameters, label_range: tuple[float, float] | None) -> LabelUnit:
        """The unit of a job; `label_range` is required for regression."""
        if parameters.objective == "binary:logistic":
            return cls()
        if label_range is None:
            raise ValueError("reg:squarederror needs label_range")
        low, high = label_range
        if max(abs(low), abs(high)) > _LARGEST_LABEL or high - low < _NARROWEST_RANGE:
            raise InputError(
                f"label_range: bounds must lie within +-{_LARGEST_LABEL:g} and at least {_NARROWEST_RANGE:g} apart: "
                "scale the label"
            )
        return cls((low + high) / 2, (high - low) / 2)

    def scaled(self, parameters: Parameters) -> Parameters:
        """Regularisation in the unit of the shared gradients."""
        return parameters.model_copy(
            update={
                "reg_alpha": parameters.reg_alpha / self.half_width,
                "max_delta_step": parameters.max_delta_step / self.half_width,
            }
        )


def scales_for(parameters: Parameters, rows: int, unit: LabelUnit) -> Scales:
    """Fixed-point scales: |g| <= 1, h <= 1/4 for logistic loss; a bound of the mean g^2, h = 1 for squared error.

    Raises
    ------
    InputError
        When there are too many rows, or a `base_score` too far from the labels.
    """
    if parameters.objective == "binary:logistic":
        odds = 1.0 if parameters.base_score is None else parameters.base_score / (1.0 - parameters.base_score)
        return choose_scales(rows, 1.0, 0.25, parameters.reg_lambda, largest_score=min(2.0**16, max(odds, 1.0 / odds)))
    # Every residual begins within +-largest (labels and their mean lie within +-1), and boosting with a learning rate
    # of at most 1 never enlarges their squares' sum.
    largest = 2.0 if parameters.base_score is None else max(2.0, 1.0 + abs(_given_margin(parameters, unit)))
    # No sum of squares exceeds rows * largest^2, and so does no score of splitting/gain.py, which must stay below 2^62.
    return choose_scales(rows, max(largest, largest**2 / 4), 1.0, parameters.reg_lambda, exact_hessians=True)


def _given_margin(parameters: Parameters, unit: LabelUnit) -> float:
    """The margin of a public `base_score` in the unit of the job."""
    assert parameters.base_score is not None
    return (to_margin(parameters.objective, parameters.base_score) - unit.middle) / unit.half_width


def share_labels(
    session: Session, holder: int, labels: npt.NDArray[np.float64] | None, rows: int, unit: LabelUnit
) -> Shared:
    """The label holder shares its labels, shape (rows,), with 24 fraction bits in the unit of the job."""
    words: Words | None = None
    if labels is not None:
        words = encode((labels - unit.middle) / unit.half_width, FRACTION_BITS)
    return session.share(holder, words, (rows,))


def first_margin(session: Session, labels: Shared, parameters: Parameters, unit: LabelUnit) -> Shared:
    """The margin before the first tree, shape (1,): public with `base_score`, else from the mean label, in shares."""
    if parameters.base_score is not None:
        return session.constant(encode([_given_margin(parameters, unit)], FRACTION_BITS))
    rows = labels.shape[0]
    total = labels.reshape(1, rows).sum(axis=1)
    if parameters.objective == "reg:squarederror":
        bits = 36
        (mean,) = truncate(session, (total * to_ring(round(2**bits / rows)), bits))
        return mean
    # Labels are 0 or 2^24, so the division leaves no remainder and the number of positive rows is exact.
    (positive,) = truncate(session, (total, FRACTION_BITS))
    counts = stack([positive, to_ring(rows) - positive])
    logs = logarithm(session, counts, FRACTION_BITS)
    return logs[0] - logs[1]


def gradients(
    session: Session, margins: Shared, labels: Shared, parameters: Parameters, scales: Scales
) -> tuple[Shared, Shared]:
    """Gradient and hessian of every row's loss, shape (rows,) each, in the fixed point of `scales`."""
    if parameters.objective == "reg:squarederror":
        difference = margins - labels
        hessian = session.constant(to_ring(np.full(labels.shape, 1 << scales.hessian_bits)))
        return _round(session, (difference, FRACTION_BITS - scales.gradient_bits))[0], hessian
    probability = sigmoid(session, margins)
    (square,) = multiply(session, (probability, probability))
    variance = probability * to_ring(1 << FRACTION_BITS) - square
    gradient, hessian = _round(
        session,
        (probability - labels, FRACTION_BITS - scales.gradient_bits),
        (variance, 2 * FRACTION_BITS - scales.hessian_bits),
    )
    return gradient, hessian


def to_base_score(parameters: Parameters, unit: LabelUnit, margin: float) -> float:
    """The model file's base_score of a revealed first margin in the unit of the job."""
    real = np.array([unit.middle + unit.half_width * margin])
    return float(to_prediction(parameters.objective, real)[0])


def _round(session: Session, *values: tuple[Shared, int]) -> list[Shared]:
    inexact = [pair for pair in values if pair[1]]
    rounded = iter(truncate(session, *inexact) if inexact else [])
    return [next(rounded) if bits else value for value, bits in values]

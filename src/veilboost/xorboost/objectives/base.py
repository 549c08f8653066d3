"""What an objective is: units and scales, labels, first margin, gradients, and the losses of validation metrics.

Margins, labels and weights have 24 fraction bits. Labels are moved and scaled by their public bounds, weights by the
largest one, which changes nothing but units: gradients and hessians are smaller by public factors, and so is what they
are compared with (`Unit.scaled`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.compare import negative
from veilboost.mpc.protocols.divide import logarithm
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate
from veilboost.splitting.metrics import metric_bits_of, metric_of
from veilboost.splitting.scales import Scales
from veilboost.splitting.units import scales_of, unit_of
from veilboost.trees.objective import LEAST_PRIOR, BaseScore, to_margin
from veilboost.trees.parameters import Parameters

Float64 = npt.NDArray[np.float64]

#: Sums of weights over all rows stay below this, so that they can be divided.
_LARGEST_SUM = 0.98 * 2.0**30

#: Products of a weight and a value with more fraction bits than this would leave the ring's range.
_MOST_BITS = 30


class Objective(ABC):
    """An objective of one job.

    Parameters
    ----------
    parameters
        Of the job.
    label_range
        Public bounds of the labels, for objectives that need them.
    largest_weight
        Public bound of the rows' weights, `scale_pos_weight` included; None where all weights are 1.
    """

    def __init__(
        self, parameters: Parameters, label_range: tuple[float, float] | None, largest_weight: float | None
    ) -> None:
        self.parameters = parameters
        self.label_range = label_range
        self.weighted = largest_weight is not None
        self.largest_weight = 1.0 if largest_weight is None else largest_weight
        self.unit = unit_of(parameters, label_range, largest_weight)

    @property
    def label_columns(self) -> int:
        """Words by which a label is shared."""
        return 1

    def scales(self, rows: int) -> Scales:
        """Fixed-point scales for a table of so many rows; raises InputError as `splitting.units.scales_of`."""
        return scales_of(self.parameters, self.label_range, self.unit, self.weighted, rows)

    @abstractmethod
    def encode_labels(self, labels: Float64) -> Words:
        """What the holder of labels, shape (rows,), shares of them: shape (label_columns, rows)."""

    @abstractmethod
    def estimate(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """The first margin of every output, shape (outputs,), from shared labels and weights of the training rows."""

    @abstractmethod
    def derivatives(self, session: Session, margins: Shared, labels: Shared) -> tuple[tuple[Shared, int], ...]:
        """Gradient and hessian without weights, shape (outputs, rows) each, and the fraction bits of each."""

    @abstractmethod
    def losses(self, session: Session, margins: Shared, labels: Shared) -> Shared:
        """What `eval_metric` averages, for some rows, shape (rows,), 24 fraction bits."""

    @property
    def metric_bits(self) -> int:
        """Fraction bits of the averages of `losses` that are disclosed, at most 20."""
        return metric_bits_of(self.parameters, self.label_range)

    def metric(self, average: Float64) -> Float64:
        """The metric from revealed averages of `losses`."""
        return metric_of(self.parameters, self.unit, self.label_range, average)

    def to_base_score(self, margins: Float64) -> BaseScore:
        """The model file's base score of revealed first margins, shape (outputs,)."""
        return self._prediction(float(self.unit.middle + self.unit.half_width * margins[0]))

    def first_margin(self, session: Session, labels: Shared, weights: Shared | None) -> Shared:
        """The margin before the first tree, shape (outputs,): public with `base_score`, else estimated in shares."""
        if self.parameters.base_score is not None:
            return session.constant(encode([self.given_margin()] * self.parameters.outputs, FRACTION_BITS))
        return self.estimate(session, labels, weights)

    def given_margin(self) -> float:
        """The margin of a public `base_score` in the unit of the job."""
        assert self.parameters.base_score is not None
        margin = to_margin(self.parameters.objective, self.parameters.base_score)
        return (margin - self.unit.middle) / self.unit.half_width

    def gradients(
        self, session: Session, margins: Shared, labels: Shared, weights: Shared | None, scales: Scales
    ) -> tuple[Shared, Shared]:
        """Gradient and hessian of every row's loss in the fixed point of `scales`.

        Parameters
        ----------
        margins
            Shape (outputs, rows).
        labels, weights
            Shapes (label_columns, rows) and (rows,); weights None: all 1.

        Returns
        -------
        gradient, hessian
            Shape (outputs, rows).
        """
        values = list(self.derivatives(session, margins, labels))
        if weights is not None:
            coarse = [(value, max(0, bits - FRACTION_BITS) if bits > _MOST_BITS else 0) for value, bits in values]
            kept = round_off(session, *coarse)
            products = multiply(session, *((value, weights) for value in kept))
            values = [
                (product, FRACTION_BITS + bits - dropped)
                for product, (_, bits), (_, dropped) in zip(products, values, coarse, strict=True)
            ]
        (gradient, gradient_bits), (hessian, hessian_bits) = values
        gradient, hessian = round_off(
            session,
            (gradient, gradient_bits - scales.gradient_bits),
            (hessian, hessian_bits - scales.hessian_bits),
        )
        return gradient, hessian

    def _prediction(self, margin: float) -> float:
        raise NotImplementedError


def share_labels(session: Session, holder: int, labels: Float64 | None, rows: int, objective: Objective) -> Shared:
    """The holder of some rows' labels shares them, shape (label_columns, rows), in the unit of the job."""
    words = None if labels is None else objective.encode_labels(labels)
    return session.share(holder, words, (objective.label_columns, rows))


def share_weights(session: Session, holder: int, weights: Float64 | None, rows: int, largest: float) -> Shared:
    """The holder of some rows' weights shares them, shape (rows,), 24 fraction bits, in units of the largest one."""
    words = None if weights is None else encode(weights / largest, FRACTION_BITS)
    return session.share(holder, words, (rows,))


def row_weights(session: Session, parameters: Parameters, labels: Shared, weights: Shared | None) -> Shared | None:
    """What gradients are multiplied by, shape (rows,), in units of the largest: weights times `scale_pos_weight`."""
    ratio = parameters.scale_pos_weight
    if ratio == 1:
        return weights
    # An affine function of the shared label: 1 / max(1, ratio) in class 0, ratio / max(1, ratio) in class 1.
    of_zero, of_one = 1 / max(1.0, ratio), ratio / max(1.0, ratio)
    slope = labels[0] * encode(of_one - of_zero, _SLOPE_BITS)
    (each,) = truncate(session, (slope, _SLOPE_BITS))
    each = each + encode(of_zero, FRACTION_BITS)
    if weights is None:
        return each
    (product,) = multiply(session, (each, weights))
    return truncate(session, (product, FRACTION_BITS))[0]


_SLOPE_BITS = 30


def weighted_sums(session: Session, values: Shared, weights: Shared | None) -> Shared:
    """Sums over the rows of each of some values times the weights, then of the weights alone; shape (values + 1,).

    Parameters
    ----------
    values
        Shape (values, rows), at most 1 in magnitude, 24 fraction bits.

    Returns
    -------
    Shared
        All with the same number of fraction bits, and of magnitudes below 0.98 * 2^30.
    """
    rows = values.shape[1]
    if weights is None:
        whole = session.constant(to_ring([rows << FRACTION_BITS]))
    else:
        (products,) = multiply(session, (values, weights))
        (values,) = truncate(session, (products, FRACTION_BITS))
        whole = weights.reshape(1, rows).sum(axis=1)
    sums = concatenate([values.sum(axis=1), whole])
    excess = max(0, math.ceil(math.log2((rows + 1) * 2.0**FRACTION_BITS / _LARGEST_SUM)))
    return round_off(session, (sums, excess))[0]


def logarithms_of_parts(session: Session, parts: Shared, whole: Shared) -> Shared:
    """ln of every part, shape (parts,), up to a common constant; a part below one unit counts as 1e-6 of the whole.

    A logarithm of 0 would be a wrong number, and a sum of no rows or of weights 0 is possible: owners of some of the
    rows, or of labels without the weights, cannot know.

    Parameters
    ----------
    parts, whole
        Integers below 2^30, shapes (parts,) and (1,).
    """
    (none,) = (negative(session, parts - to_ring(1)),)
    (excess,) = select(session, ~none, parts - to_ring(1))
    logs = logarithm(session, concatenate([excess + to_ring(1), whole]), FRACTION_BITS)
    least = logs[-1:] + encode(math.log(LEAST_PRIOR), FRACTION_BITS)
    (change,) = select(session, none, least - logs[:-1])
    return logs[:-1] + change


def square(session: Session, difference: Shared) -> Shared:
    """Squares with 24 fraction bits of values with 24, of magnitudes below 2^13. The factors have 18."""
    drop = 6
    (coarse,) = truncate(session, (difference, drop))
    (product,) = multiply(session, (coarse, coarse))
    (result,) = truncate(session, (product, 2 * (FRACTION_BITS - drop) - FRACTION_BITS))
    return result


def round_off(session: Session, *values: tuple[Shared, int]) -> list[Shared]:
    """`truncate`, also by zero bits."""
    inexact = [pair for pair in values if pair[1]]
    rounded = iter(truncate(session, *inexact) if inexact else [])
    return [next(rounded) if bits else value for value, bits in values]

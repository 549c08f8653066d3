"""What 1 in shares stands for, and how fine it is: units and scales of every objective, from public facts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from veilboost.errors import InputError
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.trees.objective import to_margin
from veilboost.trees.parameters import Parameters

#: Of count:poisson: in gradients e^m is at most so many times the upper bound of the label: no count is larger than the
#: bound, so a larger prediction is too large, and all that a tree must learn of it is the sign.
LARGEST_MEAN = 4

_LARGEST_COUNT = 1e9
_LEAST_COUNT_BOUND = 1e-9

#: Quotients of sums of gradients and hessians stay below it (protocols/divide.py): so far, as a factor, may a given
#: base_score be from what the labels say.
_LARGEST_SCORE = 2.0**16

#: Of binary:logistic: odds of a first margin that is one Newton step from 0: the step stays within +-2.
_ODDS_OF_A_STEP = 8.0

_LARGEST_LABEL = 1e30
_NARROWEST_RANGE = 1e-30

#: Bits that gains have to spare with monotone constraints: |2 G w + H w^2| <= 3 rows W^2, for both sides and the node.
_ROOM_FOR_BOUNDED_WEIGHTS = 4


@dataclass(frozen=True)
class Unit:
    """What 1 in shares stands for.

    Attributes
    ----------
    middle, half_width
        A margin is middle + half_width * (shared margin); a leaf weight is half_width * (shared weight).
    hessian
        A hessian is hessian * (shared hessian); a gradient half_width * hessian * (shared gradient).
    """

    middle: float = 0.0
    half_width: float = 1.0
    hessian: float = 1.0

    @property
    def gain(self) -> float:
        """A gain is this times the shared gain."""
        return self.half_width**2 * self.hessian

    def scaled(self, parameters: Parameters) -> Parameters:
        """Regularisation in the unit of the shared gradients and hessians."""
        return parameters.model_copy(
            update={
                "reg_alpha": parameters.reg_alpha / (self.half_width * self.hessian),
                "reg_lambda": parameters.reg_lambda / self.hessian,
                "min_child_weight": parameters.min_child_weight / self.hessian,
                "max_delta_step": parameters.max_delta_step / self.half_width,
            }
        )


def largest_weight_of(parameters: Parameters, weight_range: tuple[float, float] | None) -> float | None:
    """Public bound of what a row's gradient is multiplied by; None where that is 1."""
    largest = None if weight_range is None else weight_range[1]
    if parameters.scale_pos_weight != 1:
        largest = (1.0 if largest is None else largest) * max(1.0, parameters.scale_pos_weight)
    return largest


def unit_of(parameters: Parameters, label_range: tuple[float, float] | None, largest_weight: float | None) -> Unit:
    """The unit of a job with these public facts.

    Parameters
    ----------
    label_range
        Bounds of the labels; required for reg:squarederror and count:poisson.
    largest_weight
        From `largest_weight_of`.

    Raises
    ------
    InputError
        Bounds that fixed point does not hold.
    """
    weight = 1.0 if largest_weight is None else largest_weight
    if parameters.objective in ("binary:logistic", "multi:softprob"):
        return Unit(hessian=weight)
    if label_range is None:
        raise ValueError(f"{parameters.objective} needs label_range")
    low, high = label_range
    if parameters.objective == "count:poisson":
        if low < 0 or not _LEAST_COUNT_BOUND <= high <= _LARGEST_COUNT:
            raise InputError(
                f"label_range: bounds of counts lie between 0 and {_LARGEST_COUNT:g}, and the upper one is at least "
                f"{_LEAST_COUNT_BOUND:g}: correct them"
            )
        return Unit(math.log(high), 1.0, high * weight)
    if max(abs(low), abs(high)) > _LARGEST_LABEL or high - low < _NARROWEST_RANGE:
        raise InputError(
            f"label_range: bounds must lie within +-{_LARGEST_LABEL:g} and at least {_NARROWEST_RANGE:g} apart: "
            "scale the label"
        )
    if high - low < np.spacing(np.float32(max(abs(low), abs(high)))):
        raise InputError(
            f"label_range: float32, in which models predict, has no number between {low:.10g} and {high:.10g}: "
            "subtract an offset from the label"
        )
    return Unit((low + high) / 2, (high - low) / 2, weight)


@dataclass(frozen=True)
class Bounds:
    """Public bounds of one row's derivatives, in the unit of the job: of the mean magnitude over all rows.

    Attributes
    ----------
    gradient, hessian
        Of each row.
    score
        Of G^2 / H per row of a node at the first tree.
    exact_hessians
        Whether hessians need no rounding.
    """

    gradient: float
    hessian: float
    score: float = 1.0
    exact_hessians: bool = False


def bounds_of(parameters: Parameters, label_range: tuple[float, float] | None, unit: Unit, weighted: bool) -> Bounds:
    """Bounds of derivatives under the job's objective; `weighted`: whether rows have weights.

    Raises
    ------
    InputError
        A `base_score` so far from all labels that the first weights would leave the fixed-point range.
    """
    base_score = parameters.base_score
    if parameters.objective == "binary:logistic":
        odds = 1.0 if base_score is None else base_score / (1.0 - base_score)
        score = max(odds, 1.0 / odds) if odds > 0 else math.inf
        if score > _LARGEST_SCORE:
            raise InputError(
                f"parameter base_score = {base_score:g} is too near 0 or 1: give a number from 1.6e-05 to 0.99998, or "
                "leave it out"
            )
        if base_score is None and parameters.scale_pos_weight != 1:
            score = _ODDS_OF_A_STEP
        return Bounds(1.0, 0.25, score)
    if parameters.objective == "multi:softprob":
        # With a given base score all classes have the probability 1 / classes; estimated, see docs/protocols/training.
        return Bounds(1.0, 0.5, 1.0 if base_score is None else max(1.0, (parameters.outputs - 1) / 2))
    if parameters.objective == "count:poisson":
        assert label_range is not None
        score = float(LARGEST_MEAN)
        if base_score is not None:
            score = max(score, label_range[1] / base_score)
            if score > _LARGEST_SCORE:
                raise InputError(
                    f"parameter base_score = {base_score:g} is too far below the upper bound of label_range: give "
                    f"{label_range[1] / _LARGEST_SCORE:.2g} or more, or leave it out"
                )
        return Bounds(LARGEST_MEAN, LARGEST_MEAN * poisson_factor(parameters), score)
    # Every residual begins within +-largest (labels and their mean lie within +-1), and boosting with a learning rate
    # of at most 1 never enlarges their squares' sum, if all rows train every tree. With samples of rows it may where
    # nothing holds it back (no reg_lambda, small samples): docs/protocols/training.md.
    largest = 2.0
    if base_score is not None:
        margin = (to_margin(parameters.objective, base_score) - unit.middle) / unit.half_width
        largest = max(2.0, 1.0 + abs(margin))
    # No sum of squares exceeds rows * largest^2, and so does no score of `gain`, which must stay below 2^62.
    return Bounds(max(largest, largest**2 / 4), 1.0, exact_hessians=not weighted)


def poisson_factor(parameters: Parameters) -> float:
    """Of count:poisson, h / e^m."""
    return math.exp(min(parameters.max_delta_step, 100.0))


def scales_of(
    parameters: Parameters, label_range: tuple[float, float] | None, unit: Unit, weighted: bool, rows: int
) -> Scales:
    """Fixed-point scales for a table of so many rows.

    Raises
    ------
    InputError
        When there are too many rows, or a `base_score` too far from the labels.
    """
    bounds = bounds_of(parameters, label_range, unit, weighted)
    reg_lambda = unit.scaled(parameters).reg_lambda
    scales = choose_scales(
        rows,
        bounds.gradient,
        bounds.hessian,
        reg_lambda,
        bounds.exact_hessians,
        largest_score=bounds.score,
        hessian_unit=unit.hessian,
    )
    if parameters.constrained:  # bounded weights may be far from the best ones: gains need more room
        return replace(scales, weight_bits=scales.weight_bits - _ROOM_FOR_BOUNDED_WEIGHTS)
    return scales

"""Fixed-point scales of gradient and hessian sums: public, from public bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from veilboost.errors import InputError
from veilboost.mpc.protocols.divide import DIVISOR_BITS
from veilboost.mpc.protocols.pack import HIGH_BITS

#: Gradient sums stay below 0.98 * 2^30, hessian sums plus 2 lambda below 0.98 * 2^30: they share a word
#: (protocols/pack.py) and are divided (protocols/divide.py).
_MARGIN = 0.98
_FEWEST_BITS = 6

#: Fraction bits of optimal weights, where gains leave room for them.
WEIGHT_BITS = 26


@dataclass(frozen=True)
class Scales:
    """Fraction bits of gradients and hessians in one job.

    Attributes
    ----------
    gradient_bits, hessian_bits
        Fraction bits. Sums over all rows fit the ranges that the split search divides in.
    exact_hessians
        Whether hessians need no rounding, as with squared error.
    weight_bits
        Fraction bits of optimal weights; a gain has gradient_bits + weight_bits and stays below 2^62.
    """

    gradient_bits: int
    hessian_bits: int
    exact_hessians: bool = False
    weight_bits: int = WEIGHT_BITS

    def hessian(self, real: float) -> int:
        """A public amount of hessian in fixed point; beyond 2^62, where no shared sum comes, as good as 2^62."""
        return round(min(real * float(1 << self.hessian_bits), 2.0**62))

    def least_hessian(self, min_child_weight: float) -> int:
        """The smallest hessian sum that counts as `min_child_weight`: below it by no more than rounding explains.

        Sums that are exactly enough in real numbers are, as a rule, those of a few rows of the largest hessian, such as
        four rows of p = 1/2. Every row is rounded to a neighbouring unit, up or down at random without bias, with a
        variance of at most 1/4; four standard deviations of 4 `min_child_weight` rows are allowed. More would let sides
        pass that XGBoost refuses, such as four rows of p = 0.52.
        """
        least = self.hessian(min_child_weight)
        rounding = 8 + 4 * math.isqrt(math.ceil(min(min_child_weight, 2.0**62)))
        return max(1, least - (0 if self.exact_hessians else rounding))


def choose_scales(
    rows: int,
    largest_gradient: float,
    largest_hessian: float,
    reg_lambda: float,
    exact_hessians: bool = False,
    largest_score: float = 1.0,
    hessian_unit: float = 1.0,
) -> Scales:
    """The finest scales whose sums over all rows fit.

    Parameters
    ----------
    largest_gradient, largest_hessian
        Public bounds of the mean magnitude over the rows.
    largest_score
        Public bound of G^2 / H per row of a node at the first tree.
    hessian_unit
        What a hessian of 1, and of `reg_lambda`, stands for; for messages.

    Raises
    ------
    InputError
        When fewer than six fraction bits would be left: too many rows, too large a lambda, or gradients too large for
        them.
    """
    gradient_bits = _bits_below(HIGH_BITS, rows * largest_gradient)
    hessian_bits = _bits_below(DIVISOR_BITS, rows * largest_hessian + 2 * reg_lambda)
    if min(gradient_bits, hessian_bits) < _FEWEST_BITS:
        unit = "" if hessian_unit == 1 else f" and the upper bound {hessian_unit:g} of weights or counts"
        raise InputError(
            f"{rows} rows with reg_lambda = {reg_lambda * hessian_unit:g}{unit} exceed the fixed-point range of "
            "training: use fewer rows, a smaller reg_lambda, a base_score near the labels, or for counts a smaller "
            "max_delta_step"
        )
    weight_bits = min(WEIGHT_BITS, 61 - HIGH_BITS - math.ceil(math.log2(max(1.0, largest_score))))
    return Scales(min(gradient_bits, 24), min(hessian_bits, 24), exact_hessians, weight_bits)


def _bits_below(bits: int, largest: float) -> int:
    """Fraction bits with which numbers up to `largest` stay below 2^bits, with a margin; negative if there are none."""
    room = _MARGIN * 2**bits / largest  # 0 if the bound is infinite, or nearly
    return math.floor(math.log2(room)) if room > 0 else -1

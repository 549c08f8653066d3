"""Softplus, logarithm of a sum of exponentials, and an exponential that is capped: what losses are made of.

docs/protocols/softplus.md; the series of sigmoid.py for other functions (Y. Zheng, Q. Zhang, S. S. M. Chow, Y. Peng,
S. Tan, L. Li, S. Yin, "Secure softmax/sigmoid for machine-learning computation", ACSAC 2023).
"""

from __future__ import annotations

import math

import numpy as np

from veilboost.mpc.fixed_point import encode
from veilboost.mpc.protocols.argmax import argmax
from veilboost.mpc.protocols.divide import DIVISOR_BITS, logarithm
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.sigmoid import (
    BOUND,
    FRACTION_BITS,
    compare_opened,
    masked_waves,
    sum_of_waves,
)
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, stack, stack_bits

#: Constant and cosine coefficients of log(1 + exp(x)) - x/2 on [-12, 12], period 32: largest error 1.1e-7.
_SOFTPLUS: tuple[float, tuple[float, ...]] = (
    3.983788989746,
    (
        -3.010675944462,
        -0.040133266135,
        -0.169665555436,
        -0.04735524135,
        0.00925219362,
        -0.041511115357,
        0.027582114687,
        -0.02816016634,
        0.019593897225,
        -0.015285235602,
        0.009957654053,
        -0.006636322181,
        0.003888208694,
        -0.00223751759,
        0.001133953322,
        -0.000547434167,
        0.000223943628,
        -8.3631862e-05,
        2.284563e-05,
        -5.083191e-06,
    ),
)

#: Constant, sine and cosine coefficients of exp(x) on [-12, 0], period 32: largest error 1.8e-7. More and smaller ones
#: than those of sigmoid.py, so that the roundings of the waves weigh less.
_EXPONENTIAL: tuple[float, tuple[float, ...], tuple[float, ...]] = (
    1.311904976046,
    (
        0.0,
        0.0,
        7.983324566272,
        0.0,
        -3.199008649179,
        -0.088441879742,
        -1.692542860617,
        -0.057647873476,
        1.56846982307,
        -0.079195180058,
        -0.374417322886,
        0.046590544638,
        0.01809947843,
        -0.00160284496,
    ),
    (
        0.033819972602,
        5.144549711936,
        0.0,
        -6.720560177371,
        -0.068621272447,
        0.0,
        0.0,
        2.018439252339,
        0.0,
        -0.898637308749,
        0.087329609586,
        0.106306982461,
        -0.013178821029,
        -0.001353011641,
    ),
)


def softplus(session: Session, value: Shared) -> Shared:
    """log(1 + exp(x)) to an absolute error below 1e-5 for every |x| < 2^37; 9 rounds.

    Parameters
    ----------
    value
        Fixed point with 24 fraction bits, shape (count,); so is the result.

    Notes
    -----
    1. `masked_waves`: open c = x + r, with shared bits, sines and cosines of r.
    2. below = [x < -12], under = [x < 12] from the same opening: inside = below ^ under, above = not under.
    3. log(1 + exp(x)) - x/2 is even: its cosine series plus x/2 is a linear function of the shares; truncate it to 24
       fraction bits. Outside +-12 it means nothing.
    4. inside (series + x/2) + above x.
    """
    constant, cosines = _SOFTPLUS
    opened, mask_bits, waves = masked_waves(session, value, len(cosines))
    below, under = compare_opened(session, opened, mask_bits, (-BOUND, BOUND))
    inner = sum_of_waves(session, opened, waves, constant, (0.0,) * len(cosines), cosines, value)
    bits = stack_bits([below ^ under, ~under])
    (parts,) = select(session, bits, stack([inner, value]))
    return parts.sum(axis=0)


def capped_exponential(session: Session, value: Shared) -> Shared:
    """min(exp(x), 1), and 0 below -24, for every |x| < 2^37; 12 rounds.

    The absolute error is below 2e-6 exp(x / 2) + 2^-23: small values are more precise than those of `exponential`.

    Parameters
    ----------
    value
        Fixed point with 24 fraction bits, shape (count,); so is the result.

    Notes
    -----
    1. Truncate x to y = x / 2.
    2. `masked_waves` of y; below = [y < -12] and under = [y < 0]: inside = below ^ under, above = not under.
    3. Root = inside times the series of exp(y), plus above.
    4. Its square, truncated.
    """
    constant, sines, cosines = _EXPONENTIAL
    (half,) = truncate(session, (value, 1))
    opened, mask_bits, waves = masked_waves(session, half, len(sines))
    below, under = compare_opened(session, opened, mask_bits, (-BOUND, 0))
    inner = sum_of_waves(session, opened, waves, constant, sines, cosines)
    one = session.constant(np.broadcast_to(encode(1.0, FRACTION_BITS), inner.shape))
    (parts,) = select(session, stack_bits([below ^ under, ~under]), stack([inner, one]))
    root = parts.sum(axis=0)
    (square,) = multiply(session, (root, root))
    (result,) = truncate(session, (square, FRACTION_BITS))
    return result


def log_sum_exp(session: Session, values: Shared) -> Shared:
    """log of the sum of exp(x) over the last axis of shape (rows, classes), at most 63 classes; shape (rows,).

    Fixed point with 24 fraction bits in and out; absolute error below 2e-5.

    Notes
    -----
    1. Subtract the row's maximum (`argmax`).
    2. `capped_exponential` of all; their sum lies in [1, classes].
    3. The maximum plus the `logarithm` of the sum.
    """
    rows, classes = values.shape
    (largest,) = argmax(session, values)
    relative = (values - largest.reshape(rows, 1)).reshape(rows * classes)
    total = capped_exponential(session, relative).reshape(rows, classes).sum(axis=1)
    logs = logarithm(session, total, FRACTION_BITS)
    return largest + logs + encode((DIVISOR_BITS - FRACTION_BITS) * math.log(2.0), FRACTION_BITS)

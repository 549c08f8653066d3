"""Logistic function and softmax of shared values, as trigonometric series of their masks.

docs/protocols/sigmoid.md; Y. Zheng, Q. Zhang, S. S. M. Chow, Y. Peng, S. Tan, L. Li, S. Yin, "Secure softmax/sigmoid
for machine-learning computation", ACSAC 2023. With c = x + r opened, sin(k(c - r)) is a linear function of the shared
sin(kr), cos(kr), so that a series on a bounded interval costs one round; comparisons clamp what lies outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.fixed_point import encode
from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols.argmax import argmax
from veilboost.mpc.protocols.compare import sign_of_difference
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import WORD_BITS, Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, stack, stack_bits

#: Fraction bits of arguments and results.
FRACTION_BITS = 24

#: Outside +-12 the logistic function is 0 or 1 up to 6.2e-6; exp(-12) likewise.
BOUND = 12
#: Period of the series: 2^5.
_PERIOD_BITS = 5
_SHARED_BITS = 24
_PUBLIC_BITS = 28

#: Sine coefficients of 1/(1 + exp(-x)) - 1/2 on [-12, 12], period 32: largest error 5.5e-7.
_LOGISTIC: tuple[float, ...] = (
    0.600180823757,
    -0.001368474948,
    0.123429164934,
    0.009596623487,
    0.020189968649,
    0.020229898282,
    -0.011684730402,
    0.021713461761,
    -0.01642509789,
    0.016167787736,
    -0.011610530349,
    0.0090115775,
    -0.005794101403,
    0.003770834162,
    -0.002087500128,
    0.001128363872,
    -0.000503515551,
    0.000211671449,
    -6.3317615e-05,
    1.6606889e-05,
)
#: Constant, sine and cosine coefficients of exp(x) on [-12, 0], period 32: largest error 6.1e-7.
_EXPONENTIAL: tuple[float, tuple[float, ...], tuple[float, ...]] = (
    65.3934298143,
    (
        114.2294190331,
        -32.8468566486,
        -37.0260375996,
        16.0528424792,
        2.6196687592,
        -1.7123458685,
        0.0639289683,
        0.0190104009,
    ),
    (
        -22.9349851698,
        -75.6039173567,
        27.7832817048,
        12.6788767566,
        -6.4289248848,
        -0.1472553021,
        0.2714411468,
        -0.0119473155,
    ),
)


def sigmoid(session: Session, value: Shared) -> Shared:
    """1 / (1 + exp(-x)) to an absolute error below 1e-5 for every |x| < 2^37; 9 rounds.

    Parameters
    ----------
    value
        Fixed point with 24 fraction bits, shape (count,); so is the result.

    Notes
    -----
    1. `masked_waves`: open c = x + r, with shared bits, sines and cosines of r.
    2. below = [x < -12], under = [x < 12] from the same opening: inside = below ^ under, above = not under.
    3. The sine series of x is a linear function of the shares; truncate it to 24 fraction bits.
    4. inside (series + 1/2) + above.
    """
    opened, mask_bits, waves = masked_waves(session, value, len(_LOGISTIC))
    below, under = compare_opened(session, opened, mask_bits, (-BOUND, BOUND))
    series = sum_of_waves(session, opened, waves, 0.5, _LOGISTIC, None)
    one = session.constant(np.broadcast_to(encode(1.0, FRACTION_BITS), series.shape))
    bits = stack_bits([below ^ under, ~under])
    (parts,) = select(session, bits, stack([series, one]))
    return parts.sum(axis=0)


def exponential(session: Session, value: Shared) -> Shared:
    """exp(x) for x <= 0 (up to rounding), 0 below -12, to an absolute error below 1e-5. 9 rounds.

    Parameters
    ----------
    value
        Fixed point with 24 fraction bits, shape (count,); so is the result.
    """
    constant, sines, cosines = _EXPONENTIAL
    opened, mask_bits, waves = masked_waves(session, value, len(sines))
    (below,) = compare_opened(session, opened, mask_bits, (-BOUND,))
    series = sum_of_waves(session, opened, waves, constant, sines, cosines)
    (result,) = select(session, ~below, series)
    return result


def softmax(session: Session, values: Shared) -> Shared:
    """Softmax over the last axis of shape (rows, classes), at most 63 classes, to an absolute error below 1e-4.

    Fixed point with 24 fraction bits in and out.

    Notes
    -----
    1. Subtract the row's maximum (`argmax`).
    2. `exponential` of all; their sum lies in [1, classes].
    3. `divide` by the sum.
    """
    rows, classes = values.shape
    (largest,) = argmax(session, values)
    powers = exponential(session, (values - largest.reshape(rows, 1)).reshape(rows * classes)).reshape(rows, classes)
    return divide(session, powers, powers.sum(axis=1).reshape(rows, 1), FRACTION_BITS, 2)


def masked_waves(session: Session, value: Shared, terms: int) -> tuple[Words | None, SharedBits, Shared]:
    """Open c = x + r; share the bits of r and, per term k, sin and cos of 2 pi k r / period."""
    count = value.size

    def derive(r: Words) -> list[Words]:
        waves = np.stack(list(_harmonics(r, terms))).reshape(2 * terms, count)
        return [transpose_bits(r, WORD_BITS), encode(waves, _SHARED_BITS)]

    dealt = session.correlate(
        Correlation(
            "series",
            masks=[ring_field(count)],
            derived=[bits_field(count, WORD_BITS), ring_field(2 * terms, count)],
            derive=derive,
        )
    )
    opened = None if session.dealing else session.open_masked((value, dealt.ring_mask(0)))[0]
    return opened, dealt.bits(0), dealt.ring(1)


def sum_of_waves(
    session: Session,
    opened: Words | None,
    waves: Shared,
    constant: float,
    sines: Sequence[float],
    cosines: Sequence[float] | None,
    halved: Shared | None = None,
) -> Shared:
    """constant + sum of a_k sin(k x) + b_k cos(k x) from c and the shared waves of r, with 24 fraction bits.

    With `halved`, a shared array with 24 fraction bits and |x| < 2^10, half of it is added in the same truncation.
    """
    total = Shared(session.holder, None, waves.shape[1:])
    if opened is not None:
        words = np.zeros(waves.shape[1:], dtype=np.uint64)
        for k, (sine, cosine) in enumerate(_harmonics(opened, len(sines))):
            # sin(c - r) = sin c cos r - cos c sin r;  cos(c - r) = cos c cos r + sin c sin r
            with_cosine = sines[k] * sine + (cosines[k] * cosine if cosines else 0.0)
            with_sine = -sines[k] * cosine + (cosines[k] * sine if cosines else 0.0)
            words += waves.words[2 * k] * encode(with_sine, _PUBLIC_BITS)
            words += waves.words[2 * k + 1] * encode(with_cosine, _PUBLIC_BITS)
        total = Shared(session.holder, words)
    if halved is not None:
        total = total + halved * to_ring(1 << (_SHARED_BITS + _PUBLIC_BITS - FRACTION_BITS - 1))
    (result,) = truncate(session, (total, _SHARED_BITS + _PUBLIC_BITS - FRACTION_BITS))
    return result + encode(constant, FRACTION_BITS)


def compare_opened(
    session: Session, opened: Words | None, mask_bits: SharedBits, bounds: Sequence[int]
) -> list[SharedBits]:
    """[x < bound] for several public bounds, from one opening. Six rounds."""
    count, width = mask_bits.count, mask_bits.shape[-1]
    every = WORD_BITS * width * len(bounds)
    shifted, planes = None, None
    if opened is not None:
        rows = np.zeros((len(bounds), WORD_BITS * width), dtype=np.uint64)
        for row, bound in zip(rows, bounds, strict=True):
            row[:count] = opened - encode(float(bound), FRACTION_BITS)
        shifted = rows.reshape(every)
        planes = np.concatenate([mask_bits.words] * len(bounds), axis=1)
    repeated = SharedBits(session.holder, planes, every, (WORD_BITS, width * len(bounds)))
    sign = sign_of_difference(session, shifted, repeated)
    parts = [None if sign.hollow else sign.words[i * width : (i + 1) * width] for i in range(len(bounds))]
    return [SharedBits(session.holder, part, count, (width,)) for part in parts]


def _harmonics(words: Words, terms: int) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """(sin k a, cos k a) for k = 1 to terms, where a is the angle of fixed-point words within the period.

    All owners must compute the same floating-point numbers, on any machine: only additions and multiplications, which
    IEEE 754 fixes to the last bit, and no library's sine.
    """
    bits = _PERIOD_BITS + FRACTION_BITS
    turns = (words & to_ring((1 << bits) - 1)).astype(np.float64) * 2.0**-bits
    quarter = np.floor(turns * 4.0 + 0.5)
    angle = (turns - quarter * 0.25) * (2.0 * np.pi)
    square = angle * angle
    sine, cosine = np.zeros_like(angle), np.zeros_like(angle)
    for order in range(9, -1, -1):  # Taylor, |angle| <= pi/4: remainder below 1e-17
        sine = 1.0 - square * sine * (1.0 / ((2 * order + 2) * (2 * order + 3)))
        cosine = 1.0 - square * cosine * (1.0 / ((2 * order + 1) * (2 * order + 2)))
    sine = angle * sine
    turned = quarter.astype(np.int64) & 3
    first_sine = np.choose(turned, [sine, cosine, -sine, -cosine])
    first_cosine = np.choose(turned, [cosine, -sine, -cosine, sine])
    pairs = [(first_sine, first_cosine)]
    before_sine, before_cosine = np.zeros_like(sine), np.ones_like(sine)
    for _ in range(terms - 1):
        last_sine, last_cosine = pairs[-1]
        pairs.append((2.0 * first_cosine * last_sine - before_sine, 2.0 * first_cosine * last_cosine - before_cosine))
        before_sine, before_cosine = last_sine, last_cosine
    return pairs

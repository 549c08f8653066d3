"""Division, reciprocal and logarithm of shared values, after bringing them to a common magnitude.

docs/protocols/divide.md; normalisation and iteration after O. Catrina, A. Saxena, "Secure computation with fixed-point
numbers", FC 2010; R. Goldschmidt's multiplicative iteration, 1964.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.compare import leading_one
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import to_ring
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import to_ring as encode_integers
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared

#: Divisors and values to normalise lie below 2^30; normalised values have 30 fraction bits.
DIVISOR_BITS = 30
_ONE = 1 << DIVISOR_BITS

#: 48/17 - 32/17 d, the best line for 1/d on [1/2, 1): relative error 1/17.
_LINE = (round(48 / 17 * _ONE), 32 / 17)

#: ln m around m = 3/4 on [1/2, 1), absolute error 8.7e-6, coefficients of rising powers.
_LOGARITHM = (
    -0.2876903980079223,
    1.3333929395831194,
    -0.8865318139008255,
    0.7842139478094681,
    -0.8873662097680234,
    0.9953423152421739,
)


def weighted_bits(planes: Shared, weights: npt.NDArray[np.int64]) -> Shared:
    """Sum of shared bits (planes on the first axis) times public integers."""
    total: Shared | None = None
    for position, weight in enumerate(encode_integers(weights)):
        term = planes[position] * weight
        total = term if total is None else total + term
    assert total is not None
    return total


def reciprocal(session: Session, divisor: Shared) -> tuple[Shared, Shared]:
    """1 / d in floating form, for integers 0 < d < 2^30; 22 rounds, 18 for few elements.

    Returns
    -------
    inverse, power
        Both of the divisor's shape: `power` is 2^j with 2^29 <= d 2^j < 2^30, and `inverse` is 2^60 / (d 2^j),
        which lies in (2^30, 2^31], with a relative error below 2^-27.4. Both mean nothing where d = 0 (power is 0).

    Notes
    -----
    1. `leading_one` of d as ring elements gives 2^j; n = d 2^j.
    2. y = 48/17 - 32/17 n approximates 1/n with error e_0 = 1 - n y.
    3. Goldschmidt: 1/n = y (1 + e_0)(1 + e_0^2)(1 + e_0^4) up to e_0^8.
    """
    shape = divisor.shape
    flat = divisor.reshape(divisor.size)
    leading = to_ring(session, leading_one(session, flat, 0, DIVISOR_BITS))
    power = weighted_bits(leading, 1 << np.arange(DIVISOR_BITS - 1, -1, -1, dtype=np.int64))
    (normal,) = multiply(session, (flat, power))
    # 32/17 n at 30 fraction bits: the factor is public with 24 bits of its own.
    (slope,) = truncate(session, (normal * encode_integers(round(_LINE[1] * (1 << 24))), 24))
    estimate = encode_integers(_LINE[0]) - slope
    (product,) = multiply(session, (normal, estimate))
    (product,) = truncate(session, (product, DIVISOR_BITS))
    error = encode_integers(_ONE) - product
    for last in (False, True):
        square, corrected = multiply(session, (error, error), (estimate, error))
        square, corrected = truncate(session, (square, DIVISOR_BITS), (corrected, DIVISOR_BITS))
        estimate, error = estimate + corrected, square
        if last:
            (corrected,) = multiply(session, (estimate, error))
            (corrected,) = truncate(session, (corrected, DIVISOR_BITS))
            estimate = estimate + corrected
    return estimate.reshape(*shape), power.reshape(*shape)


def divide(session: Session, numerator: Shared, divisor: Shared, fraction_bits: int, quotient_bits: int = 16) -> Shared:
    """x / d with `fraction_bits` fraction bits, for integers |x| < 0.99 2^31 and 0 < d < 2^30.

    The quotient's magnitude must stay below 2^quotient_bits; 60 - quotient_bits > fraction_bits. Broadcasts. 26 rounds,
    22 for few elements; error below 2^-27 of the quotient, plus 2^(quotient_bits - 30) / d, plus one unit in the last
    place. The second part is 2^(quotient_bits - 30) of the quotient of a numerator of one unit, and less of larger
    ones.
    """
    inverse, power = reciprocal(session, divisor)
    return quotient(session, numerator, inverse, power, fraction_bits, quotient_bits)


def quotient(
    session: Session, numerator: Shared, inverse: Shared, power: Shared, fraction_bits: int, quotient_bits: int = 16
) -> Shared:
    """The second half of `divide`, for a reciprocal that is at hand. Four rounds."""
    (product,) = multiply(session, (numerator, inverse))
    (product,) = truncate(session, (product, quotient_bits))
    (scaled,) = multiply(session, (product, power))
    (result,) = truncate(session, (scaled, 2 * DIVISOR_BITS - quotient_bits - fraction_bits))
    return result


def logarithm(session: Session, value: Shared, result_bits: int) -> Shared:
    """ln(x 2^-30) of integers 0 < x < 2^30, with `result_bits` fraction bits; error about 1e-5.

    20 rounds, 16 for few elements.

    Notes
    -----
    1. `leading_one` gives 2^j and j ln 2; m = x 2^(j - 30) in [1/2, 1) with 30 fraction bits.
    2. t = m - 3/4; t^2; t^3 and t^4; t^5 - then ln m as a polynomial of degree five.
    3. ln(x 2^-30) = ln m - j ln 2.
    """
    shape = value.shape
    flat = value.reshape(value.size)
    leading = to_ring(session, leading_one(session, flat, 0, DIVISOR_BITS))
    shifts = np.arange(DIVISOR_BITS - 1, -1, -1, dtype=np.int64)
    power = weighted_bits(leading, 1 << shifts)
    exponent = weighted_bits(leading, np.rint(shifts * np.log(2.0) * (1 << result_bits)).astype(np.int64))
    (normal,) = multiply(session, (flat, power))
    powers = _powers(session, normal - encode_integers(3 * _ONE // 4))
    total = powers[0] * encode_integers(round(_LOGARITHM[1] * (1 << result_bits)))
    for coefficient, monomial in zip(_LOGARITHM[2:], powers[1:], strict=True):
        total = total + monomial * encode_integers(round(coefficient * (1 << result_bits)))
    (polynomial,) = truncate(session, (total, DIVISOR_BITS))
    result = polynomial + encode_integers(round(_LOGARITHM[0] * (1 << result_bits))) - exponent
    return result.reshape(*shape)


def _powers(session: Session, t: Shared) -> list[Shared]:
    """t, t^2, ... t^5 at 30 fraction bits, for |t| <= 1/2. Six rounds."""
    (square,) = multiply(session, (t, t))
    (square,) = truncate(session, (square, DIVISOR_BITS))
    cube, fourth = multiply(session, (square, t), (square, square))
    cube, fourth = truncate(session, (cube, DIVISOR_BITS), (fourth, DIVISOR_BITS))
    (fifth,) = multiply(session, (cube, square))
    (fifth,) = truncate(session, (fifth, DIVISOR_BITS))
    return [t, square, cube, fourth, fifth]

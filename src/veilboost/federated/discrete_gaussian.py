"""Exact samples of the discrete Gaussian: P(x) proportional to exp(-x^2 / (2 sigma^2)) for all integers x.

After Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", NeurIPS 2020 [CKS20], section 5:

1. Bernoulli(exp(-gamma)), gamma rational (Algorithm 1). For 0 <= gamma <= 1 draw bits of probability gamma / K for
   K = 1, 2, ... up to the first 0; the result is 1 iff that K is odd. A larger gamma needs a 1 from every whole unit
   and from the rest.
2. Discrete Laplace of scale t (Algorithm 2): U uniform in 0..t-1, kept with probability exp(-U / t); V the number of
   bits of probability exp(-1) before the first 0; |Y| = U + t V and a fair sign, -0 drawn again.
3. Discrete Gaussian (Algorithm 3): t = floor(sigma) + 1; Y is kept with probability
   exp(-(|Y| - sigma^2 / t)^2 / (2 sigma^2)).

**Why this is exact at every sigma.** All chances are rational numbers, and all that is ever asked is whether U < a / b
for a uniform real U of [0, 1). The binary digits of U are the words of the stream. Its first 64 are compared with the
first 64 of a / b, as whole numbers; if they are equal (once in 2^64 times) the next 64 of both are, and so on. The
digits of a / b come from long division: by 64-bit integers where the remainder leaves them room, otherwise, in step 3,
by integers of unlimited size. No number is ever rounded, and float64 does not occur. What is left between the samples
and the law is the pseudorandomness of AES-256 in counter mode.

The running time depends on the stream and, through the number of rejections, on the samples; who can time a call to
within microseconds may learn a little about the sum of a batch's rejections, and nothing about single samples.

[CKS20]: https://arxiv.org/abs/2004.00010
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import isqrt

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.mpc.prg import KEY_BYTES, Stream
from veilboost.mpc.ring import WORD_BITS, Words

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: Larger standard deviations would leave long division by 64-bit integers no room, and the ring no room for sums.
MOST_SIGMA_BITS = 47

#: A batch draws at most so many candidates at once.
_BATCH = 1 << 18


def fresh_stream() -> Stream:
    """A stream under a key that nobody else will ever know; for noise of one aggregator, never shared."""
    return Stream(secrets.token_bytes(KEY_BYTES), 0)


def sample(variance: Fraction, count: int, stream: Stream) -> Int64:
    """Independent samples of the discrete Gaussian.

    Parameters
    ----------
    variance
        sigma^2, rational, above 0 and below 2^94. The variance of the samples is a little below, by less than 1e-6 of
        it from sigma = 1 on.
    count
        Number of samples.
    stream
        Source of all coins; whoever knows its key knows the samples.

    Returns
    -------
    int64, shape (count,)

    Raises
    ------
    InputError
        The variance is not above 0, or too large.
    """
    if variance <= 0 or isqrt(int(variance)) >> MOST_SIGMA_BITS:
        raise InputError(f"the variance of noise must be above 0 and below 2^{2 * MOST_SIGMA_BITS}: change the budget")
    scale = isqrt(variance.numerator // variance.denominator) + 1
    kept, missing = [np.zeros(0, dtype=np.int64)], count
    while missing > 0:
        # Three quarters of the candidates are kept where sigma is large, half of them at sigma = 1.
        candidates = discrete_laplace(scale, min(_BATCH, missing + missing // 2 + 16), stream)
        kept.append(candidates[_is_gaussian(candidates, variance, scale, stream)][:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept)


def discrete_laplace(scale: int, count: int, stream: Stream) -> Int64:
    """Independent samples of P(x) proportional to exp(-|x| / scale); `scale` from 1 to 2^47.

    Returns
    -------
    int64, shape (count,)
    """
    kept, missing = [np.zeros(0, dtype=np.int64)], count
    while missing > 0:
        size = min(_BATCH, 2 * missing + 16)
        below = _uniform(scale, size, stream)
        below = below[bernoulli_exp(_digits_of(below, scale), below.tolist(), scale, stream)]
        below = below[: missing + missing // 2 + 16]
        magnitude = below + scale * _geometric(len(below), stream)
        negative = (stream.words(len(below)) & np.uint64(1)).astype(np.bool_)
        signed = np.where(negative, -magnitude, magnitude)[~(negative & (magnitude == 0))]
        kept.append(signed[:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept)


def _is_gaussian(candidates: Int64, variance: Fraction, scale: int, stream: Stream) -> Bool:
    """Which candidates of step 3 are kept: gamma = (|Y| q t - p)^2 / (2 p q t^2) for sigma^2 = p / q."""
    p, q = variance.numerator, variance.denominator
    denominator = 2 * p * q * scale * scale
    parts = [divmod((abs(y) * q * scale - p) ** 2, denominator) for y in candidates.tolist()]
    units = np.array([min(unit, 1 << 62) for unit, _ in parts], dtype=np.int64)
    kept = np.ones(len(candidates), dtype=np.bool_)
    unit = 0
    while len(asked := np.flatnonzero(kept & (units > unit))):  # exp(-1) of them are left after each unit
        kept[asked] = _bernoulli_inverse_e(len(asked), stream)
        unit += 1
    asked = np.flatnonzero(kept)
    rests = [parts[index][1] for index in asked.tolist()]
    digits = np.array([(rest << WORD_BITS) // denominator for rest in rests], dtype=np.uint64)
    kept[asked] = bernoulli_exp(digits, rests, denominator, stream)
    return kept


def _geometric(count: int, stream: Stream) -> Int64:
    """Numbers of bits of probability exp(-1) before the first 0."""
    successes = np.zeros(count, dtype=np.int64)
    going = np.arange(count)
    while len(going):
        going = going[_bernoulli_inverse_e(len(going), stream)]
        successes[going] += 1
    return successes


def _uniform(bound: int, count: int, stream: Stream) -> Int64:
    """At most `count` uniform integers from 0 to bound - 1; `bound` up to 2^62."""
    mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
    drawn = (stream.words(count) & mask).astype(np.int64)
    return drawn[drawn < bound]


def bernoulli_exp(digits: Words, numerators: Sequence[int], denominator: int, stream: Stream) -> Bool:
    """Bits of probability exp(-a / b), one for every a, 0 <= a < b.

    Parameters
    ----------
    digits
        floor(a 2^64 / b), shape (count,).
    numerators, denominator
        All a, and b; asked only where 64 digits do not decide.

    Returns
    -------
    bool, shape (count,)
    """
    odd = np.zeros(len(digits), dtype=np.bool_)
    going, k = np.arange(len(digits)), 1
    while len(going):
        # floor(gamma 2^64 / K) = floor(floor(gamma 2^64) / K).
        ones = is_below(digits[going] // k, lambda index: (numerators[going[index]], denominator * k), stream)  # noqa: B023
        odd[going[~ones]] = k % 2 == 1
        going, k = going[ones], k + 1
    return odd


def _bernoulli_inverse_e(count: int, stream: Stream) -> Bool:
    """Bits of probability exp(-1), shape (count,): gamma is 1, so the bit of K = 1 is 1 and is left out."""
    odd = np.zeros(count, dtype=np.bool_)
    going, k = np.arange(count), 2
    while len(going):
        chances = np.full(len(going), (1 << WORD_BITS) // k, dtype=np.uint64)
        ones = is_below(chances, lambda index: (1, k), stream)  # noqa: B023
        odd[going[~ones]] = k % 2 == 1
        going, k = going[ones], k + 1
    return odd


def is_below(chances: Words, exact: Callable[[int], tuple[int, int]], stream: Stream) -> Bool:
    """Whether U < a / b, for a fresh uniform U of [0, 1) for each chance a / b.

    Parameters
    ----------
    chances
        floor(a 2^64 / b), shape (count,), 0 <= a < b.
    exact
        a and b of an index; asked only where the first 64 digits of U are those of a / b.

    Returns
    -------
    bool, shape (count,)
    """
    drawn = stream.words(len(chances))
    below = drawn < chances
    for index in np.flatnonzero(drawn == chances).tolist():
        below[index] = _is_below_further_on(*exact(index), stream)
    return below


def _is_below_further_on(numerator: int, denominator: int, stream: Stream) -> bool:
    """Whether U < a / b when the first 64 digits of both are equal."""
    for digits in _words_of(numerator, denominator):
        drawn = int(stream.words(1)[0])
        if drawn != digits:
            return drawn < digits
    return False  # a / b has no digits left, and U is at least as large


def _words_of(numerator: int, denominator: int) -> Iterator[int]:
    """The second, third, ... 64 digits of a / b, up to the last that is not 0."""
    rest = (numerator << WORD_BITS) % denominator
    while rest:
        digits, rest = divmod(rest << WORD_BITS, denominator)
        yield digits


def _digits_of(numerators: Int64, denominator: int) -> Words:
    """floor(a 2^64 / b) for all a, 0 <= a < b < 2^48, by long division in digits of as many bits as have room."""
    rest, divisor = numerators.astype(np.uint64), np.uint64(denominator)
    quotient, left = np.zeros(len(rest), dtype=np.uint64), WORD_BITS
    while left:
        bits = min(left, WORD_BITS - denominator.bit_length(), 32)
        rest = rest << np.uint64(bits)
        quotient = quotient << np.uint64(bits) | rest // divisor
        rest, left = rest % divisor, left - bits
    return quotient

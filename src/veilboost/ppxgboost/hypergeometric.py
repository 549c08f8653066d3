"""Hypergeometric numbers, exactly distributed, and the same from the same coins on every machine.

N balls, M of them marked, n drawn without replacement: x of the drawn ones are marked with probability
p(x) = C(M, x) C(N - M, n - x) / C(N, n). `sample` proposes x by integers and coins only and keeps it with a
probability A that is compared with a uniform U exactly; so p is met without error, given uniform coins.

**Halves** (n about N / 2, M at most `HALVES`). Every marked ball is drawn or not by one fair coin: x is their sum, with
probability C(M, x) 2^-M. Then p(x) / that is proportional to g(x) = [n]_x [N - n]_(M - x), falling factorials, with
g(x + 1) / g(x) = (n - x) / (N - n - M + x + 1), which falls: g is largest at t = floor((2n - N + M + 1) / 2). So
A = g(x) / g(t) is a product of |x - t| fractions of integers, all at most 1.

**Blocks** (all else). Let f(x) = log p(x + 1) / p(x) = log (M - x)(n - x) / ((x + 1)(N - M - n + x + 1)) and
h = -f', so h(x) = 1/(M - x) + 1/(x + 1) + 1/(n - x) + 1/(N - M - n + x + 1). As 1/a + 1/b >= 4/(a + b),

    h(x) >= 4/(M + 1) + 4/(N - M + 1) = 1/s^2,  s^2 = (M + 1)(N - M + 1) / (4 (N + 2)),

and the same with n for M. With the mode m = floor((M + 1)(n + 1) / (N + 2)), f(m) <= 0 <= f(m - 1), so by summing f

    log p(m + k) / p(m) <= -k (k - 1) / (2 s^2)   for all k, negative ones too.                                (1)

Both sides of m are cut into blocks of w places, block i has k in [iw, iw + w) to the right, -k - 1 in the same to
the left. If w (w - 1) >= s^2 / 64, then by (1) p(x) <= p(m) exp(-i^2 / 128) in block i of either side: at its
inner end k (k - 1) >= iw (iw - 1) >= i^2 w (w - 1). The envelope is therefore a table of integers that does not
depend on N, M, n: weight_i >= c exp(-i^2 / 128) for i < 48, and weight_48 2^-(i - 48) for the others, since
exp(-(i^2 - 48^2) / 128) <= exp(-96 (i - 48) / 128) < 2^-(i - 48). Side, block and place are drawn by it, and
A = c p(x) / (p(m) weight_i). For n = N / 2 it is 0.61 on average at M = 961 and 0.95 at 2^32.

**Deciding U < A.** U is known by its first 64 bits. A lies between float64 bounds that need no factorials: for k > 0
and H the larger of h(m) and h(m + k) (h is convex), f(m) - jH <= f(m + j) <= f(m) - j / s^2, so

    k f(m) - H k (k - 1) / 2 <= log p(m + k) / p(m) <= k f(m) - k (k - 1) / (2 s^2),                           (2)

and the same holds for k < 0. Only if U is not beyond both by `MARGIN` is log p(x) / p(m) computed by MPFR, whose
rounding is bounded, with as many digits, and as many bits of U, as it takes. Those bits come from a branch of the
coins: machines that differ in float64 decide alike and go on with the same coins.

Sources: L. Devroye, "Non-uniform random variate generation", 1986, II.3 and X.4 (rejection, blocks); K. Bringmann,
F. Kuhn, K. Panagiotou, U. Peter, H. Thomas, "Internal DLA", ICALP 2014 (binomial numbers from integers). (1) and (2)
are derived here and checked by tests. Not constant in time: only for who may know what is sampled.
"""

from bisect import bisect_right
from itertools import accumulate
from math import exp, isqrt, log, log1p, prod

import gmpy2

from veilboost.errors import InputError
from veilboost.ppxgboost.coins import Coins

#: More marked balls than this are not drawn by a coin each: with 64 bits of U these are two blocks of coins. Part of
#: the format: another value, other ciphertexts.
HALVES = 960

#: So that no quotient of integers is too large or too small for float64.
LARGEST_POPULATION = 1 << 128

#: Float64 decides only where U is farther than this from both bounds. They are exp(v) / exp(v'), v' the exponent of the
#: envelope, at least -18. v is a sum of two terms, each with a relative error below 2e-15 (operations are correctly
#: rounded, log1p and exp right to 4 units in the last place), the first below 100: so v is right to 1e-12 for v > -300,
#: and so is a bound, up to a factor of 1 + 2e-12, below 2. Bounds above 2 or from v < -300 are beyond doubt.
MARGIN = 1e-9

_STEPS = 48
_WORD = 1 << 64


def _envelope() -> tuple[int, list[int]]:
    """c, and weight_0 to weight_48; MPFR rounds correctly, so they are the same everywhere (a test pins them)."""
    with gmpy2.context(precision=160, round=gmpy2.RoundUp):
        heights = [gmpy2.exp(gmpy2.mpfr(-(step**2)) / 128) for step in range(_STEPS + 1)]
        scale = int(_WORD / (gmpy2.fsum(heights) + heights[-1])) - 2 * _STEPS
        return scale, [int(gmpy2.ceil(scale * height)) for height in heights]


_SCALE, _WEIGHTS = _envelope()
_HEIGHTS = [_SCALE / weight for weight in _WEIGHTS]
#: Up to which number each block goes; the last one is for all blocks from 48 on, of total weight 2 weight_48.
_ENDS = list(accumulate([*_WEIGHTS[:-1], 2 * _WEIGHTS[-1]]))


def sample(population: int, marked: int, draws: int, coins: Coins) -> int:
    """Number of marked balls among `draws` drawn without replacement.

    Parameters
    ----------
    population, marked, draws
        N, M and n; 0 <= M <= N and 0 <= n <= N <= 2^128. Fast for n about N / 2: about 6 microseconds.
    coins
        Coins that nothing else is drawn from.

    Returns
    -------
    int
        x, hypergeometric for uniform coins; the same on every machine for the same coins.

    Raises
    ------
    InputError
        The numbers are out of range.
    """
    if not 0 <= population <= LARGEST_POPULATION:
        raise InputError(f"population {population}: must be from 0 to 2^128")
    if not (0 <= marked <= population and 0 <= draws <= population):
        raise InputError(f"population {population}: marked {marked} and draws {draws} must be from 0 to {population}")
    if 2 * marked > population:  # count the unmarked ones, which are fewer
        return draws - sample(population, population - marked, draws, coins)
    if marked == 0 or draws in (0, population):
        return marked if draws else 0
    if marked <= HALVES and abs(population - 2 * draws) <= 1:
        return _by_halves(population, marked, draws, coins)
    return _by_blocks(population, marked, draws, coins)


def _by_halves(population: int, marked: int, draws: int, coins: Coins) -> int:
    """One coin per marked ball; draws is within 1/2 of population / 2."""
    top = (2 * draws - population + marked + 1) // 2
    rest = population - draws - marked + 1
    attempt = 0
    while True:
        attempt += 1
        drawn = coins.bits(64 + marked)
        first, x = drawn & (_WORD - 1), (drawn >> 64).bit_count()
        if x == top:
            return x
        # 1 - A is at most the number of fractions times 1 - the last one, the smallest.
        above, below = (draws - x + 1, rest + x - 1) if x > top else (rest + x, draws - x)
        if (_WORD - 1 - first) * below >= abs(x - top) * (below - above) * _WORD:
            return x
        span = range(top, x) if x > top else range(x, top)
        upper, lower = prod(draws - i for i in span), prod(rest + i for i in span)
        if _is_below(first, *((upper, lower) if x > top else (lower, upper)), coins.branch(attempt)):
            return x


def _is_below(first: int, numerator: int, denominator: int, more: Coins) -> bool:
    """Whether U < numerator / denominator, for U of the 64 bits `first` and as many more as it takes."""
    known, count = first, 64
    while True:
        if (known + 1) * denominator <= numerator << count:
            return True
        if known * denominator >= numerator << count:
            return False
        known, count = known << 64 | more.bits(64), count + 64


def _by_blocks(population: int, marked: int, draws: int, coins: Coins) -> int:
    """Rejection from blocks around the mode."""
    mode = (marked + 1) * (draws + 1) // (population + 2)
    rest = population - marked - draws
    lowest, highest = max(0, -rest), min(marked, draws)
    square, unit = _least_square(population, marked, draws)
    width, least = _width(square, unit), unit / square
    slope = _slope(marked, draws, rest, mode) if mode < highest else 0.0
    attempt = 0
    while True:
        attempt += 1
        drawn = coins.bits(129)
        first, block = drawn & (_WORD - 1), drawn >> 65
        step = bisect_right(_ENDS, block)
        if step > _STEPS:
            continue
        if step == _STEPS:
            step += coins.tails()
        k = step * width + coins.below(width)
        if not drawn >> 64 & 1:
            k = -1 - k
        x = mode + k
        if not lowest <= x <= highest:
            continue
        if step < _STEPS and x < highest and mode < highest:
            low, high = _bounds(population, marked, draws, mode, k, slope, least)
            height = _HEIGHTS[step]
            if first / _WORD < low * height - MARGIN:
                return x
            if first / _WORD > high * height + MARGIN:
                continue
        if _is_accepted(population, marked, draws, mode, x, step, first, coins.branch(attempt)):
            return x


def _least_square(population: int, marked: int, draws: int) -> tuple[int, int]:
    """s^2 as a fraction, with M or n for M, whichever makes it smaller."""
    thin = min(marked, draws, population - draws)
    return (thin + 1) * (population - thin + 1), 4 * (population + 2)


def _width(square: int, unit: int) -> int:
    """The least w with w (w - 1) >= s^2 / 64, for s^2 = square / unit."""
    width = isqrt(square // (64 * unit)) + 1
    return width if width * (width - 1) * 64 * unit >= square else width + 1


def _slope(marked: int, draws: int, rest: int, mode: int) -> float:
    """f(m), for a mode below the highest x; near 0 by the difference of integers, or its digits would cancel."""
    above, below = (marked - mode) * (draws - mode), (mode + 1) * (rest + mode + 1)
    return log1p((above - below) / below) if 2 * above > below else log(above / below)


def _bounds(
    population: int, marked: int, draws: int, mode: int, k: int, slope: float, least: float
) -> tuple[float, float]:
    """Float64 bounds of p(m + k) / p(m) by (2): slope is f(m), least 1/s^2; neither m nor m + k is the highest."""
    pairs, linear = k * (k - 1) // 2, k * slope
    if not -100 < linear < 100:  # far from n = N / 2: nothing to gain, and exp may overflow
        return 0.0, 1.0
    rest, unmarked = population - marked - draws, population - marked + 1
    x = mode + k
    at_mode = (marked + 1) / ((marked - mode) * (mode + 1)) + unmarked / ((draws - mode) * (rest + mode + 1))
    at_x = (marked + 1) / ((marked - x) * (x + 1)) + unmarked / ((draws - x) * (rest + x + 1))
    return exp(linear - pairs * (at_mode if at_mode > at_x else at_x)), exp(linear - pairs * least)


def _is_accepted(
    population: int, marked: int, draws: int, mode: int, x: int, step: int, first: int, more: Coins
) -> bool:
    """Whether U < c p(x) / (p(m) weight_step), for U of the 64 bits `first` and as many more as it takes.

    log p(x) / p(m) is made of eight values of lngamma, all below 2^size. Each is rounded by at most half a unit in the
    last place, and so is every sum: together less than 2^(size + 8 - precision).
    """
    rest = population - marked - draws + 1
    size = (population + 2).bit_length() + population.bit_length().bit_length()
    weight, tail = _WEIGHTS[min(step, _STEPS)], max(0, step - _STEPS)
    known, count = first, 64
    while True:
        known, count = known << 64 | more.bits(64), count + 64
        with gmpy2.context(precision=size + 8 + 2 * count):
            error = gmpy2.mpfr(1) / (1 << 2 * count)
            ratio = gmpy2.mpfr(0)
            for start, sign in ((1, 1), (marked + 1, -1), (draws + 1, -1), (rest, 1)):
                ratio += gmpy2.lngamma(start + sign * mode) - gmpy2.lngamma(start + sign * x)
            unit = gmpy2.log(gmpy2.mpfr(_SCALE << (count + tail)))
            if gmpy2.log(gmpy2.mpfr((known + 1) * weight)) - unit < ratio - error:
                return True
            if gmpy2.log(gmpy2.mpfr(known * weight)) - unit > ratio + error:
                return False

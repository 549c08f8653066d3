"""Coins of fixed keys, and the hypergeometric law, for the tests of the sampler."""

from functools import cache

import gmpy2

from veilboost.ppxgboost.coins import Coins

KEY = bytes(range(32))
REAL = (2**64, 2**32, 2**63)


def coins_of(number: int) -> Coins:
    return Coins(KEY, b"test" + number.to_bytes(4, "big"))


@cache
def law(population: int, marked: int, draws: int) -> dict[int, float]:
    """The probabilities, by the ratio of neighbours with 200 bits."""
    mode = (marked + 1) * (draws + 1) // (population + 2)
    low, high = max(0, draws + marked - population), min(marked, draws)
    with gmpy2.context(precision=200):
        heights = {mode: gmpy2.mpfr(1)}
        for x in range(mode, high):
            heights[x + 1] = heights[x] * (marked - x) * (draws - x) / (x + 1) / (population - marked - draws + x + 1)
        for x in range(mode, low, -1):
            heights[x - 1] = heights[x] * x * (population - marked - draws + x) / (marked - x + 1) / (draws - x + 1)
        total = gmpy2.fsum(heights.values())
        return {x: float(heights[x] / total) for x in range(low, high + 1)}

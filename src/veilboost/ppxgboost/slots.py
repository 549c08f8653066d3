"""Real numbers as integers, several to a plaintext: what Paillier's encryption adds up.

A margin is the sum of one leaf of each tree. Leaves become integers on one power of two as scale, so that sums are
exact; each class has a slot of 64 bits of its own, and sums of a slot stay below 2^63 in magnitude, so slots never run
over.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

SLOT_BITS: Final = 64

#: Largest sum of magnitudes that a slot takes; the rest of its 63 bits is for rounding.
_LARGEST_BITS: Final = 62


def slots_of(plaintext_bits: int) -> int:
    """How many slots fit into a plaintext."""
    return plaintext_bits // SLOT_BITS


def choose_exponent(largest: float) -> int:
    """The exponent e of the scale 2^e at which a sum of magnitudes of at most `largest` fits into a slot.

    float32 numbers have 24 bits, so numbers down to 2^-38 of the largest sum lose nothing.
    """
    return 0 if largest == 0 else _LARGEST_BITS - math.frexp(largest)[1]


def to_fixed(value: float, exponent: int) -> int:
    """The integer nearest to value 2^exponent."""
    return round(Fraction(value) * Fraction(2) ** exponent)


def to_real(number: int, exponent: int) -> float:
    """The float64 nearest to number 2^-exponent."""
    return math.ldexp(float(number), -exponent)


def pack(numbers: Sequence[int]) -> int:
    """One plaintext of numbers of magnitudes below 2^63, the first in the lowest slot."""
    return sum(number << (SLOT_BITS * slot) for slot, number in enumerate(numbers))


def unpack(plaintext: int, count: int) -> Iterable[int]:
    """What `pack` packed, or the slotwise sums of several."""
    for _ in range(count):
        low = plaintext & ((1 << SLOT_BITS) - 1)
        number = low - (1 << SLOT_BITS) if low >> (SLOT_BITS - 1) else low
        yield number
        plaintext = (plaintext - number) >> SLOT_BITS

"""Products of shared values: Beaver multiplication in the ring, AND on shared bits.

docs/protocols/multiply.md; D. Beaver, "Efficient multiparty protocols using circuit randomization", CRYPTO 1991.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.ring import Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits


def multiply(session: Session, *pairs: tuple[Shared, Shared]) -> list[Shared]:
    """Element-wise products of any number of pairs, in one round.

    A factor that stands in several pairs (the same object) is masked and opened once.

    Parameters
    ----------
    pairs
        Factors whose shapes broadcast.

    Returns
    -------
    list of Shared
        One product per pair.

    Notes
    -----
    1. The dealer shares a mask a for every factor and the product a b for every pair.
    2. All owners open d = x + a, one word per element of each factor.
    3. x y = d e - d b - e a + a b, where d e is public and owner 0 adds it.
    """
    factors: list[Shared] = []
    for factor in (factor for pair in pairs for factor in pair):
        if not any(factor is known for known in factors):
            factors.append(factor)
    places = [(_place(factors, left), _place(factors, right)) for left, right in pairs]
    shapes = [np.broadcast_shapes(left.shape, right.shape) for left, right in pairs]
    dealt = session.correlate(
        Correlation(
            "product",
            masks=[ring_field(*factor.shape) for factor in factors],
            derived=[ring_field(*shape) for shape in shapes],
            derive=lambda *masks: [masks[left] * masks[right] for left, right in places],
        )
    )
    if session.dealing:
        return [Shared(None, None, shape) for shape in shapes]
    opened = session.open_masked(*((factor, dealt.ring_mask(position)) for position, factor in enumerate(factors)))
    products = []
    for position, (left, right) in enumerate(places):
        a, b = dealt.ring_mask(left).share.words, dealt.ring_mask(right).share.words
        product = dealt.ring(position).words - opened[left] * b
        product -= opened[right] * (a - opened[left] if session.holder == 0 else a)
        products.append(Shared(session.holder, product))
    return products


def conjunction(session: Session, left: SharedBits, right: SharedBits) -> SharedBits:
    """AND of two arrays of shared bits of the same shape, in one round.

    Notes
    -----
    The steps of `multiply` with XOR for the sum: (d ^ a)(e ^ b) = d e ^ d b ^ e a ^ a b.
    """
    planes = left.shape[:-1]
    dealt = session.correlate(
        Correlation(
            "conjunction",
            masks=[bits_field(left.count, *planes), bits_field(left.count, *planes)],
            derived=[bits_field(left.count, *planes)],
            derive=lambda a, b: [a & b],
        )
    )
    if session.dealing:
        return SharedBits(None, None, left.count, left.shape)
    first, second = dealt.bits_mask(0), dealt.bits_mask(1)
    d, e = session.open_masked((left, first), (right, second))
    words: Words = dealt.bits(0).words ^ (d & second.share.words)
    words ^= e & (first.share.words ^ d if session.holder == 0 else first.share.words)
    return SharedBits(session.holder, words, left.count)


def _place(factors: Sequence[Shared], wanted: Shared) -> int:
    return next(position for position, factor in enumerate(factors) if factor is wanted)

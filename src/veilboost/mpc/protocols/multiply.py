"""Products of shared values: Beaver multiplication in the ring, AND on shared bits.

docs/protocols/multiply.md; D. Beaver, "Efficient multiparty protocols using circuit randomization", CRYPTO 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.ring import Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits

Terms = npt.NDArray[np.int64]


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


def conjunctions(session: Session, planes: SharedBits, *terms: Terms) -> list[SharedBits]:
    """ANDs of several planes each, in one round; a plane that stands in many terms is opened once.

    Parameters
    ----------
    planes
        Shape (planes, words).
    terms
        int64 arrays of shape (terms, factors): positions of the planes of each product. Of f factors the dealer's part
        has 2^f - f - 1 planes a term.

    Returns
    -------
    list of SharedBits
        One for each array of terms, shape (terms, words).

    Notes
    -----
    Beaver's multiplication for more than two factors; S. Ohata, K. Nuida, "Communication-efficient (client-aided)
    secure two-party protocols and its application", FC 2020, section 3.

    1. The dealer shares a mask a_i for every plane, and of every term the product of the masks of each two or more of
       its factors.
    2. All owners open d_i = x_i ^ a_i.
    3. A product of the x_i is the XOR, over all subsets of its factors, of the d_i outside times the masks' product
       inside.
    """
    used, places = np.unique(np.concatenate([term.reshape(-1) for term in terms]), return_inverse=True)
    cuts = np.cumsum([term.size for term in terms])[:-1]
    local = [part.reshape(term.shape) for part, term in zip(np.split(places, cuts), terms, strict=True)]
    subsets = [_subsets(len(term[0]), 2) for term in terms]

    def derive(masks: Words) -> list[Words]:
        return [
            np.bitwise_and.reduce([masks[term[:, factor]] for factor in subset])
            for term, chosen in zip(local, subsets, strict=True)
            for subset in chosen
        ]

    dealt = session.correlate(
        Correlation(
            "conjunctions",
            masks=[bits_field(planes.count, len(used))],
            derived=[
                bits_field(planes.count, len(term)) for term, chosen in zip(local, subsets, strict=True) for _ in chosen
            ],
            derive=derive,
        )
    )
    if session.dealing:
        return [SharedBits(None, None, planes.count, (len(term), planes.shape[-1])) for term in local]
    mask = dealt.bits_mask(0)
    (opened,) = session.open_masked((planes[used], mask))
    results, position = [], 0
    for term, chosen in zip(local, subsets, strict=True):
        d = [opened[term[:, factor]] for factor in range(len(term[0]))]
        words = np.bitwise_and.reduce(d) if session.holder == 0 else np.zeros_like(d[0])
        for factor in range(len(d)):
            inside = mask.share.words[term[:, factor]]
            words ^= np.bitwise_and.reduce([inside, *(d[i] for i in range(len(d)) if i != factor)])
        for subset in chosen:
            inside = dealt.bits(position).words
            words ^= np.bitwise_and.reduce([inside, *(d[i] for i in range(len(d)) if i not in subset)])
            position += 1
        results.append(SharedBits(session.holder, words, planes.count))
    return results


def _subsets(factors: int, least: int) -> list[tuple[int, ...]]:
    return [subset for size in range(least, factors + 1) for subset in combinations(range(factors), size)]


def _place(factors: Sequence[Shared], wanted: Shared) -> int:
    return next(position for position, factor in enumerate(factors) if factor is wanted)

"""Products of shared values: Beaver multiplication in the ring, AND on shared bits.

docs/protocols/multiply.md; D. Beaver, "Efficient multiparty protocols using circuit randomization", CRYPTO 1991.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from veilboost.mpc import kernels
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
    plan = _plan(tuple(term.shape for term in terms), b"".join(term.tobytes() for term in terms))
    width = planes.shape[-1]

    def derive(masks: Words) -> list[Words]:
        masks = np.ascontiguousarray(masks)
        return [
            kernels.joint_masks(masks, term, subsets) for term, subsets in zip(plan.terms, plan.subsets, strict=True)
        ]

    dealt = session.correlate(
        Correlation(
            "conjunctions",
            masks=[bits_field(planes.count, len(plan.used))],
            derived=[
                bits_field(planes.count, len(subsets), len(term))
                for term, subsets in zip(plan.terms, plan.subsets, strict=True)
            ],
            derive=derive,
        )
    )
    if session.dealing:
        return [SharedBits(None, None, planes.count, (len(term), width)) for term in plan.terms]
    mask = dealt.bits_mask(0)
    (opened,) = session.open_masked((planes[plan.used], mask))
    own = np.ascontiguousarray(mask.share.words)
    results = []
    for position, (term, subsets) in enumerate(zip(plan.terms, plan.subsets, strict=True)):
        joint = np.ascontiguousarray(dealt.bits(position).words)
        words = kernels.joint_products(np.ascontiguousarray(opened), own, joint, term, subsets, session.holder == 0)
        results.append(SharedBits(session.holder, words, planes.count))
    return results


@dataclass(frozen=True)
class _Plan:
    """What is public of some conjunctions, worked out once for all calls with the same terms.

    Attributes
    ----------
    used
        The planes that stand in any term.
    terms
        The terms, as positions among these.
    subsets
        Of each array of terms the sets of two factors and more, as numbers with a bit for each factor.
    """

    used: Terms
    terms: list[Terms]
    subsets: list[Terms]


@lru_cache(maxsize=1024)
def _plan(shapes: tuple[tuple[int, ...], ...], content: bytes) -> _Plan:
    numbers = np.frombuffer(content, dtype=np.int64)
    used, places = np.unique(numbers, return_inverse=True)
    cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    local = [
        np.ascontiguousarray(part.reshape(shape), dtype=np.int64)
        for part, shape in zip(np.split(places, cuts), shapes, strict=True)
    ]
    return _Plan(used, local, [_subsets(shape[1]) for shape in shapes])


def _subsets(factors: int) -> Terms:
    chosen = [subset for size in range(2, factors + 1) for subset in combinations(range(factors), size)]
    return np.array([sum(1 << factor for factor in subset) for subset in chosen], dtype=np.int64)


def _place(factors: Sequence[Shared], wanted: Shared) -> int:
    return next(position for position, factor in enumerate(factors) if factor is wanted)

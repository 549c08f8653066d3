"""Comparisons: the sign of a shared value, by a prefix circuit on the bits of its mask.

docs/protocols/compare.md; the masked-opening approach of I. Damgard, M. Fitzi, E. Kiltz, J. Nielsen, T. Toft,
"Unconditionally secure constant-rounds multi-party computation for equality, comparison, bits and exponentiation", TCC
2006, with prefix circuits in J. Sklansky's form. Bits are sliced: word w of plane i holds bit i of 64 values.

Groups of bits merge two at a time, which takes the fewest bytes, or four at a time, which takes half the rounds: the
latter where there are so few elements that rounds are what takes time.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from veilboost.mpc.correlations import Correlation, bits_field, lanes_field, ring_field
from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols.multiply import conjunctions
from veilboost.mpc.ring import WORD_BITS, Words, pack_bits, unpack_bits, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, SharedLanes, lanes_to_words, stack_planes

#: Elements up to which groups of bits merge four at a time.
FEW_ELEMENTS = 1 << 14

LANE_BITS = 32
_GUARD_BITS = 8


def negative(session: Session, value: Shared, width: int = WORD_BITS) -> SharedBits:
    """[x < 0] for every element, as one plane of bits in C order.

    Seven rounds; for at most `FEW_ELEMENTS` elements, four.

    Parameters
    ----------
    width
        64 for any x in [-2^63, 2^63); 32, at half the cost, for any x in [-2^31, 2^31).

    Notes
    -----
    1. `masked_planes`: all owners open c = x + r for a uniform r whose bits are shared.
    2. x = c - r, so its sign bit is that of c, XOR that of r, XOR whether the lower bits of c are below those of r.
    """
    opened, mask_bits = masked_planes(session, value, lanes=width == LANE_BITS)
    return sign_of_difference(session, opened, mask_bits)


def negative_planes(session: Session, values: Shared, width: int = WORD_BITS) -> SharedBits:
    """[x < 0] for values of shape (planes, count), as planes of `count` bits; otherwise as `negative`."""
    planes, count = values.shape
    below = negative(session, values, width)
    shape = (planes, words_for(count))
    if below.hollow or count % WORD_BITS == 0:
        return SharedBits(session.holder, None if below.hollow else below.words.reshape(shape), count, shape)
    bits = unpack_bits(below.words, planes * count).reshape(planes, count)
    return SharedBits(session.holder, pack_bits(bits.view(np.bool_)), count)


def masked_planes(
    session: Session, value: Shared, width: int = WORD_BITS, *, lanes: bool = False
) -> tuple[Words | None, SharedBits]:
    """Open c = x + r, and share the low `width` bits of r. One round.

    With `lanes`, all of it modulo 2^32, and the width is 32.

    Returns
    -------
    opened
        uint64, shape (x.size,): c; None at the dealer.
    mask_bits
        Planes of shape (width, x.size): bit i of r in plane i.
    """
    size = value.size
    width = LANE_BITS if lanes else width
    dealt = session.correlate(
        Correlation(
            "masked planes",
            masks=[lanes_field(size) if lanes else ring_field(size)],
            derived=[bits_field(size, width)],
            derive=lambda r: [transpose_bits(lanes_to_words(r, size) if lanes else r, width)],
        )
    )
    if session.dealing:
        return None, dealt.bits(0)
    if lanes:
        (packed,) = session.open_masked((SharedLanes.of(value), dealt.lanes_mask(0)))
        return lanes_to_words(packed, size), dealt.bits(0)
    (opened,) = session.open_masked((value.reshape(size), dealt.ring_mask(0)))
    return opened, dealt.bits(0)


def sign_of_difference(session: Session, opened: Words | None, mask_bits: SharedBits) -> SharedBits:
    """[c - r < 0] in two's complement for public c and the shared bits of r. Three or six rounds."""
    top = len(mask_bits) - 1
    planes = None if opened is None else transpose_bits(opened, top + 1)
    below = less_than(session, None if planes is None else planes[:top], mask_bits[:top])
    sign = mask_bits[top] if planes is None else mask_bits[top] ^ planes[top]
    return below ^ sign


def less_than(session: Session, public: Words | None, bits: SharedBits) -> SharedBits:
    """[c < r] for unsigned numbers of m bits: c public, r shared in planes of shape (m, w).

    About log2(m) rounds, half as many for few elements.

    Notes
    -----
    1. Bit by bit: less = r & ~c, equal = ~(r ^ c). Above the top bit, zeros that are equal are added up to a power of
       two.
    2. Neighbouring groups merge until one is left. Of two: less = less_1 ^ (equal_1 & less_0), equal = equal_1 &
       equal_0. Of four: less = less_3 ^ (equal_3 & less_2) ^ (equal_3 & equal_2 & less_1) ^ (equal_3 & equal_2 &
       equal_1 & less_0). The lowest group never needs its `equal`.
    """
    less, equal = _bitwise(public, bits)
    while len(less) > 1:
        radix = 4 if bits.count <= FEW_ELEMENTS and len(less) > 2 else 2
        less, equal = _padded(less, radix, False), _padded(equal, radix, True)
        width, groups = len(less), len(less) // radix
        first = radix * np.arange(groups)
        terms = []
        for factors in range(2, radix + 1):
            # less of digit radix - factors, and all `equal` above it
            above = [width + first + digit for digit in range(radix - factors + 1, radix)]
            terms.append(np.stack([first + radix - factors, *above], axis=1))
        whole = np.stack([width + first[1:] + digit for digit in range(radix)], axis=1)
        if groups > 1:
            terms[-1] = np.concatenate([terms[-1], whole])
        products = conjunctions(session, stack_planes([less, equal]), *terms)
        less = less[radix - 1 :: radix]
        for product in products:
            less = less ^ product[:groups]
        equal = stack_planes([equal[:1], products[-1][groups:]])  # the first is a placeholder that nobody reads
    return less[0]


def subtract(session: Session, public: Words | None, bits: SharedBits) -> SharedBits:
    """Planes of c - r modulo 2^m for public planes c and shared planes r, both (m, w). About log2(m) rounds.

    Half as many for few elements.

    Notes
    -----
    1. Bit by bit: less = r & ~c produces a borrow, equal = ~(r ^ c) passes one on.
    2. `prefix`: every bit takes over the borrow of all below.
    3. Bit i of the difference is c_i ^ r_i ^ (borrow out of the bits below i).
    """
    less, equal = _bitwise(public, bits)
    less = prefix(session, equal, less)
    difference = bits if public is None else bits ^ public
    return stack_planes([difference[:1], difference[1:] ^ less[:-1]])


def leading_one(session: Session, value: Shared, low: int, high: int) -> SharedBits:
    """One-hot planes of the highest set bit of x among bits low to high - 1, for 0 <= x < 2^high.

    About 1 + 2 log2(high - low) rounds, 1 + log2(high - low) for few elements. Plane i stands for bit low + i; all
    planes are zero when no bit is set. The borrow from bits more than eight places below `low` is ignored, so that x
    counts as up to 2^(low - 8) more than it is; it must stay that far below 2^high.

    Notes
    -----
    1. Open x + r; `subtract` gives the bits of x.
    2. `prefix` AND of their complements from the top: none_i = no bit set at i or above.
    3. The leading bit is i where none_(i+1) and not none_i.
    """
    opened, mask_bits = masked_planes(session, value, high)
    start = max(0, low - _GUARD_BITS)
    public = None if opened is None else transpose_bits(opened, high)[start:]
    unset = ~subtract(session, public, mask_bits[start:high])[low - start :]
    none = prefix(session, unset[::-1])[::-1]
    return stack_planes([none[1:] ^ none[:-1], ~none[high - low - 1 :]])


def prefix(session: Session, equal: SharedBits, less: SharedBits | None = None) -> SharedBits:
    """Borrows of all prefixes of planes (m, w), lowest first; without `less`, the ANDs of all prefixes.

    Notes
    -----
    Sklansky's tree with groups of 2^k, or for few elements 4^k, bits in step k: a bit in the q-th group of its block
    takes over from the tops t_(q-1), ..., t_0 of the groups below it: less ^= equal & less_t(q-1) ^ equal &
    equal_t(q-1) & less_t(q-2) ^ ..., and equal &= equal_t(q-1) & ... & equal_t0.
    """
    width = len(equal)
    radix = 4 if equal.count <= FEW_ELEMENTS else 2
    # Without borrows, all that remains is `equal`, and that of the first group matters.
    base = 0 if less is None else width
    planes = equal if less is None else stack_planes([less, equal])
    step = 1
    while step < width:
        targets: dict[int, list[int]] = defaultdict(list)
        terms: dict[int, list[list[int]]] = defaultdict(list)
        for bit in range(width):
            block, digit = bit - bit % (radix * step), bit // step % radix
            tops = [block + (q + 1) * step - 1 for q in range(digit)]
            for q in range(digit if less is not None else 0):
                chain = [tops[q], *(base + top for top in tops[q + 1 :]), base + bit]
                targets[len(chain)].append(bit)
                terms[len(chain)].append(chain)
            if digit and (less is None or block):
                chain = [*(base + top for top in tops), base + bit]
                targets[len(chain)].append(base + bit)
                terms[len(chain)].append(chain)
        sizes = sorted(terms)
        products = conjunctions(session, planes, *(np.array(terms[size]) for size in sizes))
        if not planes.hollow:
            words = planes.words.copy()
            for size, product in zip(sizes, products, strict=True):
                positions = np.array(targets[size])
                is_equal = positions >= base
                words[positions[is_equal]] = product.words[is_equal]
                words[positions[~is_equal]] ^= product.words[~is_equal]
            planes = SharedBits(planes.holder, words, planes.count)
        step *= radix
    return planes[:width]


def _bitwise(public: Words | None, bits: SharedBits) -> tuple[SharedBits, SharedBits]:
    if public is None:
        return bits, bits
    return bits & ~public, ~(bits ^ public)


def _padded(planes: SharedBits, radix: int, ones: bool) -> SharedBits:
    """Public planes, all one or all zero, on top, up to a multiple of the radix."""
    lacking = -len(planes) % radix
    if not lacking:
        return planes
    if planes.hollow:
        return SharedBits(None, None, planes.count, (len(planes) + lacking, planes.shape[-1]))
    public = pack_bits(np.full((lacking, planes.count), ones and planes.holder == 0))
    return SharedBits(planes.holder, np.concatenate([planes.words, public]), planes.count)

"""Comparisons: the sign of a shared value, by a prefix circuit on the bits of its mask.

docs/protocols/compare.md; the masked-opening approach of I. Damgard, M. Fitzi, E. Kiltz, J. Nielsen, T. Toft,
"Unconditionally secure constant-rounds multi-party computation for equality, comparison, bits and exponentiation", TCC
2006, with the logarithmic prefix circuit of P. Kogge and H. Stone. Bits are sliced: word w of plane i holds bit i of
64 values.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.ring import WORD, WORD_BITS, Words, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack_planes

_SIGN = WORD_BITS - 1
_GUARD_BITS = 8


def negative(session: Session, value: Shared) -> SharedBits:
    """[x < 0] for every element, as one plane of bits in C order; any x in [-2^63, 2^63).

    Seven rounds.

    Notes
    -----
    1. `masked_planes`: all owners open c = x + r for a uniform r whose bits are shared.
    2. x = c - r, so its sign bit is c_63 ^ r_63 ^ [c mod 2^63 < r mod 2^63].
    """
    opened, mask_bits = masked_planes(session, value)
    return sign_of_difference(session, opened, mask_bits)


def negative_planes(session: Session, values: Shared) -> SharedBits:
    """[x < 0] for values of shape (planes, count), as planes of `count` bits. Seven rounds."""
    planes, count = values.shape
    width = words_for(count)
    padding = session.constant(np.zeros((planes, width * WORD_BITS - count), dtype=WORD))
    below = negative(session, concatenate([values, padding], axis=1))
    words = None if below.hollow else below.words.reshape(planes, width)
    return SharedBits(session.holder, words, count, (planes, width))


def masked_planes(session: Session, value: Shared, width: int = WORD_BITS) -> tuple[Words | None, SharedBits]:
    """Open c = x + r, and share the low `width` bits of r. One round.

    Returns
    -------
    opened
        uint64, shape (x.size,): c; None at the dealer.
    mask_bits
        Planes of shape (width, x.size): bit i of r in plane i.
    """
    flat = value.reshape(value.size)
    dealt = session.correlate(
        Correlation(
            "masked planes",
            masks=[ring_field(flat.size)],
            derived=[bits_field(flat.size, width)],
            derive=lambda r: [transpose_bits(r, width)],
        )
    )
    if session.dealing:
        return None, dealt.bits(0)
    (opened,) = session.open_masked((flat, dealt.ring_mask(0)))
    return opened, dealt.bits(0)


def sign_of_difference(session: Session, opened: Words | None, mask_bits: SharedBits) -> SharedBits:
    """[c - r < 0] in two's complement for public c and the shared bits of r. Six rounds."""
    planes = None if opened is None else transpose_bits(opened, WORD_BITS)
    below = less_than(session, None if planes is None else planes[:_SIGN], mask_bits[:_SIGN])
    top = mask_bits[_SIGN] if planes is None else mask_bits[_SIGN] ^ planes[_SIGN]
    return below ^ top


def less_than(session: Session, public: Words | None, bits: SharedBits) -> SharedBits:
    """[c < r] for unsigned numbers of m bits: c public, r shared in planes of shape (m, w). About log2(m) rounds.

    Notes
    -----
    1. Bit by bit: less = r & ~c, equal = ~(r ^ c).
    2. Neighbouring groups merge until one is left: less = less_high ^ (equal_high & less_low), equal = equal_high &
       equal_low. The lowest group never needs its `equal`.
    """
    less, equal = _bitwise(public, bits)
    while len(less) > 1:
        pairs = len(less) // 2
        low, high = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        both = conjunction(
            session,
            stack_planes([equal[high], equal[high][1:]]),
            stack_planes([less[low], equal[low][1:]]),
        )
        merged_less = less[high] ^ both[:pairs]
        merged_equal = stack_planes([equal[:1], both[pairs:]])  # the first is a placeholder that nobody reads
        odd = slice(2 * pairs, len(less))
        less, equal = stack_planes([merged_less, less[odd]]), stack_planes([merged_equal, equal[odd]])
    return less[0]


def subtract(session: Session, public: Words | None, bits: SharedBits) -> SharedBits:
    """Planes of c - r modulo 2^m for public planes c and shared planes r, both (m, w). About log2(m) rounds.

    Notes
    -----
    1. Bit by bit: less = r & ~c produces a borrow, equal = ~(r ^ c) passes one on.
    2. Sklansky's prefix tree: in step k, groups of 2^k bits take over the borrow of the whole group below.
    3. Bit i of the difference is c_i ^ r_i ^ (borrow out of the bits below i).
    """
    less, equal = _bitwise(public, bits)
    width = len(less)
    step = 1
    while step < width:
        takers = np.array([i for i in range(width) if i & step])
        givers = np.array([(i // step) * step - 1 for i in takers])
        later = takers >= 2 * step  # a group that begins at bit 0 passes nothing on
        both = conjunction(
            session,
            stack_planes([equal[takers], equal[takers[later]]]),
            stack_planes([less[givers], equal[givers[later]]]),
        )
        less = _replace(less, takers, less[takers] ^ both[: len(takers)])
        equal = _replace(equal, takers[later], both[len(takers) :])
        step *= 2
    difference = bits if public is None else bits ^ public
    return stack_planes([difference[:1], difference[1:] ^ less[:-1]])


def leading_one(session: Session, value: Shared, low: int, high: int) -> SharedBits:
    """One-hot planes of the highest set bit of x among bits low to high - 1, for 0 <= x < 2^high.

    About 1 + 2 log2(high - low) rounds. Plane i stands for bit low + i; all planes are zero when no bit is set. The
    borrow from bits more than eight places below `low` is ignored, so that x counts as up to 2^(low - 8) more than it
    is; it must stay that far below 2^high.

    Notes
    -----
    1. Open x + r; `subtract` gives the bits of x.
    2. Prefix AND of their complements from the top (Sklansky): none_i = no bit set at i or above.
    3. The leading bit is i where none_(i+1) and not none_i.
    """
    opened, mask_bits = masked_planes(session, value, high)
    start = max(0, low - _GUARD_BITS)
    public = None if opened is None else transpose_bits(opened, high)[start:]
    none = ~subtract(session, public, mask_bits[start:high])[low - start :]
    width = high - low
    step = 1
    while step < width:
        takers = np.array([i for i in range(width) if i & step])
        givers = np.array([(i // step) * step - 1 for i in takers])
        # Positions count from the top here.
        takers, givers = width - 1 - takers, width - 1 - givers
        none = _replace(none, takers, conjunction(session, none[takers], none[givers]))
        step *= 2
    return stack_planes([none[1:] ^ none[:-1], ~none[width - 1 :]])


def _bitwise(public: Words | None, bits: SharedBits) -> tuple[SharedBits, SharedBits]:
    if public is None:
        return bits, bits
    return bits & ~public, ~(bits ^ public)


def _replace(planes: SharedBits, positions: np.typing.NDArray[np.int64], values: SharedBits) -> SharedBits:
    if planes.hollow:
        return planes
    words = planes.words.copy()
    words[positions] = values.words
    return SharedBits(planes.holder, words, planes.count)

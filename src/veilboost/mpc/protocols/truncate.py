"""Division of shared fixed-point values by a power of two.

docs/protocols/truncate.md; A. Dalskov, D. Escudero, M. Keller, "Secure evaluation of quantized neural networks",
PoPETs 2020(4), with a dealer for the masks. Exact floors compare the low bits too, as O. Catrina and S. de Hoogh do,
"Improved primitives for secure multiparty integer computation", SCN 2010.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols.compare import less_than
from veilboost.mpc.protocols.select import to_ring
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate

_OFFSET_BITS = 62


def truncate(session: Session, *values: tuple[Shared, int], either: bool = False) -> list[Shared]:
    """Divide each x by 2^bits, in one round; floor, or floor plus one with the probability that rounds without bias.

    In a session that is `exact`, always the floor, in five rounds, or seven for many elements (`_floors`).

    Parameters
    ----------
    values
        Pairs of a shared array with |x| < 2^62 and the public number of bits, 1 to 61.
    either
        Either rounding will do, in a session that is `exact` too.

    Notes
    -----
    1. The dealer shares a uniform r, r >> bits and the top bit of r.
    2. All owners open c = x + 2^62 + r. As 0 <= x + 2^62 < 2^63, the sum wrapped around exactly if r has its top bit
       set and c has not.
    3. (c >> bits) - (r >> bits) + wrapped 2^(64 - bits) - 2^(62 - bits) is x / 2^bits, rounded down or up.
    """
    if session.exact and not either:
        return _floors(session, *values)
    dealt = session.correlate(
        Correlation(
            "truncation",
            masks=[ring_field(*value.shape) for value, _ in values],
            derived=[ring_field(*value.shape) for value, _ in values] + [ring_field(*v.shape) for v, _ in values],
            derive=lambda *masks: (
                [r >> _word(bits) for r, (_, bits) in zip(masks, values, strict=True)] + [r >> _word(63) for r in masks]
            ),
        )
    )
    if session.dealing:
        return [Shared(None, None, value.shape) for value, _ in values]
    opened = session.open_masked(
        *((value + _word(1 << _OFFSET_BITS), dealt.ring_mask(i)) for i, (value, _) in enumerate(values))
    )
    results = []
    for position, (c, (_, bits)) in enumerate(zip(opened, values, strict=True)):
        wraps = (_word(1) - (c >> _word(63))) << _word(64 - bits)
        words: Words = dealt.ring(len(values) + position).words * wraps - dealt.ring(position).words
        if session.holder == 0:
            words += (c >> _word(bits)) - _word(1 << (_OFFSET_BITS - bits))
        results.append(Shared(session.holder, words))
    return results


def _floors(session: Session, *values: tuple[Shared, int]) -> list[Shared]:
    """Floors of x / 2^bits: `truncate`, less one where it rounds up.

    Notes
    -----
    1. The dealer also shares the low bits of r.
    2. The result is one too large exactly where c mod 2^bits < r mod 2^bits: `less_than`, as ring elements.
    """
    flat = concatenate([value.reshape(value.size) for value, _ in values])
    sizes = [value.size for value, _ in values]
    widths = np.repeat(np.array([bits for _, bits in values], dtype=WORD), sizes)
    low = (_word(1) << widths) - _word(1)
    most = max(bits for _, bits in values)
    dealt = session.correlate(
        Correlation(
            "exact truncation",
            masks=[ring_field(flat.size)],
            derived=[ring_field(flat.size), ring_field(flat.size), bits_field(flat.size, most)],
            derive=lambda r: [r >> widths, r >> _word(63), transpose_bits(r & low, most)],
        )
    )
    opened = None
    if not session.dealing:
        (opened,) = session.open_masked((flat + _word(1 << _OFFSET_BITS), dealt.ring_mask(0)))
    below = less_than(session, None if opened is None else transpose_bits(opened & low, most), dealt.bits(2))
    result = -dealt.ring(0) - to_ring(session, below)
    if opened is not None:
        result = result + dealt.ring(1) * ((_word(1) - (opened >> _word(63))) << (_word(64) - widths))
        result = result + ((opened >> widths) - (_word(1) << (_word(_OFFSET_BITS) - widths)))
    ends = np.cumsum([0, *sizes])
    return [
        result[first:last].reshape(*value.shape)
        for (value, _), first, last in zip(values, ends[:-1], ends[1:], strict=True)
    ]


def _word(value: int) -> Words:
    return np.array(value, dtype=WORD)

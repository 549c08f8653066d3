"""Division of shared fixed-point values by a power of two.

docs/protocols/truncate.md; A. Dalskov, D. Escudero, M. Keller, "Secure evaluation of quantized neural networks",
PoPETs 2020(4), with a dealer for the masks.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.correlations import Correlation, ring_field
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared

_OFFSET_BITS = 62


def truncate(session: Session, *values: tuple[Shared, int]) -> list[Shared]:
    """Divide each x by 2^bits, in one round; floor, or floor plus one with the probability that rounds without bias.

    Parameters
    ----------
    values
        Pairs of a shared array with |x| < 2^62 and the public number of bits, 1 to 61.

    Notes
    -----
    1. The dealer shares a uniform r, r >> bits and the top bit of r.
    2. All owners open c = x + 2^62 + r. As 0 <= x + 2^62 < 2^63, the sum wrapped around exactly if r has its top bit
       set and c has not.
    3. (c >> bits) - (r >> bits) + wrapped 2^(64 - bits) - 2^(62 - bits) is x / 2^bits, rounded down or up.
    """
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


def _word(value: int) -> Words:
    return np.array(value, dtype=WORD)

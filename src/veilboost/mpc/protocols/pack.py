"""Two sums in one word: half the traffic of histograms.

docs/protocols/pack.md. W = high 2^32 + low, for |high| < 2^30 and -2^29 <= low < 2^30. Sums of such words are the words
of the sums, as long as these stay within the same ranges. Taking the halves of the shares would be wrong, because
carries cross between the halves and around 2^64; the masked opening of A. Dalskov, D. Escudero, M. Keller (PoPETs
2020(4)) that truncation uses gives both halves exactly.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.correlations import Correlation, ring_field
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared

_HALF = np.uint64(32)
_LOW_MASK = np.uint64((1 << 32) - 1)
_LIFT = np.uint64(1 << 29)
_OFFSET = np.uint64(1 << 62) + _LIFT
_ONE = np.uint64(1)

#: Bounds of what fits: |high| < 2^HIGH_BITS and LEAST_LOW <= low < 2^LOW_BITS. Approximations make a hessian that is
#: nearly 0 a little negative.
HIGH_BITS, LOW_BITS = 30, 30
LEAST_LOW = -(1 << 29)


def pack(high: Shared, low: Shared) -> Shared:
    """high 2^32 + low; local."""
    return high * np.array(1 << 32, dtype=WORD) + low


def unpack(session: Session, packed: Shared) -> tuple[Shared, Shared]:
    """The two halves of packed words, exactly. One round.

    Parameters
    ----------
    packed
        Words high 2^32 + low with |high| < 2^30 and -2^29 <= low < 2^30, of any shape.

    Returns
    -------
    high, low
        Of the same shape.

    Notes
    -----
    1. The dealer shares a uniform r, its halves r_lo and r_hi, and its bits r_31 and r_63.
    2. All owners open c = W + 2^29 + 2^62 + r, with halves c_lo and c_hi.
    3. Since 0 <= low + 2^29 < 2^31, the lower half carried exactly if r_31 = 1 and c_31 = 0: w = r_31 (1 - c_31), and
       low = c_lo - r_lo + 2^32 w - 2^29.
    4. Since 0 <= W + 2^29 + 2^62 < 2^63, the whole wrapped exactly if r_63 = 1 and c_63 = 0:
       high = c_hi - r_hi - w + 2^32 r_63 (1 - c_63) - 2^30.
    """
    shape = packed.shape

    def derive(r: Words) -> list[Words]:
        return [r & _LOW_MASK, r >> _HALF, (r >> np.uint64(31)) & _ONE, r >> np.uint64(63)]

    dealt = session.correlate(
        Correlation("unpacking", masks=[ring_field(*shape)], derived=[ring_field(*shape)] * 4, derive=derive)
    )
    if session.dealing:
        return Shared(None, None, shape), Shared(None, None, shape)
    (c,) = session.open_masked((packed + _OFFSET, dealt.ring_mask(0)))
    r_low, r_high, r_31, r_63 = (dealt.ring(position).words for position in range(4))
    carry = r_31 * (_ONE - ((c >> np.uint64(31)) & _ONE))
    wrap = r_63 * (_ONE - (c >> np.uint64(63)))
    low = (carry << _HALF) - r_low
    high = (wrap << _HALF) - r_high - carry
    if session.holder == 0:
        low += (c & _LOW_MASK) - _LIFT
        high += (c >> _HALF) - np.uint64(1 << HIGH_BITS)
    return Shared(session.holder, high), Shared(session.holder, low)

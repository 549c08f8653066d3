"""Which of two shared fractions is larger, without dividing.

docs/protocols/fractions.md. e / d < e' / d' for positive denominators if e d' < e' d. Numerators have up to 60 bits, so
they come in two limbs, and the products' sums are put together again by one truncation.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc import kernels
from veilboost.mpc.correlations import Correlation, ring_field
from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.select import Anchored
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, stack

#: Bits of the lower limb of a numerator; bounds of denominators are 2^DENOMINATOR_BITS.
LIMB_BITS = 31
DENOMINATOR_BITS = 30

_SPARE_BITS = 3  # of A, for the difference's first bits below 2^31


def limbs(session: Session, numerator: Shared) -> tuple[Shared, Shared]:
    """An upper and a lower limb with numerator = upper 2^31 + lower, for 0 <= numerator < 2^60. One round.

    0 <= upper <= 2^29 and |lower| <= 2^31: the truncation that makes the upper one rounds up or down.
    """
    (upper,) = truncate(session, (numerator, LIMB_BITS))
    return upper, numerator - upper * np.array(1 << LIMB_BITS, dtype=WORD)


def compare_fractions(session: Session, players: Shared) -> tuple[SharedBits, Anchored]:
    """Of each pair i < j of players, whether the fraction of i is smaller than that of j.

    A contest of `protocols.argmax`. Two rounds, and those of `compare.negative`.

    Parameters
    ----------
    players
        Shape (3, size, count): upper and lower limbs of the numerators, and denominators, 0 < d < 2^30 (1 + 2^-20).

    Returns
    -------
    loses
        Planes (pairs, words) of `count` bits, pairs in the order of `numpy.triu_indices(size, 1)`. Of fractions whose
        cross products differ by less than 2^28, either may be smaller.
    anchored
        The players, which have been opened under masks.

    Notes
    -----
    1. The dealer shares masks of all players' three words and, for every pair, the masks' two cross products.
    2. All owners open the players under their masks; every owner computes its shares of A = u_i d_j - u_j d_i and
       B = l_i d_j - l_j d_i, as in `multiply`. |A| < 2^60 and |B| < 2^62.
    3. e_i d_j - e_j d_i = A 2^31 + B; its sign is that of 8 A + B / 2^28, rounded: `truncate`, `negative`.
    """
    _, size, count = players.shape
    earlier, later = np.triu_indices(size, 1)
    pairs = len(earlier)

    def derive(masks: Words) -> list[Words]:
        products = np.zeros((2, pairs, count), dtype=WORD)
        kernels.cross_products(masks, masks, np.zeros_like(masks), earlier, later, products)
        return [products]

    dealt = session.correlate(
        Correlation(
            "cross products",
            masks=[ring_field(3, size, count)],
            derived=[ring_field(2, pairs, count)],
            derive=derive,
        )
    )
    mask = dealt.ring_mask(0)
    if session.dealing:
        products, opened = Shared(None, None, (2, pairs, count)), None
    else:
        (opened,) = session.open_masked((players, mask))
        words = dealt.ring(0).words.copy()
        own = np.negative(mask.share.words)
        if session.holder == 0:
            own += opened
        kernels.cross_products(opened, own, mask.share.words, earlier, later, words)
        products = Shared(session.holder, words)
    (carry,) = truncate(session, (products[1], LIMB_BITS - _SPARE_BITS))
    difference = products[0] * np.array(1 << _SPARE_BITS, dtype=WORD) + carry
    return negative_planes(session, difference), Anchored(players, mask, opened)


def fraction_scores(upper: Shared, lower: Shared, denominator: Shared) -> Shared:
    """The players of `compare_fractions` as one array of scores."""
    return stack([upper, lower, denominator])


def numerator_of(scores: Shared) -> Shared:
    """The numerators of scores, put together again; local."""
    return scores[0] * np.array(1 << LIMB_BITS, dtype=WORD) + scores[1]

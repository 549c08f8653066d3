"""Which of two shared fractions is larger, without dividing.

docs/protocols/fractions.md. e / d < e' / d' for positive denominators if e d' < e' d. Numerators have up to 60 bits, so
they come in two limbs, and the products' sums are put together again by one truncation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    (upper,) = truncate(session, (numerator, LIMB_BITS), either=True)  # the lower limb makes up for it
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
    products, anchored = cross_products(session, players, *np.triu_indices(players.shape[1], 1))
    (carry,) = truncate(session, (products[1], LIMB_BITS - _SPARE_BITS))
    difference = products[0] * np.array(1 << _SPARE_BITS, dtype=WORD) + carry
    return negative_planes(session, difference), anchored


def cross_products(
    session: Session, players: Shared, earlier: npt.NDArray[np.int64], later: npt.NDArray[np.int64]
) -> tuple[Shared, Anchored]:
    """x_i d_j - x_j d_i of pairs of players, in one round; every player is opened once.

    Parameters
    ----------
    players
        Shape (words + 1, size, count): any number of words x of each player, and last d.
    earlier, later
        int64, shape (pairs,): players i and j of each pair.

    Returns
    -------
    products
        Shape (words, pairs, count).
    anchored
        The players, which have been opened under masks.
    """
    _, size, count = players.shape
    words, pairs = len(players) - 1, len(earlier)

    def derive(masks: Words) -> list[Words]:
        products = np.zeros((words, pairs, count), dtype=WORD)
        kernels.cross_products(masks, masks, np.zeros_like(masks), earlier, later, products)
        return [products]

    dealt = session.correlate(
        Correlation(
            "cross products",
            masks=[ring_field(words + 1, size, count)],
            derived=[ring_field(words, pairs, count)],
            derive=derive,
        )
    )
    mask = dealt.ring_mask(0)
    if session.dealing:
        return Shared(None, None, (words, pairs, count)), Anchored(players, mask, None)
    (opened,) = session.open_masked((players, mask))
    products = dealt.ring(0).words.copy()
    own = np.negative(mask.share.words)
    if session.holder == 0:
        own += opened
    kernels.cross_products(opened, own, mask.share.words, earlier, later, products)
    return Shared(session.holder, products), Anchored(players, mask, opened)


def fraction_scores(upper: Shared, lower: Shared, denominator: Shared) -> Shared:
    """The players of `compare_fractions` as one array of scores."""
    return stack([upper, lower, denominator])


def numerator_of(scores: Shared) -> Shared:
    """The numerators of scores, put together again; local."""
    return scores[0] * np.array(1 << LIMB_BITS, dtype=WORD) + scores[1]

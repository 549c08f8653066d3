"""Monotone constraints: bounds of the weights below every node, shared, as XGBoost keeps them.

docs/protocols/monotone.md. All weights here are negated, -w with `scales.weight_bits` fraction bits, as in `gain`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, stack, stack_bits
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

#: A bound that no weight reaches.
_NO_BOUND = 1 << 60


def bounds_of_root(session: Session, parameters: Parameters, scales: Scales) -> Shared | None:
    """Public bounds: `max_delta_step` if there is one; shape (2, 1). None without constraints."""
    if not parameters.constrained:
        return None
    bound = _NO_BOUND
    if parameters.max_delta_step:
        bound = round(min(float(_NO_BOUND), parameters.max_delta_step * 2.0**scales.weight_bits))
    return session.constant(to_ring(np.array([[-bound], [bound]])))


def bounds_of_children(
    session: Session, bounds: Shared, weights: Shared, rising: SharedBits, falling: SharedBits
) -> Shared:
    """Bounds below the splits of a level. Five rounds, or two for few nodes.

    Parameters
    ----------
    bounds
        Of the nodes: least and greatest negated weight, shape (2, nodes).
    weights
        Negated weights of the children, left and right in turn, shape (2 * nodes,).
    rising, falling
        One plane of `nodes` bits: whether the node splits by a column whose weights must not fall, or not rise.

    Returns
    -------
    Shared
        Shape (2, 2 * nodes), left and right children in turn.

    Notes
    -----
    1. Halfway between the children's weights.
    2. Where weights must not fall, it is the least negated weight on the left and the greatest on the right; where they
       must not rise, the other way round.
    """
    nodes = bounds.shape[1]
    both = weights.reshape(nodes, 2)
    (middle,) = truncate(session, (both.sum(axis=1), 1))
    low, high = middle - bounds[0], middle - bounds[1]
    bits = stack_bits([rising, rising, falling, falling])
    (changes,) = select(session, bits, stack([low, high, low, high]))
    rising_low, rising_high, falling_low, falling_high = (changes[k] for k in range(4))
    lows = stack([bounds[0] + rising_low, bounds[0] + falling_low], axis=1)
    highs = stack([bounds[1] + falling_high, bounds[1] + rising_high], axis=1)
    return stack([lows.reshape(2 * nodes), highs.reshape(2 * nodes)])


def has_sign(winners: SharedBits, numbers: npt.NDArray[np.int64]) -> SharedBits:
    """Whether each node's winner is one of some candidates, as one plane. Local.

    Parameters
    ----------
    winners
        One-hot planes (nodes, candidates), zero where a node does not split.
    numbers
        Public numbers of candidates.
    """
    nodes = len(winners)
    if winners.hollow:
        return SharedBits(None, None, nodes, (words_for(nodes),))
    bits = unpack_bits(winners.words, winners.count)[:, numbers]
    found = np.bitwise_xor.reduce(bits, axis=1, initial=0).astype(np.uint8)
    return SharedBits(winners.holder, pack_bits(found.view(np.bool_)), nodes)

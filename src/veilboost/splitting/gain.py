"""Scores of candidate splits and leaf weights, on shared sums of gradients and hessians.

With a = H_L + lambda, b = H_R + lambda and S = a + b, XGBoost's gain of a split is D^2 / (a b S) minus a constant of
the node, D = G_L S - G_P a. So within a node the candidates are ranked by |D| / sqrt(a b): no cancellation, one
inverse square root each. With L1 regularisation or `max_delta_step` the identity fails, and both sides' scores are
computed one by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.divide import DIVISOR_BITS, divide, inverse_square_root, reciprocal
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, stack, stack_bits
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

#: Public thresholds beyond this are as good as this: no shared sum reaches it.
_LARGEST_BOUND = 1 << 61

#: The less preferred direction of the missing rows loses against the other unless its score is larger by this part:
#: about ten times what rounding explains, half a per mille of the gain.
_HANDICAP = 2.0**-12

_SHARE_BITS = 31  # fraction bits of u = a / S
_KEPT_BITS = 26  # low bits of D dropped, so that |D| < 2^35 and the product with p^(-1/2) < 2^27 fits
_P_BITS = 40  # fraction bits of p = u (1 - u) <= 1/4 ...
_P_LOW = 18  # ... which is resolved down to 2^-22
_ROOT_BITS = 16


def rank(
    session: Session,
    gradient: Shared,
    hessian: Shared,
    node_gradient: Shared,
    node_hessian: Shared,
    handicapped: npt.NDArray[np.bool_],
    parameters: Parameters,
    scales: Scales,
) -> Shared:
    """Non-negative scores that rank the candidates of every node as XGBoost's gain does.

    Parameters
    ----------
    gradient, hessian
        Sums of the left side, shape (nodes, candidates).
    node_gradient, node_hessian
        Sums of the nodes, shape (nodes,).
    handicapped
        Public, shape (candidates,): the less preferred direction of the missing rows.

    Returns
    -------
    Shared
        Shape (nodes, candidates), below 2^62. Means nothing where a side is empty.
    """
    if parameters.reg_alpha or parameters.max_delta_step:
        return _rank_by_sides(session, gradient, hessian, node_gradient, node_hessian, handicapped, parameters, scales)
    nodes = gradient.shape[0]
    lam = scales.hessian(parameters.reg_lambda)
    # u = a / S with 31 fraction bits: a (2^60 / S) never exceeds 2^60.
    inverse, power = reciprocal(session, node_hessian + 2 * lam)
    (factor,) = multiply(session, (inverse, power))
    (scaled,) = multiply(session, (hessian + lam, factor.reshape(nodes, 1)))
    (u,) = truncate(session, (scaled, 2 * DIVISOR_BITS - _SHARE_BITS))
    # D / S = G_L - G_P u and p = a b / S^2 = u (1 - u).
    parent, square = multiply(session, (node_gradient.reshape(nodes, 1), u), (u, u))
    difference, square = truncate(
        session,
        (gradient * to_ring(1 << _SHARE_BITS) - parent, _KEPT_BITS),
        (square, 2 * _SHARE_BITS - _P_BITS),
    )
    p = u * to_ring(1 << (_P_BITS - _SHARE_BITS)) - square
    factors = np.where(handicapped, 1.0 - _HANDICAP, 1.0)
    root = inverse_square_root(session, p, _P_BITS, _P_LOW, _P_BITS - 1, _ROOT_BITS, factors)
    magnitude = absolute(session, difference)
    (score,) = multiply(session, (magnitude, root))
    return score


def absolute(session: Session, value: Shared) -> Shared:
    """|x|; eight rounds."""
    flat = value.reshape(1, value.size)
    (part,) = select(session, negative_planes(session, flat), flat)
    return (flat - part * to_ring(2)).reshape(*value.shape)


def side_scores(
    session: Session, gradient: Shared, hessian: Shared, parameters: Parameters, scales: Scales
) -> tuple[Shared, Shared]:
    """Optimal weight of a leaf with these sums, and twice the loss that it saves, as XGBoost computes them.

    Parameters
    ----------
    gradient, hessian
        Sums, of one shape. Results mean nothing where H + lambda is 0.

    Returns
    -------
    weight
        -w, before the learning rate, with `scales.weight_bits` fraction bits.
    score
        With gradient_bits + weight_bits fraction bits: T(G)^2 / (H + lambda), or with `max_delta_step`
        -(2 G w + (H + lambda) w^2) for the clipped w.
    """
    threshold = _soft_threshold(session, gradient, parameters, scales)
    divisor = hessian + scales.hessian(parameters.reg_lambda)
    weight = divide(session, threshold, divisor, scales.weight_bits + scales.hessian_bits - scales.gradient_bits)
    if not parameters.max_delta_step:
        (score,) = multiply(session, (threshold, weight))
        return weight, score
    weight = _clip(session, weight, _clamp(parameters.max_delta_step * 2.0**scales.weight_bits))
    (product,) = multiply(session, (divisor, weight))
    (product,) = truncate(session, (product, scales.weight_bits + scales.hessian_bits - scales.gradient_bits))
    (score,) = multiply(session, (weight, gradient * to_ring(2) - product))
    return weight, score


def at_least(session: Session, *tests: tuple[Shared, int]) -> list[SharedBits]:
    """[x >= bound] for arrays of one shape and public bounds, in one batch; seven rounds."""
    gaps = stack([(value - to_ring(_clamp(bound))).reshape(value.size) for value, bound in tests])
    planes = ~negative_planes(session, gaps)
    return [planes[position] for position in range(len(tests))]


def _rank_by_sides(
    session: Session,
    gradient: Shared,
    hessian: Shared,
    node_gradient: Shared,
    node_hessian: Shared,
    handicapped: npt.NDArray[np.bool_],
    parameters: Parameters,
    scales: Scales,
) -> Shared:
    nodes = gradient.shape[0]
    gradients = stack([gradient, node_gradient.reshape(nodes, 1) - gradient])
    hessians = stack([hessian, node_hessian.reshape(nodes, 1) - hessian])
    _, scores = side_scores(session, gradients, hessians, parameters, scales)
    total = scores.sum(axis=0)
    (part,) = truncate(session, (total, round(-np.log2(_HANDICAP))))
    return total - part * to_ring(handicapped.astype(np.int64))


def _soft_threshold(session: Session, gradient: Shared, parameters: Parameters, scales: Scales) -> Shared:
    """sign(G) max(|G| - alpha, 0)."""
    alpha = _clamp(parameters.reg_alpha * 2.0**scales.gradient_bits)
    if alpha == 0:
        return gradient
    above, not_below = at_least(session, (gradient, alpha), (gradient, -alpha))
    flat = gradient.reshape(gradient.size)
    upper, lower = flat - to_ring(alpha), flat + to_ring(alpha)
    (parts,) = select(session, stack_bits([above, ~not_below]), stack([upper, lower]))
    return parts.sum(axis=0).reshape(*gradient.shape)


def _clip(session: Session, value: Shared, limit: int) -> Shared:
    over, not_under = at_least(session, (value, limit), (value, -limit))
    flat = value.reshape(value.size)
    (parts,) = select(session, stack_bits([over, ~not_under]), stack([to_ring(limit) - flat, to_ring(-limit) - flat]))
    return (flat + parts.sum(axis=0)).reshape(*value.shape)


def _clamp(bound: float) -> int:
    return round(max(-float(_LARGEST_BOUND), min(float(_LARGEST_BOUND), bound)))

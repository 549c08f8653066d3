"""Scores of candidate splits and leaf weights, on shared sums of gradients and hessians.

With a = H_L + lambda, b = H_R + lambda and S = a + b, XGBoost's gain of a split is D^2 / (a b S) minus a constant of
the node, D = G_L S - G_P a. So within a node the candidates are ranked by the fractions (D / S)^2 / (a b / S^2): no
cancellation, and no division either (protocols/fractions.py). With L1 regularisation, `max_delta_step` or monotone
constraints the identity fails, and both sides' scores are computed one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilboost.mpc.protocols.argmax import Contest, compare_numbers
from veilboost.mpc.protocols.compare import LANE_BITS, negative_planes
from veilboost.mpc.protocols.divide import DIVISOR_BITS, divide, quotient, reciprocal
from veilboost.mpc.protocols.fractions import (
    DENOMINATOR_BITS,
    compare_fractions,
    fraction_scores,
    limbs,
    numerator_of,
)
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.select import select
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import WORD_BITS, Words, to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, stack, stack_bits
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

#: Public thresholds beyond this are as good as this: no shared sum reaches it.
_LARGEST_BOUND = 1 << 61

#: The same for hessians and numbers of rows, which stay below 2^30.
_LARGEST_COUNT = 1 << DIVISOR_BITS

_SHARE_BITS = 31  # fraction bits of u = a / S
_SPREAD_BITS = DENOMINATOR_BITS + 2  # fraction bits of p = u (1 - u) <= 1/4

#: Added to p, so that rounding makes none negative: u may exceed 1 by 12 units.
_LEAST_SPREAD = 26

#: p of candidates that are not valid: that of two equal sides.
_EVEN_SPREAD = 1 << DENOMINATOR_BITS


@dataclass(frozen=True)
class Standing:
    """What is known of the nodes of a level before their splits are searched.

    Attributes
    ----------
    sums
        Shape (vectors, nodes): gradient, hessian and, where a minimum of rows per leaf is asked for, rows.
    weight, score
        Shape (nodes,): see `side_scores`. The weight of an empty node, and of a root below the least hessian, is 0.
    factor
        Shape (nodes,): 2^60 / (H + 2 lambda). Where scores are computed side by side it has no use and is zero.
    alive
        One plane of `nodes` bits: whether a node's parent was split.
    bounds
        Shape (2, nodes): least and greatest negated weight below the node; None without monotone constraints.
    """

    sums: Shared
    weight: Shared
    score: Shared
    factor: Shared
    alive: SharedBits
    bounds: Shared | None = None


def by_sides(parameters: Parameters) -> bool:
    """Whether the identity of gains fails."""
    return bool(parameters.reg_alpha or parameters.max_delta_step or parameters.constrained)


def contest(parameters: Parameters) -> Contest:
    """How candidates' scores are compared."""
    return compare_numbers if by_sides(parameters) else compare_fractions


@dataclass(frozen=True)
class Ranked:
    """What is known of the candidates of a level.

    Attributes
    ----------
    scores
        What ranks the candidates of every node as XGBoost's gain does, before `keep_valid`: shape (2, nodes,
        candidates), D / S in units of the gradient, below 2^30, and p with 32 fraction bits; or, side by side, shape
        (1, nodes, candidates), twice the loss saved. Means nothing where a side is empty.
    weights
        Side by side, of both sides, shape (2, nodes, candidates): see `side_scores`; else None.
    """

    scores: Shared
    weights: Shared | None = None


def rank(
    session: Session, gradient: Shared, hessian: Shared, standing: Standing, parameters: Parameters, scales: Scales
) -> Ranked:
    """Rank the candidates of every node.

    Parameters
    ----------
    gradient, hessian
        Sums of the left side, shape (nodes, candidates).

    Notes
    -----
    1. u = a / S with 31 fraction bits: a (2^60 / S) never exceeds 2^60.
    2. D / S = G_L - G_P u and p = a b / S^2 = u (1 - u), one product each, truncated.

    Side by side, within bounds, a score may be negative, and the node's too: there it is what the split saves more than
    the node, which is negative only of candidates that gain nothing.
    """
    nodes, count = gradient.shape
    node_gradient, node_hessian = (standing.sums[vector].reshape(nodes, 1) for vector in (0, 1))
    if by_sides(parameters):
        gradients = stack([gradient, node_gradient - gradient])
        hessians = stack([hessian, node_hessian - hessian])
        bounds = standing.bounds
        if bounds is not None:
            bounds = bounds.reshape(2, 1, nodes, 1).broadcast_to((2, 2, nodes, count))
        weights, scores = side_scores(session, gradients, hessians, parameters, scales, bounds)
        saved = scores.sum(axis=0)
        if bounds is not None:
            saved = saved - standing.score.reshape(nodes, 1)
        return Ranked(stack([saved]), weights)
    lam = scales.hessian(parameters.reg_lambda)
    (scaled,) = multiply(session, (hessian + lam, standing.factor.reshape(nodes, 1)))
    (u,) = truncate(session, (scaled, 2 * DIVISOR_BITS - _SHARE_BITS))
    parent, square = multiply(session, (node_gradient, u), (u, u))
    one = to_ring(1 << _SHARE_BITS)
    difference, spread = truncate(
        session, (gradient * one - parent, _SHARE_BITS), (u * one - square, 2 * _SHARE_BITS - _SPREAD_BITS)
    )
    return Ranked(stack([difference, spread + to_ring(_LEAST_SPREAD)]))


def keep_valid(session: Session, valid: SharedBits, ranked: Shared, parameters: Parameters) -> Shared:
    """The scores that `contest` compares: those of `rank`, with those of invalid candidates below all others.

    Parameters
    ----------
    valid
        One plane of nodes * candidates bits.

    Returns
    -------
    Shared
        Shape (arrays, nodes, candidates).
    """
    shape = ranked.shape[1:]
    flat = ranked.reshape(len(ranked), 1, ranked[0].size)
    if by_sides(parameters):
        (kept,) = select(session, valid.reshape(1), flat + to_ring(1))
        return kept.reshape(1, *shape)
    shifted = stack([flat[0], flat[1] - to_ring(_EVEN_SPREAD)])
    (kept,) = select(session, valid.reshape(1), shifted)
    difference, spread = kept.reshape(2, *shape)[0], kept.reshape(2, *shape)[1] + to_ring(_EVEN_SPREAD)
    (square,) = multiply(session, (difference, difference))
    return fraction_scores(*limbs(session, square), spread)


def is_valid(best: Shared, parameters: Parameters) -> Shared:
    """Positive where the winning score, shape (arrays, nodes), is that of a valid candidate with something to gain."""
    return best[0] if by_sides(parameters) else numerator_of(best)


def side_scores(
    session: Session,
    gradient: Shared,
    hessian: Shared,
    parameters: Parameters,
    scales: Scales,
    bounds: Shared | None = None,
) -> tuple[Shared, Shared]:
    """Optimal weight of a leaf with these sums, and twice the loss that it saves, as XGBoost computes them.

    Parameters
    ----------
    gradient, hessian
        Sums, of one shape. Results mean nothing where H + lambda is 0.
    bounds
        With monotone constraints the least and the greatest negated weight of each, shape (2, ...).

    Returns
    -------
    weight
        -w, before the learning rate, with `scales.weight_bits` fraction bits.
    score
        With gradient_bits + weight_bits fraction bits: T(G)^2 / (H + lambda), or with `max_delta_step` or bounds
        -(2 G w + (H + lambda) w^2) for the clipped w.
    """
    threshold = soft_threshold(session, gradient, parameters, scales)
    divisor = hessian + scales.hessian(parameters.reg_lambda)
    weight = divide(session, threshold, divisor, _weight_shift(scales))
    return _clipped(session, gradient, threshold, divisor, weight, bounds, parameters, scales)


def appraise(
    session: Session,
    gradient: Shared,
    hessian: Shared,
    parameters: Parameters,
    scales: Scales,
    bounds: Shared | None = None,
) -> tuple[Shared, Shared, Shared]:
    """`side_scores` of nodes, shape (nodes,), and the `factor` of their standing, in the same rounds but one."""
    if by_sides(parameters):
        weight, score = side_scores(session, gradient, hessian, parameters, scales, bounds)
        return weight, score, score * to_ring(0)
    lam = scales.hessian(parameters.reg_lambda)
    inverse, power = reciprocal(session, stack([hessian + lam, hessian + 2 * lam]))
    (factor,) = multiply(session, (inverse[1], power[1]))
    weight = quotient(session, gradient, inverse[0], power[0], _weight_shift(scales))
    (score,) = multiply(session, (gradient, weight))
    return weight, score, factor


def at_least(session: Session, *tests: tuple[Shared, int], counts: bool = False) -> list[SharedBits]:
    """[x >= bound] for arrays of one shape and public bounds, in one batch; seven rounds, four for few elements.

    With `counts`, for x in [0, 2^30) and bounds from 0 on, at half the cost.
    """
    clamp = _clamp_count if counts else _clamp
    gaps = stack([(value - to_ring(clamp(bound))).reshape(value.size) for value, bound in tests])
    planes = ~negative_planes(session, gaps, LANE_BITS if counts else WORD_BITS)
    return [planes[position] for position in range(len(tests))]


def _weight_shift(scales: Scales) -> int:
    return scales.weight_bits + scales.hessian_bits - scales.gradient_bits


def _clipped(
    session: Session,
    gradient: Shared,
    threshold: Shared,
    divisor: Shared,
    weight: Shared,
    bounds: Shared | None,
    parameters: Parameters,
    scales: Scales,
) -> tuple[Shared, Shared]:
    """The weight within its bounds or `max_delta_step`, and its score."""
    if not parameters.max_delta_step and not parameters.constrained:
        (score,) = multiply(session, (threshold, weight))
        return weight, score
    if bounds is not None:
        weight = _clip(session, weight, bounds[0], bounds[1])
    elif parameters.max_delta_step:
        limit = _clamp(parameters.max_delta_step * 2.0**scales.weight_bits)
        weight = _clip(session, weight, to_ring(-limit), to_ring(limit))
    (product,) = multiply(session, (divisor, weight))
    (product,) = truncate(session, (product, _weight_shift(scales)))
    (score,) = multiply(session, (weight, gradient * to_ring(2) - product))
    return weight, score


def soft_threshold(session: Session, gradient: Shared, parameters: Parameters, scales: Scales) -> Shared:
    """sign(G) max(|G| - alpha, 0)."""
    alpha = _clamp(parameters.reg_alpha * 2.0**scales.gradient_bits)
    if alpha == 0:
        return gradient
    above, not_below = at_least(session, (gradient, alpha), (gradient, -alpha))
    flat = gradient.reshape(gradient.size)
    upper, lower = flat - to_ring(alpha), flat + to_ring(alpha)
    (parts,) = select(session, stack_bits([above, ~not_below]), stack([upper, lower]))
    return parts.sum(axis=0).reshape(*gradient.shape)


def _clip(session: Session, value: Shared, low: Shared | Words, high: Shared | Words) -> Shared:
    above, below = value - high, value - low
    over, not_under = at_least(session, (above, 0), (below, 0))
    changes = stack([(-above).reshape(value.size), (-below).reshape(value.size)])
    (parts,) = select(session, stack_bits([over, ~not_under]), changes)
    return value + parts.sum(axis=0).reshape(*value.shape)


def _clamp(bound: float) -> int:
    return round(max(-float(_LARGEST_BOUND), min(float(_LARGEST_BOUND), bound)))


def _clamp_count(bound: float) -> int:
    return round(max(0.0, min(float(_LARGEST_COUNT), bound)))

"""The best split of every node of a level, found and kept in shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.argmax import tournament
from veilboost.mpc.protocols.multiply import conjunctions
from veilboost.mpc.protocols.pack import pack, unpack
from veilboost.mpc.protocols.select import select
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack, stack_bits, stack_planes
from veilboost.splitting.gain import Standing, appraise, at_least, contest, is_valid, keep_valid, rank
from veilboost.splitting.monotone import bounds_of_root
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

#: Nodes times candidates that are scored at a time, to bound memory.
_BATCH = 1 << 17

#: Conditions that are combined in one round: of f factors the dealer's part has 2^f - f - 1 bits.
_FACTORS = 5

#: XGBoost's kRtEps: a split must gain more.
LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class Candidates:
    """The candidate splits of one level, in the order in which ties are decided.

    Attributes
    ----------
    left
        Sums of the left side: shape (vectors, nodes, candidates); vectors are gradient, hessian and, where a minimum of
        rows per leaf is asked for, rows.
    numbers
        Public number of each candidate, shape (candidates,).
    valid
        Private validity of each candidate, one plane of `candidates` bits; None when all are valid.
    missing
        Hessian sums of the missing rows of some columns, shape (nodes, columns); None when no column has any.
    second
        Public, shape (candidates,): for candidates that send missing rows the less preferred way, the position of their
        column in `missing`; -1 for others. Such a candidate is valid only where there are missing rows.
    permitted
        Public, shape (nodes, candidates): column sampling by node; None when all are.
    conditions
        What else a candidate must fulfil: planes of nodes * candidates bits.
    signs
        Public, shape (candidates,): the monotone constraint of each candidate's column; None without constraints.
    """

    left: Shared
    numbers: npt.NDArray[np.int64]
    valid: SharedBits | None = None
    missing: Shared | None = None
    second: npt.NDArray[np.int64] | None = None
    permitted: npt.NDArray[np.bool_] | None = None
    conditions: tuple[SharedBits, ...] = ()
    signs: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Splits:
    """The winners of one level, shared.

    Attributes
    ----------
    choice
        Shape (nodes,): 0 where a node does not split, else 1 + number of the candidate.
    gain
        Shape (nodes,): loss saved, with gradient_bits + weight_bits fraction bits; zero where a node does not split.
    alive
        One plane of `nodes` bits: which nodes split.
    children
        Of node k at 2k (left) and 2k + 1 (right). Where a node does not split, all of it goes right.
    """

    choice: Shared
    gain: Shared
    alive: SharedBits
    children: Standing


def open_root(session: Session, sums: Shared, alive: SharedBits, parameters: Parameters, scales: Scales) -> Standing:
    """The standing of a root with the given sums, shape (vectors, 1)."""
    bounds = bounds_of_root(session, parameters, scales)
    return replace(open_nodes(session, sums, alive, parameters, scales), bounds=bounds)


def open_nodes(
    session: Session,
    sums: Shared,
    alive: SharedBits,
    parameters: Parameters,
    scales: Scales,
    bounds: Shared | None = None,
) -> Standing:
    """The standing of nodes with the given sums, shape (vectors, nodes), whatever was known of them before.

    Nodes below the least hessian, or the least number of rows where there is one, have no weight.
    """
    weight, score, factor = appraise(session, sums[0], sums[1], parameters, scales, bounds)
    tests = [(sums[1], scales.least_hessian(parameters.min_child_weight))]
    if len(sums) > 2:
        tests.append((sums[2], parameters.min_rows_per_leaf))
    enough = conjunction_of(session, at_least(session, *tests, counts=True))
    (kept,) = select(session, enough.reshape(1), weight)
    return Standing(sums, kept.reshape(*weight.shape), score, factor, alive, bounds)


def find_splits(
    session: Session,
    candidates: Candidates,
    standing: Standing,
    parameters: Parameters,
    scales: Scales,
    gain_unit: float = 1.0,
) -> Splits:
    """Choose the best valid candidate of every node.

    Parameters
    ----------
    gain_unit
        What a gain of 1 in the label's unit is in the unit of the shared gradients.

    Notes
    -----
    1. Score the candidates (`gain.rank`); a score counts only if both sides have the least hessian, the least number of
       rows, weights in the order that a monotone constraint asks for, and the candidate is valid.
    2. The tournament finds the best score with its left sums and its number.
    3. The winner splits its node if it has a score, its gain suffices and the node is alive. Otherwise choice and left
       sums become zero, and nobody can tell.
    """
    scores = _valid_scores(session, candidates, standing, parameters, scales)
    numbers = session.constant(to_ring(np.broadcast_to(candidates.numbers + 1, scores.shape[1:])))
    left = candidates.left
    carried = stack([numbers, pack(left[0], left[1]), *(left[v] for v in range(2, len(left)))])
    best, won = tournament(session, contest(parameters), scores, carried)
    assert won is not None
    sums = stack([*unpack(session, won[1]), *(won[v] for v in range(2, len(won)))])
    both = stack([sums, standing.sums - sums])
    nodes = both.shape[2]
    gradients, hessians = (both[:, vector].reshape(2 * nodes) for vector in (0, 1))
    bounds = None if standing.bounds is None else concatenate([standing.bounds, standing.bounds], axis=1)
    weight, score, factor = (
        values.reshape(2, nodes) for values in appraise(session, gradients, hessians, parameters, scales, bounds)
    )
    gain = score[0] + score[1] - standing.score
    # The second term, in the unit of the shared gradients, covers the rounding of a gain that is exactly zero.
    least = max(parameters.gamma, LEAST_GAIN) * gain_unit + LEAST_GAIN
    least_units = round(min(2.0**61, least * 2.0 ** (scales.gradient_bits + scales.weight_bits)))
    worth, valid = at_least(session, (gain, least_units), (is_valid(best, parameters), 1))
    splits = conjunction_of(session, [worth, valid, standing.alive])
    old = (standing.weight, standing.score, standing.factor)
    changes = [value[1] - before for value, before in zip((weight, score, factor), old, strict=True)]
    values = stack([won[0], gain, weight[0], score[0], factor[0], *changes, *(sums[v] for v in range(len(sums)))])
    (kept,) = select(session, splits.reshape(1), values)
    weight, score, factor = (interleave(kept[2 + i], before + kept[5 + i]) for i, before in enumerate(old))
    sums = interleave(kept[8:], standing.sums - kept[8:])
    children = Standing(sums, weight, score, factor, repeat_each(splits, 2))
    return Splits(kept[0], kept[1], splits, children)


def _valid_scores(
    session: Session, candidates: Candidates, standing: Standing, parameters: Parameters, scales: Scales
) -> Shared:
    """Scores for the tournament, shape (arrays, nodes, candidates)."""
    nodes, count = candidates.left.shape[1:]
    size = max(1, _BATCH // nodes)
    least_hessian = scales.least_hessian(parameters.min_child_weight)
    present = None
    if candidates.missing is not None:
        (present,) = at_least(session, (candidates.missing, 1), counts=True)
    parts = []
    for first in range(0, count, size):
        part = slice(first, min(first + size, count))
        left = candidates.left[:, :, part]
        right = standing.sums.reshape(len(standing.sums), nodes, 1) - left
        ranked = rank(session, left[0], left[1], standing, parameters, scales)
        tests = [(left[1], least_hessian), (right[1], least_hessian)]
        if parameters.min_rows_per_leaf:
            tests += [(left[2], parameters.min_rows_per_leaf), (right[2], parameters.min_rows_per_leaf)]
        conditions = at_least(session, *tests, counts=True)
        if candidates.valid is not None:
            conditions.append(repeat_bits(candidates.valid, part, nodes))
        if present is not None and candidates.second is not None:
            conditions.append(spread_bits(present, candidates.second[part], nodes))
        if candidates.conditions:
            places = (np.arange(nodes)[:, None] * count + np.arange(count)[part]).reshape(-1)
            conditions += [pick_bits(plane, places) for plane in candidates.conditions]
        if candidates.signs is not None and ranked.weights is not None and candidates.signs[part].any():
            conditions.append(_in_order(session, ranked.weights, candidates.signs[part]))
        valid = conjunction_of(session, conditions)
        if candidates.permitted is not None:
            valid = valid & pack_bits(candidates.permitted[:, part].reshape(-1))
        parts.append(keep_valid(session, valid, ranked.scores, parameters))
    return concatenate(parts, axis=2)


def _in_order(session: Session, weights: Shared, signs: npt.NDArray[np.int64]) -> SharedBits:
    """Whether the sides' weights are as a constraint asks, nodes * candidates bits; `weights` are of `gain.Ranked`."""
    constrained = np.flatnonzero(signs)
    rises = (weights[0] - weights[1])[:, constrained] * to_ring(signs[constrained])  # weights are negated
    (ordered,) = at_least(session, (rises, 0))
    position = np.where(signs == 0, -1, np.cumsum(signs != 0) - 1)
    return spread_bits(ordered, position, weights.shape[1])


def conjunction_of(session: Session, conditions: Sequence[SharedBits]) -> SharedBits:
    """AND of several planes of bits, one round for every five."""
    planes = stack_bits(conditions)
    while len(planes) > 1:
        groups = np.array_split(np.arange(len(planes)), -(-len(planes) // _FACTORS))
        planes = stack_planes(conjunctions(session, planes, *(group.reshape(1, -1) for group in groups)))
    return planes[0]


def interleave(left: Shared, right: Shared) -> Shared:
    """Children of every node, left and right in turn, along the last axis."""
    shape = (*left.shape[:-1], 2 * left.shape[-1])
    return stack([left, right], axis=len(shape)).reshape(*shape)


def repeat_each(bits: SharedBits, times: int) -> SharedBits:
    """Every bit of a plane, several times in a row."""
    return pick_bits(bits, np.repeat(np.arange(bits.count), times))


def repeat_bits(bits: SharedBits, part: slice, times: int) -> SharedBits:
    """A slice of one plane of bits, `times` over, as one plane."""
    return pick_bits(bits, np.tile(np.arange(bits.count)[part], times))


def spread_bits(bits: SharedBits, columns: npt.NDArray[np.int64], rows: int) -> SharedBits:
    """Of a plane of (rows, n) bits, the given columns of each row as one plane; ones for column -1."""
    width = bits.count // rows
    chosen = pick_bits(bits, (width * np.arange(rows)[:, None] + np.maximum(columns, 0)).reshape(-1))
    exempt = np.tile(columns < 0, rows)
    return (chosen & pack_bits(~exempt)) ^ pack_bits(exempt)


def pick_bits(bits: SharedBits, positions: npt.NDArray[np.int64]) -> SharedBits:
    """Bits of one plane at public positions, as one plane."""
    if bits.hollow:
        return SharedBits(None, None, len(positions), (-(-len(positions) // 64),))
    chosen = unpack_bits(bits.words, bits.count)[positions]
    return SharedBits(bits.holder, pack_bits(chosen.view(np.bool_)), len(positions))

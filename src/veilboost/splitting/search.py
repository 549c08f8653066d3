"""The best split of every node of a level, found and kept in shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.argmax import argmax
from veilboost.mpc.protocols.compare import negative
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.protocols.select import select
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack
from veilboost.splitting.gain import at_least, rank, side_scores
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

#: Nodes times candidates that are scored at a time, to bound memory.
_BATCH = 1 << 17

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
    handicapped
        Public: whether a candidate sends missing rows the less preferred way.
    valid
        Private validity of each candidate, one plane of `candidates` bits; None when all are valid.
    permitted
        Public, shape (nodes, candidates): column sampling by node; None when all are.
    """

    left: Shared
    numbers: npt.NDArray[np.int64]
    handicapped: npt.NDArray[np.bool_]
    valid: SharedBits | None
    permitted: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Splits:
    """The winners of one level, shared.

    Attributes
    ----------
    choice
        Shape (nodes,): 0 where a node does not split, else 1 + number of the candidate.
    left
        Shape (vectors, nodes): sums of the left side; zero where a node does not split.
    gain
        Shape (nodes,): loss saved, with gradient_bits + weight_bits fraction bits; zero where a node does not split.
    alive
        One plane of `nodes` bits: which nodes split.
    """

    choice: Shared
    left: Shared
    gain: Shared
    alive: SharedBits


def find_splits(
    session: Session,
    candidates: Candidates,
    node: Shared,
    alive: SharedBits,
    parameters: Parameters,
    scales: Scales,
    gain_unit: float = 1.0,
) -> Splits:
    """Choose the best valid candidate of every node.

    Parameters
    ----------
    node
        Sums of the nodes, shape (vectors, nodes).
    alive
        One plane of `nodes` bits: whether a node's parent was split.
    gain_unit
        What a gain of 1 in the label's unit is in the unit of the shared gradients.

    Notes
    -----
    1. Score the candidates (`gain.rank`); a score counts only if both sides have the least hessian, the least number of
       rows, and the candidate is valid.
    2. The tournament `argmax` finds the best score with its left sums and its number.
    3. The winner splits its node if it has a score, its gain suffices and the node is alive. Otherwise choice and left
       sums become zero, and nobody can tell.
    """
    scores = _valid_scores(session, candidates, node, parameters, scales)
    numbers = session.constant(to_ring(np.broadcast_to(candidates.numbers + 1, scores.shape)))
    best, choice, *left = argmax(session, scores, numbers, *(candidates.left[v] for v in range(len(node))))
    left_sums = stack(left)
    sides = stack([left_sums[:2], node[:2] - left_sums[:2], node[:2]])
    _, side = side_scores(session, sides[:, 0], sides[:, 1], parameters, scales)
    gain = side[0] + side[1] - side[2]
    # The second term, in the unit of the shared gradients, covers the rounding of a gain that is exactly zero.
    least = max(parameters.gamma, LEAST_GAIN) * gain_unit + LEAST_GAIN
    least_units = round(min(2.0**61, least * 2.0 ** (scales.gradient_bits + scales.weight_bits)))
    (worth,) = at_least(session, (gain, least_units))
    splits = conjunction(session, conjunction(session, worth, negative(session, -best)), alive)
    nodes = splits.reshape(1)
    (kept,) = select(session, nodes, concatenate([stack([choice, gain]), left_sums]))
    return Splits(choice=kept[0], left=kept[2:], gain=kept[1], alive=splits)


def _valid_scores(
    session: Session, candidates: Candidates, node: Shared, parameters: Parameters, scales: Scales
) -> Shared:
    """Scores plus one where a candidate is valid, else zero; shape (nodes, candidates)."""
    nodes, count = candidates.left.shape[1:]
    size = max(1, _BATCH // nodes)
    parts = []
    least_hessian = scales.least_hessian(parameters.min_child_weight)
    for first in range(0, count, size):
        part = slice(first, min(first + size, count))
        left = candidates.left[:, :, part]
        right = node.reshape(len(node), nodes, 1) - left
        score = rank(session, left[0], left[1], node[0], node[1], candidates.handicapped[part], parameters, scales)
        tests = [(left[1], least_hessian), (right[1], least_hessian)]
        if parameters.min_rows_per_leaf:
            tests += [(left[2], parameters.min_rows_per_leaf), (right[2], parameters.min_rows_per_leaf)]
        conditions = at_least(session, *tests)
        if candidates.valid is not None:
            conditions.append(repeat_bits(candidates.valid, part, nodes))
        valid = conjunction_of(session, conditions)
        (kept,) = select(session, valid.reshape(1), (score + to_ring(1)).reshape(1, score.size))
        kept = kept.reshape(*score.shape)
        if candidates.permitted is not None:
            kept = kept * to_ring(candidates.permitted[:, part])
        parts.append(kept)
    return concatenate(parts, axis=1)


def conjunction_of(session: Session, conditions: Sequence[SharedBits]) -> SharedBits:
    """AND of several planes of bits, pair by pair."""
    remaining = list(conditions)
    while len(remaining) > 1:
        first, second, *rest = remaining
        remaining = [*rest, conjunction(session, first, second)]
    return remaining[0]


def repeat_bits(bits: SharedBits, part: slice, times: int) -> SharedBits:
    """A slice of one plane of bits, `times` over, as one plane."""
    count = len(range(*part.indices(bits.count))) * times
    if bits.hollow:
        return SharedBits(None, None, count, (-(-count // 64),))
    values = unpack_bits(bits.words, bits.count)[part]
    return SharedBits(bits.holder, pack_bits(np.tile(values, times).view(np.bool_)), count)

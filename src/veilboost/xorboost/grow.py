"""One tree on shares, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from veilboost.mpc.protocols.one_hot import look_up
from veilboost.mpc.protocols.pack import pack, unpack
from veilboost.mpc.protocols.select import Anchored, anchor, select
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack, stack_planes
from veilboost.splitting.leaves import leaf_weights
from veilboost.splitting.monotone import bounds_of_children, has_sign
from veilboost.splitting.partitions import partition_level
from veilboost.splitting.search import Candidates, find_splits, interleave, open_root, pick_bits
from veilboost.splitting.sides import left_sums, sides_of
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import sample_features, sample_rows
from veilboost.xorboost.forest import SharedTree
from veilboost.xorboost.histogram import TableCells
from veilboost.xorboost.routing import route, split_codes, winning_candidates
from veilboost.xorboost.task import TrainingTask

#: Rows times nodes of one step of a level, to bound memory.
_WORDS_AT_ONCE = 1 << 23


def grow_tree(
    session: Session,
    task: TrainingTask,
    cells: TableCells,
    valid: SharedBits | None,
    cuts: SharedBits,
    gradient: Shared,
    hessian: Shared,
    number: int,
) -> tuple[SharedTree, Shared]:
    """Grow tree `number` on shared gradients.

    Returns
    -------
    tree
        The tree, in shares.
    step
        Shape (rows,): what it adds to every row's margin.

    Notes
    -----
    For every level:

    1. Sum the gradients of the left children per bin, masked by the children's row indicators; the right children's
       sums are the parents' minus these.
    2. Find the best split of every node (`splitting.search`); in partitioned columns, sort the categories first
       (`partitions`).
       With monotone constraints the winner's weights bound those below it (`splitting.monotone`).
    3. Route the rows (`routing`), unless the level was the last: then the leaves' weights are the optimal weights of
       their sums, and every row's margin moves by the weight of its leaf.
    """
    space, scales, unit = task.space, task.scales, task.unit
    parameters = unit.scaled(task.parameters)
    vectors = _vectors(session, gradient, hessian, parameters, number)
    sampled = [sample_features(parameters, number, level, len(space.features)) for level in range(parameters.max_depth)]
    in_tree = frozenset(np.flatnonzero(np.any([level.any(axis=0) for level in sampled], axis=0)).tolist())
    words = _packed(vectors)
    anchored = anchor(session, *words)
    indicators = _all_rows(session, space.rows)
    session.phases.enter("split search")
    root = vectors.sum(axis=1).reshape(len(vectors), 1)
    standing = open_root(session, root, _all_rows(session, 1)[0], parameters, scales)
    signs = space.of_candidates(parameters.signs(space.features))
    histogram: Shared | None = None
    codes, cut_bits, gains, covers = [], [], [], []
    for permitted in sampled:
        session.phases.enter("histograms")
        if histogram is None:
            histogram = _histogram(session, cells, stack(words).reshape(len(words), 1, space.rows), in_tree)
        else:
            left = _left_histograms(session, cells, indicators[0::2], anchored, in_tree)
            histogram = interleave(left, histogram - left)
        session.phases.enter("split search")
        features = np.flatnonzero(permitted.any(axis=0))
        sides = sides_of(space, features.tolist())
        left = left_sums(space, sides, histogram, standing.sums)
        partition = partition_level(session, space, features.tolist(), histogram, parameters, scales)
        if partition is not None:
            left = partition.left(sides, left)
        splits = find_splits(
            session,
            Candidates(
                left=left,
                numbers=sides.candidates,
                valid=None if valid is None else pick_bits(valid, sides.candidates),
                missing=histogram[sides.missing_bins, 1].transpose() if len(sides.missing_bins) else None,
                second=sides.second,
                permitted=space.permitted(sides.candidates, permitted),
                conditions=() if partition is None else (partition.condition(sides),),
                signs=signs[sides.candidates] if parameters.constrained else None,
            ),
            standing,
            parameters,
            scales,
            gain_unit=1 / unit.gain,
        )
        session.phases.enter("routing")
        winners = winning_candidates(session, space, splits.choice)
        cut_bits.append(_in_planes(look_up(session, winners, cuts), 32))
        sets = None if partition is None else partition.winning_sets(session, winners)
        codes.append(split_codes(space, winners, sets))
        gains.append(splits.gain)
        covers.append(standing.sums[1])
        indicators = route(session, space, cells, winners, sets, indicators, frozenset(features.tolist()))
        bounds = None
        if standing.bounds is not None:
            session.phases.enter("split search")
            rising, falling = (has_sign(winners, np.flatnonzero(signs == sign)) for sign in (1, -1))
            bounds = bounds_of_children(session, standing.bounds, splits.children.weight, rising, falling)
        standing = replace(splits.children, bounds=bounds)
    session.phases.enter("leaves")
    covers.append(standing.sums[1])
    weights = leaf_weights(session, standing, parameters, scales)
    step = _weight_of_rows(session, indicators, weights)
    tree = SharedTree(stack_planes(codes), stack_planes(cut_bits), weights, concatenate(gains), concatenate(covers))
    return tree, step


def _vectors(session: Session, gradient: Shared, hessian: Shared, parameters: Parameters, number: int) -> Shared:
    """Gradient, hessian and, if needed, ones, shape (vectors, rows); zero for rows that this tree does not sample."""
    rows = gradient.shape[0]
    vectors = [gradient, hessian]
    if parameters.min_rows_per_leaf:
        vectors.append(session.constant(to_ring(np.ones(rows))))
    stacked, sampled = stack(vectors), sample_rows(parameters, number, rows)
    return stacked if sampled.all() else stacked * to_ring(sampled)


def _packed(vectors: Shared) -> list[Shared]:
    """Gradient and hessian in one word per row, then what else there is; each of shape (rows,)."""
    return [pack(vectors[0], vectors[1]), *(vectors[v] for v in range(2, len(vectors)))]


def _histogram(session: Session, cells: TableCells, words: Shared, active: frozenset[int]) -> Shared:
    """Sums per bin of packed words of shape (words, nodes, rows); shape (bins, vectors, nodes)."""
    n_words, n_nodes, _ = words.shape
    sums = cells.sum_per_bin(session, _rows_first(words), active)
    sums = sums.reshape(sums.shape[0], n_words, n_nodes)
    gradient, hessian = unpack(session, sums[:, 0])
    return stack([gradient, hessian, *(sums[:, v] for v in range(1, n_words))], axis=1)


def _left_histograms(
    session: Session,
    cells: TableCells,
    indicators: SharedBits,
    anchored: Sequence[Anchored],
    active: frozenset[int],
) -> Shared:
    """Histograms of the rows of some nodes, so many nodes at a time as memory should hold."""
    parts = []
    size = max(1, _WORDS_AT_ONCE // indicators.count)
    for first in range(0, len(indicators), size):
        masked = stack(select(session, indicators[first : first + size], *anchored))
        parts.append(_histogram(session, cells, masked, active))
    return concatenate(parts, axis=2)


def _weight_of_rows(session: Session, indicators: SharedBits, weights: Shared) -> Shared:
    """The weight of every row's leaf, shape (rows,), for planes (leaves, rows)."""
    total: Shared | None = None
    size = max(1, _WORDS_AT_ONCE // indicators.count)
    for first in range(0, len(indicators), size):
        part = slice(first, first + size)
        (steps,) = select(session, indicators[part], weights[part].reshape(len(indicators[part]), 1))
        total = steps.sum(axis=0) if total is None else total + steps.sum(axis=0)
    assert total is not None
    return total


def _rows_first(vectors: Shared) -> Shared:
    """Shape (vectors, nodes, rows) as (rows, vectors * nodes)."""
    n_vectors, nodes, rows = vectors.shape
    return vectors.reshape(n_vectors * nodes, rows).transpose()


def _all_rows(session: Session, rows: int) -> SharedBits:
    """One plane of shared ones, shape (1, rows)."""
    ones = pack_bits(np.ones((1, rows), dtype=np.bool_))
    zeros = None if session.dealing else np.zeros_like(ones)
    return SharedBits(session.holder, zeros, rows, ones.shape) ^ ones


def _in_planes(bits: SharedBits, width: int) -> SharedBits:
    """One plane of count * width bits as planes (count, width)."""
    count = bits.count // width
    if bits.hollow:
        return SharedBits(None, None, width, (count, -(-width // 64)))
    rows = unpack_bits(bits.words, bits.count).reshape(count, width)
    return SharedBits(bits.holder, pack_bits(rows.view(np.bool_)), width)

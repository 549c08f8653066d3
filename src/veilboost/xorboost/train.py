"""Training: boosted trees on shares, level by level.

Nothing in here depends on a secret: every participant, the dealer included, runs the same steps on the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.one_hot import look_up
from veilboost.mpc.protocols.pack import pack, unpack
from veilboost.mpc.protocols.select import Anchored, anchor, select
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack, stack_planes
from veilboost.splitting.gain import Standing
from veilboost.splitting.monotone import bounds_of_children, has_sign
from veilboost.splitting.scales import Scales
from veilboost.splitting.search import Candidates, find_splits, interleave, open_root, pick_bits
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import sample_features, sample_rows, validation_rows
from veilboost.xorboost.candidates import Binned, CandidateSpace, share_cuts, share_validity, sides_of
from veilboost.xorboost.histogram import TableCells, left_sums
from veilboost.xorboost.objectives.base import Objective, Unit, row_weights, share_labels, share_weights
from veilboost.xorboost.objectives.choose import objective_of
from veilboost.xorboost.partitions import partition_level
from veilboost.xorboost.routing import route, split_codes, winning_candidates
from veilboost.xorboost.validation import finish, sum_of_losses

_RATE_BITS = 20

#: Bits that gains have to spare with monotone constraints: |2 G w + H w^2| <= 3 rows W^2, for both sides and the node.
_ROOM_FOR_BOUNDED_WEIGHTS = 4

#: Rows times nodes of one step of a level, to bound memory.
_WORDS_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class TrainingTask:
    """What is public about a training.

    Attributes
    ----------
    space
        Features, owners, bins and candidates.
    label_owners
        Position of the owner of the labels, or of their owners block by block.
    parameters
        Hyper-parameters.
    label_range
        Public bounds of the labels; None for binary:logistic and multi:softprob.
    weight_owners
        Position of the owner of the sample weights; None: there are none.
    weight_range
        Public bounds of the sample weights.
    """

    space: CandidateSpace
    label_owners: tuple[int, ...]
    parameters: Parameters
    label_range: tuple[float, float] | None = None
    weight_owners: tuple[int, ...] = ()
    weight_range: tuple[float, float] | None = None

    @cached_property
    def objective(self) -> Objective:
        return objective_of(self.parameters, self.label_range, self.weight_range)

    @property
    def label_parts(self) -> list[tuple[int, int]]:
        """Owners of labels, each with the number of its rows, in order of the rows."""
        return self._parts(self.label_owners)

    @property
    def weight_parts(self) -> list[tuple[int, int]]:
        """The same of the sample weights; none where there are none."""
        return self._parts(self.weight_owners)

    def _parts(self, owners: tuple[int, ...]) -> list[tuple[int, int]]:
        blocks = self.space.block_rows if len(owners) > 1 else (self.space.rows,) * len(owners)
        return list(zip(owners, blocks, strict=True))

    @property
    def unit(self) -> Unit:
        return self.objective.unit

    @cached_property
    def scales(self) -> Scales:
        scales = self.objective.scales(self.space.rows)
        if self.parameters.constrained:  # bounded weights may be far from the best ones: gains need more room
            return replace(scales, weight_bits=scales.weight_bits - _ROOM_FOR_BOUNDED_WEIGHTS)
        return scales

    @cached_property
    def held_back(self) -> npt.NDArray[np.int64]:
        """Numbers of the validation rows."""
        return np.flatnonzero(validation_rows(self.parameters, self.space.rows))


@dataclass(frozen=True)
class SharedTree:
    """One tree in shares, nodes in heap order (children of i at 2i + 1 and 2i + 2).

    Attributes
    ----------
    splits
        Planes (inner nodes, 64): feature, default direction and categories; zero where a node does not split. See
        `CandidateSpace.codes`.
    cuts
        Planes (inner nodes, 32): the float32 cut of each; zero for categories and where a node does not split.
    weights
        Shape (leaves,): learning rate included, 24 fraction bits.
    gains
        Shape (inner nodes,).
    covers
        Shape (inner nodes + leaves,): sums of hessians.
    """

    splits: SharedBits
    cuts: SharedBits
    weights: Shared
    gains: Shared
    covers: Shared


@dataclass(frozen=True)
class SharedForest:
    """A trained model in shares.

    Attributes
    ----------
    base_margin
        Shape (outputs,), 24 fraction bits, in the unit of the job; public if `base_score` was given.
    trees
        In order; those of one round, one per output, behind one another.
    metrics
        Shape (rounds,): see `validation.finish`; None without early stopping, and before training is done.
    """

    base_margin: Shared
    trees: tuple[SharedTree, ...]
    metrics: Shared | None = None


@dataclass(frozen=True)
class TrainingState:
    """Everything of a training that the next tree depends on; what a checkpoint holds.

    Masked incidences are not part of it: whoever continues sets them up anew, with fresh randomness.

    Attributes
    ----------
    margins
        Shape (outputs, rows), 24 fraction bits.
    forest
        The trees so far.
    losses
        Shape (rounds so far,): sums of losses over validation rows; shape (0,) without early stopping.
    """

    margins: Shared
    forest: SharedForest
    losses: Shared

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return len(self.forest.trees) // self.margins.shape[0]


def train(
    session: Session,
    task: TrainingTask,
    columns: Sequence[Binned | None],
    labels: npt.NDArray[np.float64] | None,
    on_tree: Callable[[int], None] = lambda number: None,
    *,
    weights: npt.NDArray[np.float64] | None = None,
    state: TrainingState | None = None,
    keep: Callable[[TrainingState], None] = lambda state: None,
) -> SharedForest:
    """Train a model on shares.

    Parameters
    ----------
    columns
        This participant's own binned columns by feature, None for those of others (and for all, at the dealer).
    labels
        float64, at an owner of labels: of all rows, or of its block; None elsewhere.
    on_tree
        Called with the number of rounds done: after the setup (0, or where a resumed training begins), then after
        every round. A round is one tree, or one for each class.
    weights
        float64, shape (rows,), at the owner of the sample weights; None elsewhere.
    state
        Where to continue; all participants must continue after the same round. None: at the beginning.
    keep
        Called with the state after every round.

    Returns
    -------
    SharedForest
        Of which every owner holds one additive share; hollow at the dealer.
    """
    space = task.space
    session.phases.enter("setup")
    cells = TableCells(session, space, columns)
    valid = share_validity(session, space, columns)
    cuts = share_cuts(session, space, columns)
    parameters, objective, held_back = task.parameters, task.objective, task.held_back
    shared_labels = concatenate(
        [
            share_labels(session, owner, labels if session.holder == owner else None, rows, objective)
            for owner, rows in task.label_parts
        ],
        axis=1,
    )
    shared_weights = _weights(session, task, weights)
    factors = row_weights(session, parameters, shared_labels, shared_weights)
    if state is None:
        training = np.delete(np.arange(space.rows), held_back)
        base_margin = objective.first_margin(
            session, shared_labels[:, training], None if factors is None else factors[training]
        )
        margins = base_margin.reshape(parameters.outputs, 1).broadcast_to((parameters.outputs, space.rows))
        state = TrainingState(margins, SharedForest(base_margin, ()), session.constant(to_ring([])))
    done = state.rounds
    on_tree(done)
    for number in range(done, parameters.n_estimators):
        session.phases.enter("gradients")
        gradient, hessian = objective.gradients(session, state.margins, shared_labels, factors, task.scales)
        grown = [
            grow_tree(session, task, cells, valid, cuts, gradient[k], hessian[k], number * parameters.outputs + k)
            for k in range(parameters.outputs)
        ]
        margins, losses = state.margins + stack([step for _, step in grown]), state.losses
        if len(held_back):
            session.phases.enter("validation")
            of_rows = None if shared_weights is None else shared_weights[held_back]
            loss = sum_of_losses(session, objective, margins[:, held_back], shared_labels[:, held_back], of_rows)
            losses = concatenate([losses, loss])
        forest = replace(state.forest, trees=(*state.forest.trees, *(tree for tree, _ in grown)))
        state = TrainingState(margins, forest, losses)
        session.phases.enter("checkpoint")
        keep(state)
        on_tree(number + 1)
    if len(held_back):
        session.phases.enter("validation")
        of_rows = None if shared_weights is None else shared_weights[held_back]
        return replace(state.forest, metrics=finish(session, state.losses, of_rows))
    return state.forest


def _weights(session: Session, task: TrainingTask, weights: npt.NDArray[np.float64] | None) -> Shared | None:
    """The shared sample weights, shape (rows,); None where there are none."""
    if task.weight_range is None:
        return None
    return concatenate(
        [
            share_weights(session, owner, weights if session.holder == owner else None, rows, task.weight_range[1])
            for owner, rows in task.weight_parts
        ]
    )


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
                permitted=_permitted_candidates(space, sides.candidates, permitted),
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


def leaf_weights(session: Session, standing: Standing, parameters: Parameters, scales: Scales) -> Shared:
    """Weights of leaves, learning rate included, 24 fraction bits; zero for empty ones."""
    rate = round(-parameters.learning_rate * (1 << _RATE_BITS))
    shift = scales.weight_bits + _RATE_BITS - FRACTION_BITS
    return truncate(session, (standing.weight * to_ring(rate), shift))[0]


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


def _permitted_candidates(
    space: CandidateSpace, candidates: npt.NDArray[np.int64], permitted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_] | None:
    """Column sampling by node, per candidate; None when all nodes may use all columns of the level."""
    features = np.searchsorted(space.candidate_starts, candidates, side="right") - 1
    mask: npt.NDArray[np.bool_] = permitted[:, features]
    return None if mask.all() else mask

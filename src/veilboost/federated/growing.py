"""One tree on the aggregators' shares: every level stands on its own sums, and its splits are disclosed.

The split search is that of XORBoost (`splitting`). What is different: where rows go is nobody's secret here, since the
clients know the model, and so nothing but the sums is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from veilboost.federated.forest import GrownTree, Level, Split
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.mpc.fixed_point import decode
from veilboost.mpc.ring import WORD, Words, pack_bits, unpack_bits, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits
from veilboost.splitting.gain import Standing
from veilboost.splitting.leaves import leaf_weights
from veilboost.splitting.monotone import bounds_of_children, bounds_of_root, has_sign
from veilboost.splitting.partitions import LevelPartition, partition_level
from veilboost.splitting.search import Candidates, Splits, find_splits, open_nodes
from veilboost.splitting.sides import left_sums, sides_of
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import sample_features

WHY = "the model: all participants receive it"

#: Entries in the ledger, each of all trees together.
SPLITS = "feature, bin and default direction of every split"
SETS = "categories of every split into sets"
WEIGHTS = "leaf weights"
GAINS = "gain of every split (reveal_gain)"
COVERS = "hessian sum of every node (reveal_gain)"

Int64 = npt.NDArray[np.int64]

#: Sums of a level: shape (bins, vectors, nodes), from the splits so far.
Histograms = Callable[[int, GrownTree], Shared]


@dataclass(frozen=True)
class _Found:
    """What is disclosed of a level.

    Attributes
    ----------
    choice
        int64, shape (nodes,): 0 where a node does not split, else 1 + number of the candidate. None at the dealer.
    sets
        bool, shape (nodes, bins): categories that go right in partitioned columns; None where there are none.
    gains, covers
        Of the nodes, where they are asked for.
    """

    choice: Int64 | None
    sets: npt.NDArray[np.bool_] | None = None
    gains: tuple[float, ...] = ()
    covers: tuple[float, ...] = ()

    def alive(self, nodes: int) -> npt.NDArray[np.bool_]:
        """Whether the parent of each node of the next level splits; any value at the dealer."""
        return np.ones(2 * nodes, dtype=np.bool_) if self.choice is None else np.repeat(self.choice > 0, 2)


def grow_tree(
    session: Session, sized: SizedTask, number: int, histograms: Histograms, unchanged: Callable[[], bool]
) -> GrownTree:
    """Grow tree `number`, level by level.

    Parameters
    ----------
    histograms
        Called with the number of the level and the tree so far.
    unchanged
        Whether the last histograms are of the same clients as those before.

    Returns
    -------
    GrownTree
        Complete at aggregators; without splits and weights at the dealer.

    Notes
    -----
    For every level:

    1. The clients' sums (`histograms`); the nodes' own sums are those over the bins of one column.
    2. What nodes are worth before they split, and their best splits (`find_splits`). The former is known from the level
       above, unless other clients have answered there: then it is computed anew (`open_nodes`). The dealer, who does
       not know, prepares for that on every level.
    3. Number of the winning candidate of every node, and in partitioned columns the categories that go right, are
       published.

    At the end the leaves' weights, of the sums of the last level's children, are published.
    """
    task, scales, parameters = sized.task, sized.scales, sized.parameters
    grown = GrownTree()
    alive = np.ones(1, dtype=np.bool_)
    bounds = bounds_of_root(session, parameters, scales)
    signs = task.space.of_candidates(parameters.signs(task.features))
    children: Standing | None = None
    whole = True  # all levels are of the same clients
    found: list[_Found] = []
    for level in range(parameters.max_depth):
        session.phases.enter("sums of clients")
        histogram = histograms(level, grown)
        session.phases.enter("split search")
        sums = histogram[sized.whole(number, level)].sum(axis=0)
        standing = _standing(session, sized, sums, alive, bounds, children, unchanged)
        permitted = sample_features(parameters, number, level, len(task.features))
        splits, partition = _search(session, sized, parameters, histogram, standing, permitted, signs)
        whole = whole and (level == 0 or unchanged())
        found.append(_disclose(session, sized, splits, standing, partition, whole))
        grown.levels.append(_level_of(task, found[-1]))
        alive = found[-1].alive(2**level)
        children = splits.children
        if bounds is not None:
            winners = _winners(session, task, found[-1].choice, 2**level)
            rising, falling = (has_sign(winners, np.flatnonzero(signs == sign)) for sign in (1, -1))
            bounds = bounds_of_children(session, bounds, children.weight, rising, falling)
    assert children is not None
    session.phases.enter("leaves")
    covers = [cover for level in found for cover in level.covers]
    if parameters.reveal_gain:
        words = session.publish(children.sums[1], COVERS) if whole else np.zeros(2**parameters.max_depth, dtype=WORD)
        covers += _decoded(None if session.dealing else words, scales.hessian_bits, task.unit.hessian)
    weights = publish_weights(session, children, parameters, sized)
    gains = tuple(gain for level in found for gain in level.gains)
    return replace(grown, weights=weights, gains=gains, covers=tuple(covers))


def _standing(
    session: Session,
    sized: SizedTask,
    sums: Shared,
    alive: npt.NDArray[np.bool_],
    bounds: Shared | None,
    children: Standing | None,
    unchanged: Callable[[], bool],
) -> Standing:
    """What the nodes of a level are worth: as the level above left them, or from their sums.

    Where other clients have answered, models are not reproducible bit for bit, so truncation need not be exact; that
    halves what the dealer prepares in vain on every other level.
    """
    plane = _public_plane(session, alive)
    if children is None:
        return open_nodes(session, sums, plane, sized.parameters, sized.scales, bounds)
    session.exact = False
    try:
        if not unchanged():
            return open_nodes(session, sums, plane, sized.parameters, sized.scales, bounds)
        with session.idle():
            open_nodes(session, sums, plane, sized.parameters, sized.scales, bounds)
    finally:
        session.exact = True
    return replace(children, bounds=bounds)


def leaves_of(session: Session, sized: SizedTask, sums: Shared) -> tuple[int, ...] | None:
    """Weights of leaves from their sums, shape (vectors, leaves), published; None at the dealer.

    Leaves below the least hessian, or the least number of rows, have the weight 0.
    """
    parameters = sized.parameters
    everywhere = _public_plane(session, np.ones(sums.shape[1], dtype=np.bool_))
    standing = open_nodes(session, sums, everywhere, parameters, sized.scales)
    return publish_weights(session, standing, parameters, sized)


def publish_weights(
    session: Session, leaves: Standing, parameters: Parameters, sized: SizedTask
) -> tuple[int, ...] | None:
    """Leaf weights in the unit of the job with 24 fraction bits; None at the dealer."""
    weights = leaf_weights(session, leaves, parameters, sized.scales)
    words = session.publish(weights, WEIGHTS)
    return None if words is None else tuple(words.view(np.int64).tolist())


def _search(
    session: Session,
    sized: SizedTask,
    parameters: Parameters,
    histogram: Shared,
    standing: Standing,
    permitted: npt.NDArray[np.bool_],
    signs: npt.NDArray[np.int64],
) -> tuple[Splits, LevelPartition | None]:
    space, scales = sized.task.space, sized.scales
    features = np.flatnonzero(permitted.any(axis=0)).tolist()
    sides = sides_of(space, features)
    left = left_sums(space, sides, histogram, standing.sums)
    partition = partition_level(session, space, features, histogram, parameters, scales)
    if partition is not None:
        left = partition.left(sides, left)
    candidates = Candidates(
        left=left,
        numbers=sides.candidates,
        missing=histogram[sides.missing_bins, 1].transpose() if len(sides.missing_bins) else None,
        second=sides.second,
        permitted=space.permitted(sides.candidates, permitted),
        conditions=() if partition is None else (partition.condition(sides),),
        signs=signs[sides.candidates] if parameters.constrained else None,
    )
    gain_unit = 1 / sized.task.unit.gain
    return find_splits(session, candidates, standing, parameters, scales, gain_unit=gain_unit), partition


def _disclose(
    session: Session,
    sized: SizedTask,
    splits: Splits,
    standing: Standing,
    partition: LevelPartition | None,
    whole: bool,
) -> _Found:
    """Publish the winners of a level.

    Gains and hessian sums stay secret (zero) once the tree has lost a client: what a node's sum and those of its
    children differ by would be that client's.
    """
    task, scales = sized.task, sized.scales
    words = session.publish(splits.choice, SPLITS)
    choice = None if words is None else words.view(np.int64)
    sets = None
    if partition is not None:
        winners = _winners(session, task, choice, standing.sums.shape[1])
        planes = partition.winning_sets(session, winners)
        words = session.publish(planes, SETS)
        sets = None if words is None else unpack_bits(words, planes.count).astype(np.bool_)
    if session.dealing or not task.parameters.reveal_gain:
        return _Found(choice, sets)
    nothing = np.zeros(standing.sums.shape[1], dtype=WORD)
    gains, covers = (
        session.publish(*each) if whole else nothing for each in ((splits.gain, GAINS), (standing.sums[1], COVERS))
    )
    return _Found(
        choice,
        sets,
        tuple(_decoded(gains, scales.gradient_bits + scales.weight_bits, task.unit.gain)),
        tuple(_decoded(covers, scales.hessian_bits, task.unit.hessian)),
    )


def _level_of(task: FederatedTask, found: _Found) -> Level:
    """The splits of a level; empty at the dealer."""
    splits: list[Split | None] = []
    for node, choice in enumerate([] if found.choice is None else found.choice.tolist()):
        if choice == 0:
            splits.append(None)
            continue
        feature, place, default_left = task.space.describe(choice - 1)
        codes: tuple[int, ...] = ()
        if feature in task.space.partitioned:
            assert found.sets is not None
            start = int(task.space.bin_starts[feature])
            codes = tuple((np.flatnonzero(found.sets[node]) - start).tolist())
        elif task.features[feature].categorical:
            codes = (place,)
        splits.append(Split(feature, place, default_left, codes))
    return tuple(splits)


def _winners(session: Session, task: FederatedTask, choice: Int64 | None, nodes: int) -> SharedBits:
    """One-hot planes (nodes, candidates) of what has been published: a public value as a shared one."""
    count = task.space.n_candidates
    if choice is None:
        return SharedBits(None, None, count, (nodes, words_for(count)))
    bits = np.zeros((nodes, count), dtype=np.bool_)
    chosen = np.flatnonzero(choice)
    bits[chosen, choice[chosen] - 1] = session.holder == 0
    return SharedBits(session.holder, pack_bits(bits), count)


def _public_plane(session: Session, bits: npt.NDArray[np.bool_]) -> SharedBits:
    if session.dealing:
        return SharedBits(None, None, len(bits), (words_for(len(bits)),))
    return SharedBits(session.holder, pack_bits(bits & (session.holder == 0)), len(bits))


def _decoded(words: Words | None, bits: int, unit: float) -> list[float]:
    return [] if words is None else (decode(words, bits) * unit).tolist()


def note_model(session: Session, task: FederatedTask) -> None:
    """Enter in the ledger what is disclosed of all trees."""
    parameters = task.parameters
    inner = 2**parameters.max_depth - 1
    if not task.leaf_sums:
        session.note(SPLITS, WHY, (parameters.n_trees, inner))
        if task.space.partitioned:
            session.note(SETS, WHY, (parameters.n_trees, inner, task.space.n_bins))
        if parameters.reveal_gain:
            session.note(GAINS, WHY, (parameters.n_trees, inner))
            session.note(COVERS, WHY, (parameters.n_trees, 2 * inner + 1))
    session.note(WEIGHTS, WHY, (parameters.n_trees, inner + 1))

"""Categorical columns that are split into sets of categories: their candidates and what they send right.

The candidates depend on the node: `splitting.partition` sorts its categories. Their numbers are public; the categories
behind them are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate
from veilboost.splitting.partition import Partition, sort_categories
from veilboost.splitting.scales import Scales
from veilboost.splitting.sides import Sides
from veilboost.splitting.space import SplitSpace
from veilboost.trees.parameters import Parameters

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LevelPartition:
    """The partitioned columns of one level.

    Attributes
    ----------
    space
        The public candidate space.
    features
        The columns among those that the level uses.
    order
        Their categories, sorted at every node.
    sums
        Shape (vectors, nodes, candidates): what goes right in each, missing rows aside.
    """

    space: SplitSpace
    features: tuple[int, ...]
    order: Partition
    sums: Shared

    def left(self, sides: Sides, left: Shared) -> Shared:
        """`left_sums` of all candidates of `sides`, of which those of partitioned columns lack the categories. Local.

        Before, the left side of these is the node, less its missing rows if they go right.
        """
        nothing = self.sums[:, :, :1] * to_ring(0)
        return left - concatenate([nothing, self.sums], axis=2)[:, :, self._places(sides)[0] + 1]

    def condition(self, sides: Sides) -> SharedBits:
        """Whether a candidate is not just the one before it again, one plane of nodes * candidates bits. Local.

        Always true for those of other columns.
        """
        nodes, count = self.order.nodes, len(sides.candidates)
        shape = (words_for(nodes * count),)
        forward, backward = self.order.differs(False), self.order.differs(True)
        if forward.hollow:
            return SharedBits(None, None, nodes * count, shape)
        place, second = self._places(sides)
        both = [unpack_bits(plane.words, plane.count).reshape(nodes, -1) for plane in (forward, backward)]
        chosen = np.where(second, *(bits[:, np.maximum(place, 0)] for bits in reversed(both)))
        own = np.where(place >= 0, chosen, 0).astype(np.bool_)
        others = np.tile(place < 0, nodes)
        return SharedBits(forward.holder, pack_bits(own.reshape(-1)), nodes * count) ^ pack_bits(others)

    def winning_sets(self, session: Session, winners: SharedBits) -> SharedBits:
        """Planes (nodes, bins of the common numbering): the categories that go right, zero elsewhere. One round.

        Parameters
        ----------
        winners
            From `routing.winning_candidates`.
        """
        space, nodes = self.space, len(winners)
        forward, backward = self._numbers()
        won = SharedBits(None, None, len(forward), (nodes, words_for(len(forward))))
        if not winners.hollow:
            bits = unpack_bits(winners.words, winners.count)
            both = bits[:, forward]
            missing = backward >= 0
            both[:, missing] ^= bits[:, backward[missing]]
            won = SharedBits(winners.holder, pack_bits(both.view(np.bool_)), len(forward))
        sets = self.order.winning_sets(session, won)
        if sets.hollow:
            return SharedBits(None, None, space.n_bins, (nodes, words_for(space.n_bins)))
        spread = np.zeros((nodes, space.n_bins), dtype=np.uint8)
        spread[:, category_bins(space, self.features)] = unpack_bits(sets.words, sets.count)
        return SharedBits(sets.holder, pack_bits(spread.view(np.bool_)), space.n_bins)

    def _numbers(self) -> tuple[Ints, Ints]:
        """Of every place the candidate with missing rows left, and the one with missing rows right, -1 if none."""
        space = self.space
        forward, backward = [], []
        for feature in self.features:
            start, count = int(space.candidate_starts[feature]), space.plans[feature].n_candidates
            places = np.arange(count)
            forward.append(start + places)
            missing = space.features[feature].missing
            backward.append(start + 2 * count - 1 - places if missing else np.full(count, -1))
        return np.concatenate(forward), np.concatenate(backward)

    def _places(self, sides: Sides) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Of every candidate of `sides` its place, -1 if it is not one of ours, and whether missing rows go right."""
        forward, backward = self._numbers()
        found = np.full(self.space.n_candidates, -1)
        found[forward] = np.arange(len(forward))
        missing = backward >= 0
        found[backward[missing]] = np.flatnonzero(missing)
        second = np.isin(sides.candidates, backward[missing])
        return found[sides.candidates], second


def partition_level(
    session: Session,
    space: SplitSpace,
    features: Sequence[int],
    histogram: Shared,
    parameters: Parameters,
    scales: Scales,
) -> LevelPartition | None:
    """Sort the categories of the partitioned columns among these features at every node; None if there are none.

    Parameters
    ----------
    histogram
        Shape (bins, vectors, nodes).
    """
    chosen = tuple(feature for feature in features if feature in space.partitioned)
    if not chosen:
        return None
    _, vectors, nodes = histogram.shape
    bins = category_bins(space, chosen)
    sums = histogram[bins].reshape(len(bins), vectors * nodes).transpose().reshape(vectors, nodes, len(bins))
    counts = [space.plans[feature].n_bins for feature in chosen]
    order = sort_categories(session, counts, sums, parameters, scales)
    return LevelPartition(space, chosen, order, order.prefix_sums(session, sums))


def category_bins(space: SplitSpace, features: Sequence[int]) -> Ints:
    """Bins of the categories of some features, in the common numbering."""
    return np.concatenate([space.bin_starts[feature] + np.arange(space.plans[feature].n_bins) for feature in features])

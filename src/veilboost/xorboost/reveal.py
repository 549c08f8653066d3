"""The final reveal: the owners' shares of the model go to the analyst alone, who rebuilds plain trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc.correlations import Domain, Field, bits_field, ring_field
from veilboost.mpc.fixed_point import decode
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.ring import Words, unpack_bits
from veilboost.mpc.session import Session, receive_disclosed
from veilboost.mpc.shares import Shared, SharedBits, stack, stack_bits
from veilboost.mpc.transport.base import Transport
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.objective import to_base_score
from veilboost.xorboost.train import SharedForest, TrainingTask

_WHY = "the trained model, revealed to the analyst only"


@dataclass(frozen=True)
class _Item:
    """One array of the reveal: what it is, and its public shape."""

    name: str
    what: str
    field: Field

    @property
    def shape(self) -> tuple[int, ...]:
        """As the owners' ledgers state it: bits are counted, not words."""
        return (*self.field.shape[:-1], self.field.count) if self.field.domain is Domain.BITS else self.field.shape


def reveal_to(session: Session, task: TrainingTask, forest: SharedForest, analyst: str) -> Ensemble | None:
    """Disclose a model to the analyst.

    What is disclosed: the first margin (unless `base_score` was public), feature, category and default direction of
    the splits, their cuts, the leaf weights and, with `reveal_gain`, gains and covers. Nodes that do not split are
    all zero.

    Returns
    -------
    Ensemble
        At the analyst if it is one of the owners; None elsewhere.
    """
    session.phases.enter("reveal")
    values = shared_values(task, forest)
    opened = {item.name: session.disclose(values[item.name], analyst, item.what, _WHY) for item in _items(task)}
    received = {name: words for name, words in opened.items() if words is not None}
    return rebuild(task, received) if len(received) == len(opened) else None


def receive_reveal(transport: Transport, owners: tuple[str, ...], task: TrainingTask) -> Ensemble:
    """The analyst's part of `reveal_to` when it is not one of the owners."""
    return rebuild(task, {item.name: receive_disclosed(transport, owners, item.field) for item in _items(task)})


def received_by(analyst: str, task: TrainingTask) -> list[Disclosure]:
    """What an analyst that is not one of the owners has received in `receive_reveal`, which counts no rounds."""
    return [Disclosure(analyst, item.what, _WHY, item.shape, None) for item in _items(task)]


def rebuild(task: TrainingTask, values: dict[str, Words]) -> Ensemble:
    """Plain trees from the opened arrays; nodes that do not split are pruned."""
    parameters, space, unit = task.parameters, task.space, task.unit
    depth = parameters.max_depth
    n_trees, inner = parameters.n_estimators, 2**depth - 1
    codes = values["splits"].reshape(n_trees, inner)
    bits = unpack_bits(values["cuts"], 32)
    cuts = np.packbits(bits, axis=-1, bitorder="little").view(np.float32).reshape(n_trees, inner)
    weights = decode(values["weights"], FRACTION_BITS).reshape(n_trees, inner + 1) * unit.half_width
    trees = []
    for number in range(n_trees):
        feature, default_left, rest = _decoded(codes[number])
        sets = _sets(space, feature, rest)
        gain = cover = None
        if parameters.reveal_gain:
            gain_bits = task.scales.gradient_bits + task.scales.weight_bits
            gain = decode(values["gains"][number], gain_bits) * unit.half_width**2
            cover = decode(values["covers"][number], task.scales.hessian_bits)
        trees.append(
            Tree.from_complete(
                depth, codes[number] > 0, feature, cuts[number], sets, default_left, weights[number], gain, cover
            )
        )
    if parameters.base_score is None:
        base_score = to_base_score(parameters, unit, float(decode(values["base_margin"], FRACTION_BITS)[0]))
    else:
        base_score = parameters.base_score
    return Ensemble(space.features, parameters.objective, base_score, tuple(trees))


def _decoded(codes: Words) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Feature, default direction and the bits for categories of each node; the inverse of `CandidateSpace.codes`."""
    feature = (codes >> np.uint64(2) & np.uint64((1 << 31) - 1)).astype(np.int32)
    default_left = (codes >> np.uint64(1) & np.uint64(1)).astype(np.bool_)
    return feature, default_left, (codes >> np.uint64(33)).astype(np.int32)


def _sets(space: CandidateSpace, features: npt.NDArray[np.int32], rest: npt.NDArray[np.int32]) -> CategorySets:
    """The categories that go right at each node."""
    sets: list[list[int]] = []
    for feature, bits in zip(features.tolist(), rest.tolist(), strict=True):
        if feature in space.partitioned:
            sets.append([code for code in range(space.plans[feature].n_bins) if bits >> code & 1])
        else:
            sets.append([bits] if space.features[feature].categorical else [])
    return CategorySets.of(sets)


def _items(task: TrainingTask) -> list[_Item]:
    parameters = task.parameters
    n_trees, inner = parameters.n_estimators, 2**parameters.max_depth - 1
    items = [] if parameters.base_score is not None else [_Item("base_margin", "base score", ring_field(1))]
    items += [
        _Item("splits", "feature, category and default direction of every split", bits_field(64, n_trees, inner)),
        _Item("cuts", "threshold of every split", bits_field(32, n_trees, inner)),
        _Item("weights", "leaf weights", ring_field(n_trees, inner + 1)),
    ]
    if parameters.reveal_gain:
        items += [
            _Item("gains", "gain of every split (reveal_gain)", ring_field(n_trees, inner)),
            _Item("covers", "hessian sum of every node (reveal_gain)", ring_field(n_trees, 2 * inner + 1)),
        ]
    return items


def shared_values(task: TrainingTask, forest: SharedForest) -> dict[str, Shared | SharedBits]:
    """All arrays of a model in shares, by name; `rebuild` takes them when they are opened."""
    trees = forest.trees
    values: dict[str, Shared | SharedBits] = {
        "base_margin": forest.base_margin,
        "splits": stack_bits([tree.splits for tree in trees]),
        "cuts": stack_bits([tree.cuts for tree in trees]),
        "weights": stack([tree.weights for tree in trees]),
        "gains": stack([tree.gains for tree in trees]),
        "covers": stack([tree.covers for tree in trees]),
    }
    return {item.name: values[item.name] for item in _items(task)}

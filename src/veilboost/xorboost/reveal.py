"""The final reveal: the owners' shares of the model go to the analyst alone, who rebuilds plain trees."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from veilboost.splitting.metrics import best_round
from veilboost.splitting.space import FIRST_CATEGORY_BIT
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.monotone import in_order
from veilboost.trees.objective import BaseScore
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.forest import SharedForest
from veilboost.xorboost.task import TrainingTask
from veilboost.xorboost.validation import metric_values

_WHY = "the trained model, revealed to the analyst only"
_WHY_METRICS = (
    "early stopping: averages over the rows held back, rounded; the analyst cuts the model after the best round"
)


@dataclass(frozen=True)
class _Item:
    """One array of the reveal: what it is, and its public shape."""

    name: str
    what: str
    field: Field
    why: str = _WHY

    @property
    def shape(self) -> tuple[int, ...]:
        """As the owners' ledgers state it: bits are counted, not words."""
        return (*self.field.shape[:-1], self.field.count) if self.field.domain is Domain.BITS else self.field.shape


def reveal_to(session: Session, task: TrainingTask, forest: SharedForest, analyst: str) -> Ensemble | None:
    """Disclose a model to the analyst.

    What is disclosed: the first margin (unless `base_score` was public), feature, categories and default direction of
    the splits, their cuts, the leaf weights, with `reveal_gain` gains and covers, and with early stopping the
    validation metric of every round. Nodes that do not split are all zero.

    Returns
    -------
    Ensemble
        At the analyst if it is one of the owners; None elsewhere.
    """
    session.phases.enter("reveal")
    values = shared_values(task, forest)
    opened = {item.name: session.disclose(values[item.name], analyst, item.what, item.why) for item in _items(task)}
    received = {name: words for name, words in opened.items() if words is not None}
    return rebuild(task, received) if len(received) == len(opened) else None


def receive_reveal(transport: Transport, owners: tuple[str, ...], task: TrainingTask) -> Ensemble:
    """The analyst's part of `reveal_to` when it is not one of the owners."""
    return rebuild(task, {item.name: receive_disclosed(transport, owners, item.field) for item in _items(task)})


def received_by(analyst: str, task: TrainingTask) -> list[Disclosure]:
    """What an analyst that is not one of the owners has received in `receive_reveal`, which counts no rounds."""
    return [Disclosure(analyst, item.what, item.why, item.shape, None) for item in _items(task)]


def rebuild(task: TrainingTask, values: dict[str, Words]) -> Ensemble:
    """Plain trees from the opened arrays; nodes that do not split are pruned, and rounds after the best cut off."""
    parameters, space, unit = task.parameters, task.space, task.unit
    depth = parameters.max_depth
    n_trees, inner = parameters.n_trees, 2**depth - 1
    codes = values["splits"].reshape(n_trees, inner, -1)
    bits = unpack_bits(values["cuts"], 32)
    cuts = np.packbits(bits, axis=-1, bitorder="little").view(np.float32).reshape(n_trees, inner)
    weights = decode(values["weights"], FRACTION_BITS).reshape(n_trees, inner + 1) * unit.half_width
    trees = []
    for number in range(n_trees):
        feature, default_left = _decoded(codes[number, :, 0])
        sets = _sets(space, feature, codes[number])
        gain = cover = None
        if parameters.reveal_gain:
            gain_bits = task.scales.gradient_bits + task.scales.weight_bits
            gain = decode(values["gains"][number], gain_bits) * unit.gain
            cover = decode(values["covers"][number], task.scales.hessian_bits) * unit.hessian
        trees.append(
            Tree.from_complete(
                depth, codes[number, :, 0] > 0, feature, cuts[number], sets, default_left, weights[number], gain, cover
            )
        )
    if parameters.constrained:
        signs = parameters.signs(space.features)
        trees = [in_order(tree, signs) for tree in trees]
    base_score = _base_score(task, values)
    ensemble = Ensemble(space.features, parameters.objective, base_score, tuple(trees))
    return _cut(ensemble, task, values["metrics"]) if "metrics" in values else ensemble


def _base_score(task: TrainingTask, values: dict[str, Words]) -> BaseScore:
    given, classes = task.parameters.base_score, task.parameters.num_class
    if given is None:
        return task.objective.to_base_score(decode(values["base_margin"], FRACTION_BITS))
    return given if classes is None else (given,) * classes


def _cut(ensemble: Ensemble, task: TrainingTask, words: Words) -> Ensemble:
    """The model up to its best round, with the metric of all rounds."""
    name, patience = task.parameters.eval_metric, task.parameters.early_stopping_rounds
    assert name is not None and patience is not None
    metric = metric_values(task.objective, words, len(task.held_back), task.weight_range is not None).tolist()
    best = best_round(metric, patience)
    return replace(ensemble.cut(best, metric[best]), metrics={"validation": {name: tuple(metric)}})


def _decoded(codes: Words) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Feature and default direction of each node; the inverse of `CandidateSpace.codes`."""
    feature = (codes >> np.uint64(2) & np.uint64((1 << 31) - 1)).astype(np.int32)
    return feature, (codes >> np.uint64(1) & np.uint64(1)).astype(np.bool_)


def _sets(space: CandidateSpace, features: npt.NDArray[np.int32], codes: Words) -> CategorySets:
    """The categories that go right at each node."""
    sets: list[list[int]] = []
    bits = unpack_bits(codes, space.code_bits)
    for feature, code, words in zip(features.tolist(), bits, codes.tolist(), strict=True):
        if feature in space.partitioned:
            sets.append(np.flatnonzero(code[FIRST_CATEGORY_BIT:]).tolist())
        else:
            sets.append([words[0] >> FIRST_CATEGORY_BIT] if space.features[feature].categorical else [])
    return CategorySets.of(sets)


def _items(task: TrainingTask) -> list[_Item]:
    parameters = task.parameters
    n_trees, inner = parameters.n_trees, 2**parameters.max_depth - 1
    items = []
    if parameters.base_score is None:
        items.append(_Item("base_margin", "base score", ring_field(parameters.outputs)))
    codes = bits_field(task.space.code_bits, n_trees, inner)
    items += [
        _Item("splits", "feature, categories and default direction of every split", codes),
        _Item("cuts", "threshold of every split", bits_field(32, n_trees, inner)),
        _Item("weights", "leaf weights", ring_field(n_trees, inner + 1)),
    ]
    if parameters.reveal_gain:
        items += [
            _Item("gains", "gain of every split (reveal_gain)", ring_field(n_trees, inner)),
            _Item("covers", "hessian sum of every node (reveal_gain)", ring_field(n_trees, 2 * inner + 1)),
        ]
    if len(task.held_back):
        field = ring_field(parameters.n_estimators)
        items.append(_Item("metrics", "validation metric of every round", field, _WHY_METRICS))
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
    if forest.metrics is not None:
        values["metrics"] = forest.metrics
    return {item.name: values[item.name] for item in _items(task)}

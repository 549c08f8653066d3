"""A training's state as plain arrays and back: what checkpoints store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from veilboost.mpc.ring import WORD, Words, words_for
from veilboost.mpc.shares import Shape, Shared, SharedBits
from veilboost.xorboost.forest import SharedForest, SharedTree, TrainingState
from veilboost.xorboost.task import TrainingTask

_ARRAYS_OF_TREE = ("splits", "cuts", "weights", "gains", "covers")


def to_arrays(state: TrainingState) -> dict[str, Words]:
    """This owner's shares by name; trees along the first axis."""
    trees = state.forest.trees
    arrays = {
        "margins": state.margins.words,
        "base_margin": state.forest.base_margin.words,
        "losses": state.losses.words,
    }
    for name in _ARRAYS_OF_TREE:
        arrays[name] = np.stack([getattr(tree, name).words for tree in trees])
    return arrays


def from_arrays(arrays: Mapping[str, Words], task: TrainingTask, holder: int) -> TrainingState:
    """The inverse of `to_arrays`.

    Raises
    ------
    ValueError
        When names, shapes or dtypes are not those of this task.
    """
    count = len(arrays["weights"]) if "weights" in arrays else 0
    rounds, outputs = count // task.parameters.outputs, task.parameters.outputs
    expected = _shapes_of_state(task, rounds)
    expected |= {name: (count, *shape) for name, shape in _shapes_of_tree(task).items()}
    if {name: array.shape for name, array in arrays.items()} != expected:
        raise ValueError("the arrays are not those of this task")
    if (
        not 0 < rounds <= task.parameters.n_estimators
        or count % outputs
        or any(array.dtype != WORD for array in arrays.values())
    ):
        raise ValueError("the arrays are not those of this task")
    each = [{name: arrays[name][number] for name in _ARRAYS_OF_TREE} for number in range(count)]
    trees = tuple(_tree(one, task, holder) for one in each)
    return TrainingState(
        Shared(holder, arrays["margins"]),
        SharedForest(Shared(holder, arrays["base_margin"]), trees),
        Shared(holder, arrays["losses"]),
    )


def hollow_state(task: TrainingTask, rounds: int) -> TrainingState:
    """The state after `rounds` rounds as the dealer has it."""
    shapes = _shapes_of_tree(task)

    def ring(name: str) -> Shared:
        return Shared(None, None, shapes[name])

    tree = SharedTree(
        SharedBits(None, None, task.space.code_bits, shapes["splits"]),
        SharedBits(None, None, 32, shapes["cuts"]),
        ring("weights"),
        ring("gains"),
        ring("covers"),
    )
    state = {name: Shared(None, None, shape) for name, shape in _shapes_of_state(task, rounds).items()}
    forest = SharedForest(state["base_margin"], (tree,) * (rounds * task.parameters.outputs))
    return TrainingState(state["margins"], forest, state["losses"])


def _shapes_of_state(task: TrainingTask, rounds: int) -> dict[str, Shape]:
    outputs = task.parameters.outputs
    losses = rounds if len(task.held_back) else 0
    return {"margins": (outputs, task.space.rows), "base_margin": (outputs,), "losses": (losses,)}


def _tree(arrays: Mapping[str, Words], task: TrainingTask, holder: int) -> SharedTree:
    return SharedTree(
        SharedBits(holder, arrays["splits"], task.space.code_bits),
        SharedBits(holder, arrays["cuts"], 32),
        Shared(holder, arrays["weights"]),
        Shared(holder, arrays["gains"]),
        Shared(holder, arrays["covers"]),
    )


def _shapes_of_tree(task: TrainingTask) -> dict[str, Shape]:
    inner = 2**task.parameters.max_depth - 1
    return {
        "splits": (inner, words_for(task.space.code_bits)),
        "cuts": (inner, words_for(32)),
        "weights": (inner + 1,),
        "gains": (inner,),
        "covers": (2 * inner + 1,),
    }

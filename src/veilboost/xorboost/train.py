"""Training: boosted trees on shares, round by round.

Nothing in here depends on a secret: every participant, the dealer included, runs the same steps on the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate, stack
from veilboost.xorboost.candidates import Binned
from veilboost.xorboost.cuts import share_cuts, share_validity
from veilboost.xorboost.forest import SharedForest, TrainingState
from veilboost.xorboost.grow import grow_tree
from veilboost.xorboost.histogram import TableCells
from veilboost.xorboost.objectives.base import row_weights, share_labels, share_weights
from veilboost.xorboost.task import TrainingTask
from veilboost.xorboost.validation import check_held_back, finish, sum_of_losses


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

    Raises
    ------
    InputError
        At all participants alike, when early stopping would hold back too few rows.
    """
    space = task.space
    check_held_back(task.parameters, space.rows)
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
        return replace(state.forest, metrics=finish(session, objective, state.losses, of_rows, len(held_back)))
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

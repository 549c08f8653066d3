"""The validation metric of every round, for early stopping: clients sum the losses of the rows that they hold back.

All rounds are trained. The metrics are disclosed at the end, to everybody, and the model is cut at the best one. As in
mode smpc, a metric is an average over at least 50 rows and is rounded in shares before it is disclosed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilboost.federated.questions import LABEL_BITS
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.mpc.fixed_point import decode
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate
from veilboost.splitting.metrics import METRICS, metric_bits_of, metric_of
from veilboost.trees.objective import sigmoid

Float64 = npt.NDArray[np.float64]

#: Losses in the unit of the job are cut off here.
LARGEST_LOSS = 2.0**10

#: Sums of weights are divided with so many bits, so that numerators stay below 2^30.
_WEIGHT_BITS = 20
_QUOTIENT_BITS = 26


def losses(task: FederatedTask, margins: Float64, labels: Float64) -> Float64:
    """The loss of every row in the unit of the job, shape (rows,); `margins` has the shape (outputs, rows)."""
    metric, margin, unit = task.parameters.eval_metric, margins[0], task.unit
    if metric == "mlogloss":
        highest = margins.max(axis=0)
        total = highest + np.log(np.exp(margins - highest).sum(axis=0))
        found = total - margins[labels.astype(np.int64), np.arange(len(labels))]
    elif task.parameters.objective == "reg:squarederror":
        found = ((margin - labels) / unit.half_width) ** 2
    elif task.parameters.objective == "count:poisson":
        assert task.label_range is not None
        high = task.label_range[1]
        mean = np.exp(np.minimum(margin, 100.0))
        if metric == "rmse":
            found = ((mean - labels) / high) ** 2
        else:
            found = (mean - labels * margin + np.array([math.lgamma(label + 1.0) for label in labels])) / high
    elif metric == "rmse":
        found = (sigmoid(margin) - labels) ** 2
    elif metric == "error":
        found = ((margin > 0) != (labels > 0)).astype(np.float64)
    else:
        found = np.logaddexp(0.0, (1.0 - 2.0 * labels) * margin)
    clipped: Float64 = np.clip(found, -LARGEST_LOSS, LARGEST_LOSS)
    return clipped


def bounds_of_losses(sized: SizedTask) -> dict[str, int]:
    """Of every client, what the magnitudes of its sums of losses and weights add up to at most."""
    each = (int(LARGEST_LOSS) + 2) << LABEL_BITS
    return {client: rows * each for client, rows in sized.rows.items()}


def publish_metrics(session: Session, sized: SizedTask, sums: Sequence[Shared]) -> tuple[float, ...]:
    """The metric of every round, from sums of losses and of weights, shape (2,) each; nothing at the dealer."""
    task = sized.task
    bits = metric_bits_of(task.parameters, task.label_range)
    both = concatenate([one.reshape(1, 2) for one in sums]).transpose()
    excess = max(1, LABEL_BITS + math.ceil(math.log2(sized.total + 1)) - _WEIGHT_BITS)
    total, numerators = truncate(session, (both[1], excess), (both[0], excess))
    # One unit more, so that no division is by zero where all validation rows have the weight 0.
    quotients = divide(session, numerators, total + to_ring(1), _QUOTIENT_BITS, 11)
    (averages,) = truncate(session, (quotients, _QUOTIENT_BITS - bits))
    session.note(METRICS, "early stopping: the model is cut at the best round", (len(sums),))
    words = session.publish(averages, METRICS)
    if words is None:
        return ()
    return tuple(metric_of(task.parameters, task.unit, task.label_range, decode(words, bits)).tolist())

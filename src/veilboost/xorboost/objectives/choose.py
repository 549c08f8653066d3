"""The objective of a job."""

from __future__ import annotations

from typing import Final

from veilboost.splitting.units import largest_weight_of
from veilboost.trees import parameters as names
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.objectives.base import Objective
from veilboost.xorboost.objectives.logistic import Logistic
from veilboost.xorboost.objectives.poisson import Poisson
from veilboost.xorboost.objectives.softmax import Softmax
from veilboost.xorboost.objectives.squared_error import SquaredError

_CLASSES: Final[dict[names.Objective, type[Objective]]] = {
    "binary:logistic": Logistic,
    "reg:squarederror": SquaredError,
    "multi:softprob": Softmax,
    "count:poisson": Poisson,
}


def objective_of(
    parameters: Parameters, label_range: tuple[float, float] | None, weight_range: tuple[float, float] | None
) -> Objective:
    """The objective of a job with these public facts.

    Parameters
    ----------
    label_range
        Bounds of the labels; required for reg:squarederror and count:poisson.
    weight_range
        Bounds of the sample weights; None: none.

    Raises
    ------
    InputError
        Bounds that fixed point does not hold.
    """
    largest = largest_weight_of(parameters, weight_range)
    return _CLASSES[parameters.objective](parameters, label_range, largest)

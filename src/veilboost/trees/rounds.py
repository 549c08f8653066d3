"""Which trees of a model file belong to which round of boosting, and which rounds are to be used."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.trees.fields import get, numbers, table, whole


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds of a model.

    Attributes
    ----------
    starts
        Integers, shape (rounds + 1,): round r has the trees starts[r] to starts[r + 1] - 1. None where the file does
        not tell.
    best_iteration
        The best round, counted from 0, if training stopped early.
    """

    starts: npt.NDArray[Any] | None
    best_iteration: int | None

    def chosen(self, iteration_range: tuple[int, int] | None) -> slice:
        """The trees of the rounds [begin, end), where an end of 0 is the last round.

        With None up to the best round, or all when there is none.

        Raises
        ------
        ModelError
            There are no such rounds, or the file does not tell them apart.
        """
        by_best = iteration_range is None
        if iteration_range is None:
            iteration_range = (0, 0 if self.best_iteration is None else self.best_iteration + 1)
        begin, end = iteration_range
        if begin == end == 0:
            return slice(None)
        if self.starts is None:
            raise ModelError(
                "the file does not say how many trees a round has, as files of old versions of XGBoost do not: "
                "take all rounds, iteration_range (0, 0)"
            )
        rounds = len(self.starts) - 1
        stop = end or rounds
        if not 0 <= begin <= stop <= rounds:
            asked = f"best_iteration {self.best_iteration}" if by_best else f"iteration_range {iteration_range}"
            raise ModelError(f"{asked} lies outside the {rounds} rounds of the model: give another iteration_range")
        return slice(int(self.starts[begin]), int(self.starts[stop]))


def read_rounds(learner: dict[str, Any], content: dict[str, Any], n_trees: int, outputs: int) -> Rounds:
    """The rounds as a file has them: iteration_indptr (XGBoost 2 and newer), else from the trees of a round."""
    attributes = table(learner.get("attributes", {}), "attributes")
    best_iteration = _count(attributes, "best_iteration")
    if "iteration_indptr" in content:
        starts = numbers(content, "iteration_indptr", np.int64, None)
        if len(starts) == 0 or starts[0] != 0 or starts[-1] != n_trees or np.any(np.diff(starts) < 0):
            raise ModelError("damaged: iteration_indptr")
        return Rounds(starts, best_iteration)
    parameters = table(get(content, "gbtree_model_param"), "gbtree_model_param")
    if "num_parallel_tree" in parameters:
        per_round = outputs * max(whole(parameters, "num_parallel_tree"), 1)
    else:
        limit = _count(attributes, "best_ntree_limit")  # rounds up to the best, times parallel trees
        if limit is None or best_iteration is None or limit % (best_iteration + 1) or not limit:
            return Rounds(None, best_iteration)
        per_round = outputs * limit // (best_iteration + 1)
    if n_trees % per_round:
        raise ModelError("damaged: the last round lacks trees")
    return Rounds(np.arange(0, n_trees + 1, per_round), best_iteration)


def _count(attributes: dict[str, Any], name: str) -> int | None:
    if name not in attributes:
        return None
    text = str(attributes[name])
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ModelError(f"damaged: attribute {name}")
    return int(text)

"""Models that only predict: what of an XGBoost model of any kind the predictions depend on, in the clear.

`veilboost.trees.scoring_file` reads them. Rows are routed as in `veilboost.trees.ensemble`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.tables.schema import Feature
from veilboost.trees import kernels
from veilboost.trees.ensemble import Tree
from veilboost.trees.forest import add_margins, checked_values, forest_of, leaf_index, weights_of
from veilboost.trees.links import to_predictions

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """The part of an XGBoost model that predicts.

    Attributes
    ----------
    features
        Columns, in the order of the columns of `values` below. Names are f0, f1, ... if the model has none; levels are
        empty where unknown, and then `values` hold the codes of the training data.
    objective
        XGBoost's name; see `veilboost.trees.links`.
    trees
        In the order of training, of the chosen rounds only. A leaf's weight is what the tree adds: with the booster
        dart the tree's weight is multiplied in. Gain and cover may be zeros.
    output_of
        int32, shape (trees,): which margin each tree adds to.
    base_margins
        float32, shape (outputs,): margins before the first tree.
    best_iteration
        The round, counted from 0, after which early stopping saw no better one; None without early stopping.
    """

    features: tuple[Feature, ...]
    objective: str
    trees: tuple[Tree, ...]
    output_of: Int32
    base_margins: Float32
    best_iteration: int | None = None

    @property
    def outputs(self) -> int:
        """Margins per row: classes, targets or quantiles; 1 for all else."""
        return len(self.base_margins)

    def predict_margin(self, values: npt.NDArray[Any]) -> Float32:
        """Base margins and the sums of the leaf weights, as XGBoost's `output_margin=True`.

        Parameters
        ----------
        values
            float32, shape (rows, features): numbers, 0/1 for flags, codes for categories; NaN where missing. Other
            dtypes are rounded to float32.

        Returns
        -------
        float32, shape (rows, outputs)

        Raises
        ------
        DataError
            `values` has another number of columns.
        """
        values = checked_values(values, len(self.features))
        margins = np.repeat(self.base_margins[:, np.newaxis], len(values), axis=1)
        for output, (forest, weights) in enumerate(self._forests):
            add_margins(values, forest, weights, margins[output])
        return np.ascontiguousarray(margins.T)

    def predict(self, values: npt.NDArray[Any]) -> Float32:
        """As XGBoost's `Booster.predict`: float32, shape (rows,), or (rows, outputs) for several outputs.

        For multi:softmax the class, shape (rows,). `values` as in `predict_margin`.
        """
        return to_predictions(self.objective, self.predict_margin(values))

    def leaf_index(self, values: npt.NDArray[Any]) -> Int32:
        """The leaf of each row in each tree: node numbers, int32, shape (rows, trees); `values` as above."""
        return leaf_index(checked_values(values, len(self.features)), forest_of(self.trees))

    @cached_property
    def _forests(self) -> Sequence[tuple[kernels.Forest, Float32]]:
        """The trees of each output and the weights of their nodes."""
        parts = [[self.trees[place] for place in np.flatnonzero(self.output_of == k)] for k in range(self.outputs)]
        return [(forest_of(trees), weights_of(trees)) for trees in parts]

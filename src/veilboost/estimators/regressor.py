"""The regressors: squared error and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Never, Self

import numpy as np
import numpy.typing as npt

from veilboost.estimators.base import Boosted
from veilboost.estimators.federated import Federated
from veilboost.estimators.xorboost import XORBoost
from veilboost.tables.schema import Feature


class Regressor(Boosted):
    """What regressors have in common."""

    _objectives = ("reg:squarederror", "count:poisson")
    _estimator_type = "regressor"

    def predict(self, frame: Any) -> npt.NDArray[np.float32]:
        """Predictions, float32, shape (rows,)."""
        return self._raw_predictions(frame)

    def score(self, frame: Any, y: npt.ArrayLike) -> float:
        """Coefficient of determination R^2."""
        truth = np.asarray(y, dtype=np.float64)
        residual = np.sum((truth - self.predict(frame)) ** 2)
        return float(1 - residual / np.sum((truth - truth.mean()) ** 2))


class XORBoostRegressor(Regressor, XORBoost):
    """Boosted trees for numbers, trained on secret shares; otherwise as `XORBoostClassifier`.

    `objective` is "reg:squarederror", the default, or "count:poisson" for counts and rates.
    """

    def fit(
        self,
        parties: Mapping[str, Any],
        *positional: Never,
        label: str,
        id: str | None = None,
        features: Sequence[Feature] | None = None,
        label_range: tuple[float, float] | None = None,
        weight: str | None = None,
        weight_range: tuple[float, float] | None = None,
    ) -> Self:
        """Train; see `XORBoostClassifier.fit`.

        Parameters
        ----------
        label_range
            Public bounds of the label, which fix the fixed-point scale. By default those of the label column; between
            organisations choose bounds that disclose no patient's value.
        """
        return self._fit(parties, positional, label, id, features, label_range, weight, weight_range)


class FederatedRegressor(Regressor, Federated):
    """Boosted trees for numbers, trained on sums that clients compute of their own rows; see `FederatedClassifier`.

    `objective` is "reg:squarederror", the default, or "count:poisson" for counts and rates.
    """

    def fit(
        self,
        parties: Mapping[str, Any],
        *positional: Never,
        label: str,
        features: Sequence[Feature] | None = None,
        label_range: tuple[float, float] | None = None,
        weight: str | None = None,
        weight_range: tuple[float, float] | None = None,
    ) -> Self:
        """Train; see `FederatedClassifier.fit`.

        Parameters
        ----------
        label_range
            As of `XORBoostRegressor.fit`.
        """
        return self._fit(parties, positional, label, None, features, label_range, weight, weight_range)

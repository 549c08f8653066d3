"""The classifiers: two classes or more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError
from veilboost.estimators.base import Boosted
from veilboost.estimators.federated import Federated
from veilboost.estimators.xorboost import XORBoost
from veilboost.tables.schema import Feature
from veilboost.trees.parameters import MOST_CLASSES


class Classifier(Boosted):
    """What classifiers have in common."""

    _objectives = ("binary:logistic", "multi:softprob")
    _estimator_type = "classifier"
    #: The estimator for labels that are numbers.
    _for_numbers: str

    def predict_proba(self, frame: Any) -> npt.NDArray[np.float32]:
        """Probabilities, float32, shape (rows, classes); the frame must have all columns of the model."""
        predictions = self._raw_predictions(frame)
        return predictions if predictions.ndim == 2 else np.stack([1 - predictions, predictions], axis=1)

    def predict(self, frame: Any) -> npt.NDArray[Any]:
        """The most probable class of each row; of equally probable ones the first."""
        probabilities = self.predict_proba(frame)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def score(self, frame: Any, y: npt.ArrayLike) -> float:
        """Accuracy."""
        return float(np.mean(self.predict(frame) == np.asarray(y)))

    def load_model(self, path: str | Path) -> None:
        super().load_model(path)
        self.classes_ = np.arange(max(2, self.ensemble_.outputs))

    def _objective(self) -> dict[str, Any]:
        classes = len(self.classes_)
        objective = self.objective or self._objectives[classes > 2]
        if objective == "binary:logistic":
            if classes > 2:
                raise DataError(f"the label has {classes} classes, and binary:logistic has two: leave objective out")
            return {"objective": objective}
        return {"objective": objective, "num_class": classes}

    def _encode_label(self, labels: pl.Series, where: str) -> pl.Series:
        if isinstance(labels.dtype, pl.Enum | pl.Categorical):
            labels = labels.cast(pl.String)  # their order need not be that of the texts
        if labels.dtype == pl.String:
            labels = labels.str.strip_chars().replace({"": None})
            for kind in (pl.Int64, pl.Float64):  # CSV cells are text
                numbers = labels.cast(kind, strict=False)
                if numbers.null_count() == labels.null_count():
                    labels = numbers
                    break
        if labels.dtype.is_float():
            labels = labels.fill_nan(None)
        if labels.null_count():
            row = int(np.flatnonzero(labels.is_null().to_numpy())[0]) + 1
            raise DataError(f"{where}: row {row}: the label '{labels.name}' is empty: leave the row out")
        classes = labels.unique().sort()
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise DataError(
                f"{where}: the label '{labels.name}' has {len(classes)} different values, and a classifier needs "
                f"2 to {MOST_CLASSES} classes: choose another label"
                + (f", or for numbers {self._for_numbers}" if labels.dtype.is_numeric() else "")
            )
        self.classes_ = np.array(classes.to_list())
        return pl.Series(labels.name, np.searchsorted(self.classes_, labels.to_numpy()), dtype=pl.Int64)


class XORBoostClassifier(Classifier, XORBoost):
    """Boosted trees for classes, trained on secret shares.

    Parameters have XGBoost's names, meanings and defaults. Two classes are trained with "binary:logistic", more with
    "multi:softprob", unless `objective` says so. `min_rows_per_leaf` keeps leaves from describing few patients, and
    `reveal_gain` also discloses gains and covers to the analyst. With `early_stopping_rounds` a part of the rows
    (`validation_fraction`, 0.2 by default; at least 50 rows, or it is refused) is held back, and the model ends after
    the round with the best `eval_metric` on these.

    Attributes
    ----------
    classes_
        The classes, sorted.
    ensemble_
        The revealed model.
    ledger_
        Everything that was disclosed: a list of dicts.
    report_
        Timings, bytes per role, rounds, settings.
    features_, feature_names_in_, n_features_in_
        Columns of the model, in order.

    Examples
    --------
    >>> clf = XORBoostClassifier(n_estimators=20, max_depth=4)              # doctest: +SKIP
    >>> clf.fit({"north": north, "insurer": claims}, label="ms")            # doctest: +SKIP
    >>> clf.predict_proba(patients)[:, 1]                                   # doctest: +SKIP
    """

    _for_numbers = "XORBoostRegressor"

    def fit(
        self,
        parties: Mapping[str, Any],
        *positional: Never,
        label: str,
        id: str | None = None,
        features: Sequence[Feature] | None = None,
        weight: str | None = None,
        weight_range: tuple[float, float] | None = None,
    ) -> Self:
        """Train with one local process per owner, a dealer and an analyst, over TLS.

        Parameters
        ----------
        parties
            Name of each owner and its table: a data frame or a path. Owners that have the same columns hold different
            rows of them; owners of different columns hold the same rows.
        label
            Column with the classes: numbers or texts, at least two different ones.
        id
            Column that says which rows belong together; rows that not all owners have are left out. Without it all
            tables must have the same rows in the same order (an owner of all rows: those of the first of the others,
            then of the second, and so on). The caller has all tables, so the join is done in the
            clear.
        features
            Kinds and levels of columns; the rest is guessed from the tables.
        weight
            Column with the weights of the rows; it is not a feature.
        weight_range
            Public bounds of the weights, which fix the fixed-point scale. By default those of the column; between
            organisations choose bounds that disclose no patient's value.

        Raises
        ------
        InputError
            When a table or a parameter is wrong.
        """
        return self._fit(parties, positional, label, id, features, None, weight, weight_range)


class FederatedClassifier(Classifier, Federated):
    """Boosted trees for classes, trained on sums that clients compute of their own rows.

    No server sees what a client computed, or its sum over the clients: both exist as secret shares of two aggregators.
    Here everything runs on this machine, for trying out. Parameters are those of `XORBoostClassifier` and:

    Parameters
    ----------
    mode
        "histograms": the aggregators search the best split of every node. "leaf_sums": trees are drawn at random and
        clients send sums of their leaves only, which suits very many clients and differential privacy.
    min_clients
        With fewer clients left the training ends with an error.
    epsilon, delta
        Differential privacy of the model; none without `epsilon`. `delta` is 1e-6 unless it is given.
    privacy_unit
        What differential privacy hides: "row", the default, or "client".

    Attributes
    ----------
    classes_, ensemble_, ledger_, report_, features_, feature_names_in_, n_features_in_
        As of `XORBoostClassifier`; `report_["dropped"]` names clients that were lost.

    Examples
    --------
    >>> clf = FederatedClassifier(n_estimators=20, max_depth=4)             # doctest: +SKIP
    >>> clf.fit({"north": north, "south": south}, label="ms")               # doctest: +SKIP
    >>> clf.predict_proba(patients)[:, 1]                                   # doctest: +SKIP
    """

    _for_numbers = "FederatedRegressor"

    def fit(
        self,
        parties: Mapping[str, Any],
        *positional: Never,
        label: str,
        features: Sequence[Feature] | None = None,
        weight: str | None = None,
        weight_range: tuple[float, float] | None = None,
    ) -> Self:
        """Train with one local process per client, two aggregators, a dealer and an analyst, over TLS.

        Parameters
        ----------
        parties
            Name of each client and its table: a data frame or a path, at least two. All have the same columns and
            different rows.
        label, features, weight, weight_range
            As of `XORBoostClassifier.fit`. Kinds and levels are guessed from all tables together.

        Raises
        ------
        InputError
            When a table or a parameter is wrong.
        """
        return self._fit(parties, positional, label, None, features, None, weight, weight_range)

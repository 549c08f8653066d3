"""Scikit-learn style estimators: every participant as a process of this machine, and the caller as the analyst.

`fit` takes the tables of all owners, so it protects nobody from the caller. It is for trying out and for choosing
parameters on data that one may see; between organisations the same training runs from a job file (`veilboost party`,
...).
"""

from __future__ import annotations

import inspect
import socket
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError, InputError, ModelError
from veilboost.jobs.draft import draft_features, draft_job, pool_cells
from veilboost.jobs.joining import read_all
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.schema import Feature
from veilboost.tables.table import encode_frame
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import parameters_from
from veilboost.trees.plot import plot_importance, plot_tree
from veilboost.trees.xgboost_json import load_model, save_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ANALYST = "analyst"
Estimator = TypeVar("Estimator", bound="_XORBoost")


class _XORBoost:
    """What classifier and regressor have in common."""

    _objective: str
    _estimator_type: str

    def __init__(
        self,
        *positional: Never,
        n_estimators: int = 100,
        max_depth: int = 6,
        learning_rate: float = 0.3,
        max_bin: int = 256,
        reg_lambda: float = 1.0,
        reg_alpha: float = 0.0,
        gamma: float = 0.0,
        min_child_weight: float = 1.0,
        max_delta_step: float = 0.0,
        subsample: float = 1.0,
        colsample_bytree: float = 1.0,
        colsample_bylevel: float = 1.0,
        colsample_bynode: float = 1.0,
        seed: int = 0,
        base_score: float | None = None,
        min_rows_per_leaf: int = 0,
        reveal_gain: bool = False,
        **unknown: Never,
    ) -> None:
        # Python's own message would name this base class.
        name = type(self).__name__
        if positional:
            raise TypeError(f"{name} takes no positional arguments: name the parameters, as in {name}(n_estimators=20)")
        if unknown:
            known = ", ".join(self._parameter_names())
            raise TypeError(f"{name} has no parameter '{next(iter(unknown))}': it has {known}")
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.max_bin = max_bin
        self.reg_lambda = reg_lambda
        self.reg_alpha = reg_alpha
        self.gamma = gamma
        self.min_child_weight = min_child_weight
        self.max_delta_step = max_delta_step
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.colsample_bylevel = colsample_bylevel
        self.colsample_bynode = colsample_bynode
        self.seed = seed
        self.base_score = base_score
        self.min_rows_per_leaf = min_rows_per_leaf
        self.reveal_gain = reveal_gain

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v is not defaults[k] and v != defaults[k]]
        return f"{type(self).__name__}({', '.join(changed)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name, as in scikit-learn."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters, as in scikit-learn; an unknown one is a TypeError."""
        known = self._parameter_names()
        for name, value in parameters.items():
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no parameter '{name}': it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    @classmethod
    def _parameter_names(cls) -> list[str]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]

    def __sklearn_tags__(self) -> Any:
        """How scikit-learn's tools should treat this estimator."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifier = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_class=False) if classifier else None,
            regressor_tags=None if classifier else RegressorTags(),
            input_tags=InputTags(allow_nan=True, categorical=True, string=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "ensemble_")

    def _fit(
        self,
        parties: Mapping[str, Any],
        label: str,
        row_id: str | None,
        features: Sequence[Feature] | None,
        label_range: tuple[float, float] | None,
    ) -> Self:
        self.__dict__.pop("ensemble_", None)  # no old model beside new classes if this fails
        given = self.get_params()
        parameters = parameters_from(
            {"objective": self._objective} | {k: v for k, v in given.items() if v is not None}
        ).model_dump(exclude_none=True)
        frames, holders = read_all(parties, label, row_id)
        where = "table of " + " and ".join(holders)
        labels = self._encode_label(pool_cells([frames[party][label] for party in holders]), where)
        if self._objective == "reg:squarederror" and label_range is None:
            label_range = _range_of(labels, where)
        first = 0
        for party in holders:
            rows = frames[party].height
            frames[party] = frames[party].with_columns(labels.slice(first, rows).alias(label))
            first += rows
        known = {feature.name: feature for feature in features or ()}
        for name in known:
            if not any(name in frame.columns for frame in frames.values()):
                raise InputError(f"features: no table has a column '{name}': check the name")
        unknown = {party: frame.drop(*known, strict=False) for party, frame in frames.items()}
        known |= draft_features(unknown, label, {party: f"table of {party}" for party in frames})
        columns = {party: [known[name] for name in frame.columns if name != label] for party, frame in frames.items()}
        ports = _free_ports(len(frames) + 1)
        job = job_from_dict(
            draft_job("fit", columns, label, holders, _ANALYST, parameters, label_range=label_range, ports=ports)
        )
        with tempfile.TemporaryDirectory(prefix="veilboost-") as scratch:
            job_file = Path(scratch) / "job.toml"
            job_file.write_text(job_to_toml(job), encoding="utf-8")
            tables = {party: _to_parquet(frame) for party, frame in frames.items()}
            run = run_local(job, job_file, tables, Path(scratch) / "out")
            self._take(load_model(Path(scratch) / "out" / "model.json"))
        self.report_ = run.report
        self.ledger_ = run.ledger
        return self

    def _encode_label(self, labels: pl.Series, where: str) -> pl.Series:
        return labels

    def _raw_predictions(self, frame: Any) -> npt.NDArray[np.float32]:
        ensemble = self._fitted()
        return ensemble.predict(encode_frame(frame, self.features_, name_for_errors="X"))

    def to_xgboost(self) -> Any:
        """The model as an `xgboost.Booster`; needs xgboost."""
        import xgboost

        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.json"
            self.save_model(path)
            booster = xgboost.Booster()
            booster.load_model(path)
        return booster

    def save_model(self, path: str | Path) -> None:
        """Write the model as an XGBoost JSON file."""
        save_model(self._fitted(), path)

    def load_model(self, path: str | Path) -> None:
        """Read a model file, as `veilboost train` and `save_model` write it, in order to predict with it.

        Parameters of this estimator stay as they are. Class names are not in the file: a classifier's classes are 0 and
        1 afterwards.

        Raises
        ------
        ModelError
            The file is damaged, or its model is not one that this estimator predicts with.
        """
        ensemble = load_model(path)
        if ensemble.objective != self._objective:
            raise ModelError(
                f"{path}: holds a model for {ensemble.objective}, and {type(self).__name__} predicts with "
                f"{self._objective}: use the other estimator"
            )
        for name in ("report_", "ledger_"):
            self.__dict__.pop(name, None)
        self._take(ensemble)

    def _take(self, ensemble: Ensemble) -> None:
        self.ensemble_ = ensemble
        self.features_: tuple[Feature, ...] = ensemble.features
        self.feature_names_in_ = np.array([feature.name for feature in ensemble.features], dtype=object)
        self.n_features_in_ = len(ensemble.features)

    def plot_tree(self, number: int = 0, ax: Axes | None = None) -> Axes:
        """Draw one tree with matplotlib: "yes" goes left, "no" goes right.

        Parameters
        ----------
        number
            Which tree, counted from 0.
        ax
            Where to draw; None makes a figure that is large enough for readable text.

        Raises
        ------
        InputError
            There is no such tree, or matplotlib is not installed.
        """
        return plot_tree(self._fitted(), number, ax)

    def plot_importance(
        self, ax: Axes | None = None, importance_type: str | None = None, max_num_features: int | None = None
    ) -> Axes:
        """Draw with matplotlib how much the model uses its features.

        Parameters
        ----------
        ax
            Where to draw; None makes a figure.
        importance_type
            "weight", the number of splits, or "total_gain", which needs `reveal_gain=True`; None: total gain if there
            is one, else the number of splits.
        max_num_features
            Draw only so many.

        Raises
        ------
        InputError
            Gains were not disclosed, or matplotlib is not installed.
        """
        return plot_importance(self._fitted(), ax, importance_type, max_num_features)

    def _fitted(self) -> Ensemble:
        if not hasattr(self, "ensemble_"):
            raise _not_fitted(type(self).__name__)
        return self.ensemble_


class XORBoostClassifier(_XORBoost):
    """Boosted trees for two classes, trained on secret shares.

    Parameters have XGBoost's names, meanings and defaults; `min_rows_per_leaf` keeps leaves from describing few
    patients, and `reveal_gain` also discloses gains and covers to the analyst.

    Attributes
    ----------
    classes_
        The two classes, sorted.
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

    _objective = "binary:logistic"
    _estimator_type = "classifier"

    def fit(
        self,
        parties: Mapping[str, Any],
        *,
        label: str,
        id: str | None = None,
        features: Sequence[Feature] | None = None,
    ) -> Self:
        """Train with one local process per owner, a dealer and an analyst, over TLS.

        Parameters
        ----------
        parties
            Name of each owner and its table: a data frame or a path. Owners that have the same columns hold different
            rows of them; owners of different columns hold the same rows.
        label
            Column with two classes.
        id
            Column that says which rows belong together; rows that not all owners have are left out. Without it all
            tables must have the same rows in the same order (an owner of all rows: those of the first of the others,
            then of the second, and so on). The caller has all tables, so the join is done in the
            clear.
        features
            Kinds and levels of columns; the rest is guessed from the tables.

        Raises
        ------
        InputError
            When a table or a parameter is wrong.
        """
        return self._fit(parties, label, id, features, None)

    def load_model(self, path: str | Path) -> None:
        super().load_model(path)
        self.classes_ = np.array([0, 1])

    def predict_proba(self, frame: Any) -> npt.NDArray[np.float32]:
        """Probabilities of the classes, float32, shape (rows, 2); the frame must have all columns of the model."""
        positive = self._raw_predictions(frame)
        return np.stack([1 - positive, positive], axis=1)

    def predict(self, frame: Any) -> npt.NDArray[Any]:
        """The more probable class of each row."""
        positive = self._raw_predictions(frame) > 0.5
        return np.asarray(self.classes_[positive.astype(np.int64)])

    def score(self, frame: Any, y: npt.ArrayLike) -> float:
        """Accuracy."""
        return float(np.mean(self.predict(frame) == np.asarray(y)))

    def _encode_label(self, labels: pl.Series, where: str) -> pl.Series:
        if labels.dtype == pl.String:
            labels = labels.str.strip_chars().replace({"": None})
            numbers = labels.cast(pl.Int64, strict=False)  # CSV cells are text
            labels = numbers if numbers.null_count() == labels.null_count() else labels
        if labels.dtype.is_float():
            labels = labels.fill_nan(None)
        if labels.null_count():
            row = int(np.flatnonzero(labels.is_null().to_numpy())[0]) + 1
            raise DataError(f"{where}: row {row}: the label '{labels.name}' is empty: leave the row out")
        classes = labels.unique().sort()
        if len(classes) != 2:
            raise DataError(
                f"{where}: the label '{labels.name}' has {len(classes)} different values: two classes are needed"
            )
        self.classes_ = np.array(classes.to_list())
        return pl.Series(labels.name, labels.to_numpy() == classes[1], dtype=pl.Int64)


class XORBoostRegressor(_XORBoost):
    """Boosted trees for squared error, trained on secret shares; otherwise as `XORBoostClassifier`."""

    _objective = "reg:squarederror"
    _estimator_type = "regressor"

    def fit(
        self,
        parties: Mapping[str, Any],
        *,
        label: str,
        id: str | None = None,
        features: Sequence[Feature] | None = None,
        label_range: tuple[float, float] | None = None,
    ) -> Self:
        """Train; see `XORBoostClassifier.fit`.

        Parameters
        ----------
        label_range
            Public bounds of the label, which fix the fixed-point scale. By default those of the label column; between
            organisations choose bounds that disclose no patient's value.
        """
        return self._fit(parties, label, id, features, label_range)

    def predict(self, frame: Any) -> npt.NDArray[np.float32]:
        """Predictions, float32, shape (rows,)."""
        return self._raw_predictions(frame)

    def score(self, frame: Any, y: npt.ArrayLike) -> float:
        """Coefficient of determination R^2."""
        truth = np.asarray(y, dtype=np.float64)
        residual = np.sum((truth - self.predict(frame)) ** 2)
        return float(1 - residual / np.sum((truth - truth.mean()) ** 2))


def _range_of(labels: pl.Series, where: str) -> tuple[float, float]:
    numbers = labels.cast(pl.Float64, strict=False).drop_nulls().drop_nans()
    if len(numbers) == 0:
        raise DataError(f"{where}: the label '{labels.name}' holds no numbers: choose another label")
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    return (low, high) if low < high else (low - 1.0, high + 1.0)


def _to_parquet(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _not_fitted(name: str) -> Exception:
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return InputError(f"this {name} is not fitted yet: call fit first")
    return cast(Exception, NotFittedError(f"this {name} is not fitted yet: call fit first"))

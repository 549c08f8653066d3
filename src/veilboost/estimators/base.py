"""What all estimators have in common: the way from tables to a model, files, pictures."""

from __future__ import annotations

import math
import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError, InputError, JobError, ModelError
from veilboost.estimators.parametrised import Parametrised
from veilboost.jobs.draft import draft_features, draft_job, pool_cells, ports_needed
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.schema import Feature
from veilboost.tables.table import encode_frame
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.importance import importance_of
from veilboost.trees.parameters import parameters_from
from veilboost.trees.plot import plot_importance, plot_tree
from veilboost.trees.xgboost_json import load_model, save_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ANALYST = "analyst"

#: Objectives whose labels are numbers, and the least label of each.
_NUMERIC = {"reg:squarederror": -math.inf, "count:poisson": 0.0}


class Boosted(Parametrised):
    """What all estimators have in common."""

    #: What it can be trained for; the first is the default.
    _objectives: tuple[str, ...]
    _estimator_type: str
    #: How it is trained: `method` of a job file.
    _method: str

    def __sklearn_tags__(self) -> Any:
        """How scikit-learn's tools should treat this estimator."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifier = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifier else None,
            regressor_tags=None if classifier else RegressorTags(),
            input_tags=InputTags(allow_nan=True, categorical=True, string=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "ensemble_")

    def _fit(
        self,
        parties: Mapping[str, Any],
        positional: Sequence[Any],
        label: str,
        row_id: str | None,
        features: Sequence[Feature] | None,
        label_range: tuple[float, float] | None,
        weight: str | None,
        weight_range: tuple[float, float] | None,
    ) -> Self:
        self.__dict__.pop("ensemble_", None)  # no old model beside new classes if this fails
        self._check_parties(parties, positional)
        data = {"label": label} if weight is None else {"label": label, "weight": weight}
        frames, holders = self._read(parties, data, row_id)
        where = "table of " + " and ".join(holders[label])
        cells = [frames[party][label] for party in holders[label]]
        _check_alike(label, cells, [f"table of {party}" for party in holders[label]], numbered=row_id is None)
        labels = self._encode_label(pool_cells(cells), where)
        names = list(dict.fromkeys(name for frame in frames.values() for name in frame.columns))
        parameters = self._parameters([name for name in names if name not in data.values()])
        ranges = {} if label_range is None else {"label_range": label_range}
        if label_range is None and parameters["objective"] in _NUMERIC:
            ranges["label_range"] = _range_of(labels, where, lowest=_NUMERIC[parameters["objective"]])
        if weight is not None:
            weights = pool_cells([frames[party][weight] for party in holders[weight]])
            weights_at = "table of " + " and ".join(holders[weight])
            ranges["weight_range"] = weight_range or _range_of(weights, weights_at, lowest=0.0)
        elif weight_range is not None:
            raise InputError("weight_range: has no meaning without weight: name the column of weights")
        first = 0
        for party in holders[label]:
            rows = frames[party].height
            frames[party] = frames[party].with_columns(labels.slice(first, rows).alias(label))
            first += rows
        known = {feature.name: feature for feature in features or ()}
        for name in known:
            if name not in holders:
                raise InputError(f"features: no table has a column '{name}': check the name")
        unknown = {party: frame.drop(*known, strict=False) for party, frame in frames.items()}
        known |= draft_features(unknown, data.values(), {party: f"table of {party}" for party in frames})
        columns = {
            party: [known[name] for name in frame.columns if name not in data.values()]
            for party, frame in frames.items()
        }
        others = {name: holders[name] for name in data.values()}
        entry = data | {key: list(pair) for key, pair in ranges.items()}
        ports = _free_ports(ports_needed(len(frames), self._method))
        federated = self._federated()
        drafted = draft_job(
            "fit", columns, entry, others, _ANALYST, parameters, ports, method=self._method, federated=federated
        )
        try:
            job = job_from_dict(drafted)
        except JobError as error:
            raise _in_words_of_fit(error) from None
        with tempfile.TemporaryDirectory(prefix="veilboost-") as scratch:
            job_file = Path(scratch) / "job.toml"
            job_file.write_text(job_to_toml(job), encoding="utf-8")
            tables = {party: _to_parquet(frame) for party, frame in frames.items()}
            run = run_local(job, job_file, tables, Path(scratch) / "out")
            self._take(load_model(Path(scratch) / "out" / "model.json"))
        self.report_ = run.report
        self.ledger_ = run.ledger
        return self

    @classmethod
    def _check_parties(cls, parties: Any, positional: Sequence[Any]) -> None:
        """Refuse what scikit-learn's estimators take: X, or X and y."""
        example = """as in fit({"north": north, "south": south}, label="ms")"""
        if positional or not isinstance(parties, Mapping):
            raise InputError(
                f"{cls.__name__}.fit takes the tables of all owners by name, and the label's name, {example}"
            )
        if len(parties) < 2:
            raise InputError(f"parties: {cls.__name__} needs the tables of two owners or more, {example}")

    def _read(
        self, parties: Mapping[str, Any], needed: Mapping[str, str], row_id: str | None
    ) -> tuple[dict[str, pl.DataFrame], dict[str, tuple[str, ...]]]:
        """Tables with the rows of the training, and who holds each column; see `veilboost.jobs.joining`."""
        raise NotImplementedError

    def _federated(self) -> dict[str, Any]:
        """The table [federated] of the job file."""
        return {}

    def _parameters(self, features: Sequence[str]) -> dict[str, Any]:
        """Parameters as a job file has them, checked; after `_encode_label`."""
        given = {name: getattr(self, name) for name in Parametrised._parameter_names()}
        given = {name: value for name, value in given.items() if value is not None}
        constraints: Any = self.monotone_constraints
        if isinstance(constraints, np.ndarray):
            constraints = constraints.tolist()
        if isinstance(constraints, list | tuple):
            if len(constraints) != len(features):
                raise InputError(
                    f"parameter monotone_constraints has {len(constraints)} numbers for {len(features)} features: "
                    "give one for each, or a dict such as {'age': 1}"
                )
            constraints = dict(zip(features, constraints, strict=True))
        if isinstance(constraints, Mapping):
            plain = {name: sign.item() if isinstance(sign, np.generic) else sign for name, sign in constraints.items()}
            given["monotone_constraints"] = plain
        if self.objective not in (None, *self._objectives):
            raise InputError(
                f"parameter objective = {self.objective!r} is not allowed: {type(self).__name__} has "
                + " and ".join(f'"{name}"' for name in self._objectives)
            )
        return parameters_from(given | self._objective()).model_dump(exclude_none=True)

    def _objective(self) -> dict[str, Any]:
        """The objective and what goes with it, of labels that `_encode_label` has seen."""
        return {"objective": self.objective or self._objectives[0]}

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

        Parameters of this estimator stay as they are. Class names are not in the file: a classifier's classes are 0, 1
        and so on afterwards.

        Raises
        ------
        ModelError
            The file is damaged, or its model is not one that this estimator predicts with.
        """
        ensemble = load_model(path)
        if ensemble.objective not in self._objectives:
            raise ModelError(
                f"{path}: holds a model for {ensemble.objective}, and {type(self).__name__} predicts with "
                f"{' or '.join(self._objectives)}: use the other estimator"
            )
        for name in ("report_", "ledger_"):
            self.__dict__.pop(name, None)
        self._take(ensemble)

    def _take(self, ensemble: Ensemble) -> None:
        self.ensemble_ = ensemble
        self.features_: tuple[Feature, ...] = ensemble.features
        self.feature_names_in_ = np.array([feature.name for feature in ensemble.features], dtype=object)
        self.n_features_in_ = len(ensemble.features)

    @property
    def best_iteration(self) -> int:
        """The round, counted from 0, at which the validation metric was best; needs `early_stopping_rounds`."""
        number = self._fitted().best_iteration
        return _only_with_early_stopping("best_iteration") if number is None else number

    @property
    def best_score(self) -> float:
        """The validation metric of that round."""
        score = self._fitted().best_score
        return _only_with_early_stopping("best_score") if score is None else score

    def evals_result(self) -> dict[str, dict[str, list[float]]]:
        """The validation metric of every round: {"validation": {metric: [...]}}; needs `early_stopping_rounds`."""
        self._fitted()
        found: dict[str, dict[str, list[float]]] | None = getattr(self, "report_", {}).get("metrics")
        return _only_with_early_stopping("evals_result") if found is None else found

    @property
    def feature_importances_(self) -> npt.NDArray[np.float32]:
        """How much the model uses each feature: float32, shape (features,), in the model's order, with sum 1.

        The total gain of a feature's splits where gains were disclosed (`reveal_gain`), else their number; all zero if
        no tree splits.
        """
        scores = importance_of(self._fitted()).scores
        return (scores / (scores.sum() or 1.0)).astype(np.float32)

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


def _range_of(cells: pl.Series, where: str, lowest: float) -> tuple[float, float]:
    """The bounds of a label or weight; of the least and the greatest number, if these are equal, a little more."""
    numbers = cells.cast(pl.Float64, strict=False).drop_nulls().drop_nans()
    if len(numbers) == 0:
        raise DataError(f"{where}: column '{cells.name}' holds no numbers: choose another one")
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    if math.isinf(low) or math.isinf(high):
        raise DataError(f"{where}: column '{cells.name}' holds an infinite number: mend it or leave the row out")
    if low == high:
        more = max(1.0, 1e-6 * abs(low))
        low, high = low - more, high + more
    return max(low, lowest), high


def _check_alike(label: str, cells: Sequence[pl.Series], where: Sequence[str], *, numbered: bool = True) -> None:
    """Refuse labels of which one table has true and false, or numbers, and another one something else; and empty ones.

    `numbered`: whether rows are where they are in the tables, so that messages can say which.
    """
    kinds: dict[str, list[str]] = {"numbers": [], "true and false": [], "texts": []}
    for part, table in zip(cells, where, strict=True):
        text = part.cast(pl.String).str.strip_chars()
        empty = np.flatnonzero(text.is_null() | text.is_in(["", "NaN", "nan"]))
        if len(empty):
            at = f"row {empty[0] + 1}: the label" if numbered else "a label in column"
            raise DataError(f"{table}: {at} '{label}' is empty: leave the row out")
        numbers = part.dtype.is_numeric()
        if part.dtype == pl.String:
            numbers = text.cast(pl.Float64, strict=False).null_count() == 0
        kinds["numbers" if numbers else "true and false" if part.dtype == pl.Boolean else "texts"].append(table)
    found = [(kind, tables[0]) for kind, tables in kinds.items() if tables]
    if len(found) > 1:
        (one, first), (other, second) = found[:2]
        raise DataError(
            f"{first}: the label '{label}' holds {one}, and in {second} {other}: write the labels alike in all tables"
        )


def _to_parquet(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _in_words_of_fit(error: JobError) -> JobError:
    """The same message for somebody who has written no job file."""
    words = re.sub(r"^job: \[\w+\], key '(\w+)':", r"parameter \1:", str(error))
    return JobError(words.replace("[[party]] tables", "tables").replace("[[party]]", "table of"))


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


def _only_with_early_stopping(name: str) -> Never:
    raise AttributeError(f"{name} is there only after fit with early_stopping_rounds")

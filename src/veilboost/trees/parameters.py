"""Training parameters: scikit-learn's names, XGBoost's aliases, defaults and meanings.

One frozen model serves the job file, the estimators, the plaintext trainer and the trainer on shares. All parameters
are public.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from veilboost.errors import JobError
from veilboost.tables.schema import Feature

Objective = Literal["binary:logistic", "reg:squarederror", "multi:softprob", "count:poisson"]
Metric = Literal["logloss", "error", "rmse", "mlogloss", "poisson-nloglik"]

#: The metrics of each objective; the first is XGBoost's default.
METRICS: Final[dict[Objective, tuple[Metric, ...]]] = {
    "binary:logistic": ("logloss", "error", "rmse"),
    "reg:squarederror": ("rmse",),
    "multi:softprob": ("mlogloss",),
    "count:poisson": ("poisson-nloglik", "rmse"),
}

#: XGBoost's `max_delta_step` of count:poisson, where none is given.
POISSON_DELTA_STEP: Final = 0.7

#: multi:softprob has at most so many classes.
MOST_CLASSES: Final = 63

#: Leaf weights have 24 bits and the rate 20: a smaller one would round to a rather different one.
LEAST_LEARNING_RATE: Final = 1e-4

#: `scale_pos_weight` lies between its inverse and this: the rows of one class still have 10 bits of weight.
MOST_SCALE: Final = 1e4

#: A weight above 0 is at least this part of the largest, `scale_pos_weight` included: shares of weights have 24 bits.
LEAST_WEIGHT: Final = 2.0**-20

#: The part of the rows that is held back for early stopping, where none is given.
VALIDATION_FRACTION: Final = 0.2

#: XGBoost's other names of parameters -> the name used here.
ALIASES: Final[dict[str, str]] = {
    "eta": "learning_rate",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
    "min_split_loss": "gamma",
    "random_state": "seed",
}

_FOUND_IN_XGBOOST_ONLY = """
    aft_loss_distribution aft_loss_distribution_scale approx_contribs base_margin booster callbacks custom_metric device
    disable_default_eval_metric enable_categorical eval_set evals extmem_single_page
    feature_selector feature_types feature_weights grow_policy huber_slope importance_type interaction_constraints
    lambdarank_bias_norm lambdarank_normalization lambdarank_num_pair_per_sample lambdarank_pair_method
    lambdarank_score_normalization lambdarank_unbiased max_cached_hist_node max_cat_threshold
    max_leaves missing multi_strategy n_jobs ndcg_exp_gain normalize_type nthread num_boost_round
    num_parallel_tree num_round obj one_drop process_type quantile_alpha rate_drop refresh_leaf sample_type
    sample_weight sampling_method seed_per_iteration single_precision_histogram sketch_eps
    sketch_ratio skip_drop sparse_threshold top_k tree_method tweedie_variance_power updater use_rmm
    validate_parameters verbose verbose_eval verbosity xgb_model
"""

#: Parameters that XGBoost or its scikit-learn front has and veilboost does not.
NOT_SUPPORTED: Final[frozenset[str]] = frozenset(_FOUND_IN_XGBOOST_ONLY.split())

Count = Annotated[int, Field(strict=True)]
Sign = Annotated[int, Field(strict=True, ge=-1, le=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0, le=1)]
NotNegative = Annotated[Number, Field(ge=0)]

_RANGES: Final[dict[str, str]] = {
    "objective": f"one of {', '.join(chr(34) + name + chr(34) for name in METRICS)}",
    "num_class": "a whole number from 2 to 63",
    "n_estimators": "a whole number from 1 to 10000",
    "max_depth": "a whole number from 1 to 10",
    "learning_rate": "a number of at least 0.0001 and at most 1",
    "max_bin": "a whole number from 2 to 1024",
    "reg_lambda": "a finite number of at least 0",
    "reg_alpha": "a finite number of at least 0",
    "gamma": "a finite number of at least 0",
    "min_child_weight": "a finite number of at least 0",
    "max_delta_step": "a finite number of at least 0",
    "subsample": "a number above 0 and at most 1",
    "colsample_bytree": "a number above 0 and at most 1",
    "colsample_bylevel": "a number above 0 and at most 1",
    "colsample_bynode": "a number above 0 and at most 1",
    "seed": "a whole number from 0 to 2^63 - 1",
    "base_score": "a finite number, strictly between 0 and 1 for binary:logistic, above 0 for count:poisson",
    "scale_pos_weight": "a number from 0.0001 to 10000",
    "early_stopping_rounds": "a whole number of at least 1",
    "validation_fraction": "a number strictly between 0 and 1",
    "eval_metric": f"one of {', '.join(chr(34) + name + chr(34) for name in get_args(Metric))}",
    "min_rows_per_leaf": "a whole number of at least 0",
    "reveal_gain": "true or false",
    "max_cat_to_onehot": "a whole number of at least 1",
    "monotone_constraints": "names of numeric features, each with -1, 0 or 1, such as { age = 1 }",
}


class Parameters(BaseModel):
    """What is trained and how.

    XGBoost's aliases (`ALIASES`) are accepted on input, numpy scalars too; use `parameters_from` to get errors as one
    line.

    Attributes
    ----------
    objective
        "binary:logistic", "reg:squarederror", "multi:softprob" or "count:poisson".
    num_class
        Number of classes of multi:softprob, 2 to 63; None for all other objectives.
    n_estimators, max_depth, learning_rate, max_bin
        Trees (1 to 10000), levels of splits (1 to 10), step (0.0001 to 1), bins of a numeric column (2 to 1024).
    reg_lambda, reg_alpha, gamma, min_child_weight, max_delta_step
        As XGBoost; all at least 0. `max_delta_step` of count:poisson is 0.7 where it is not given, as in XGBoost.
    scale_pos_weight
        Weight of the rows of class 1 in binary:logistic, 0.0001 to 10000.
    max_cat_to_onehot
        Categorical columns of fewer levels are split into one category against the rest, others into sets of
        categories, as in XGBoost; columns of more than 64 levels into one against the rest all the same.
    monotone_constraints
        By the name of a numeric feature: 1 where predictions must not fall as it rises, -1 where they must not rise, 0
        or not named: no constraint. Empty cells are not compared with others.
    subsample, colsample_bytree, colsample_bylevel, colsample_bynode
        Rates in (0, 1]; see `veilboost.trees.sampling`.
    seed
        Public seed of the sampling.
    base_score
        Prediction before the first tree, in the label's space (for multi:softprob the margin of every class); None:
        estimated from the labels as XGBoost does.
    min_rows_per_leaf
        Least number of sampled training rows in a leaf; 0 switches the rule off. Not an XGBoost parameter.
    reveal_gain
        Whether gain and cover of every node are disclosed with the model. Not an XGBoost parameter.
    early_stopping_rounds
        The model keeps the trees up to the round with the best metric, as XGBoost would if training stopped after so
        many rounds without a better one. None: all trees are kept, and no rows are held back.
    validation_fraction
        The part of the rows that the metric is computed on, (0, 1); they take no part in growing trees. Given (0.2 by
        default) with `early_stopping_rounds` only. Not an XGBoost parameter.
    eval_metric
        "logloss", "error", "rmse", "mlogloss" or "poisson-nloglik", as XGBoost defines them; by default the
        objective's own. Given with `early_stopping_rounds` only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective = "binary:logistic"
    num_class: Annotated[Count, Field(ge=2, le=MOST_CLASSES)] | None = None
    n_estimators: Annotated[Count, Field(ge=1, le=10_000)] = 100
    max_depth: Annotated[Count, Field(ge=1, le=10)] = 6
    learning_rate: Annotated[Number, Field(ge=LEAST_LEARNING_RATE, le=1)] = 0.3
    max_bin: Annotated[Count, Field(ge=2, le=1024)] = 256
    reg_lambda: NotNegative = 1.0
    reg_alpha: NotNegative = 0.0
    gamma: NotNegative = 0.0
    min_child_weight: NotNegative = 1.0
    max_delta_step: NotNegative = 0.0
    scale_pos_weight: Annotated[Number, Field(ge=1 / MOST_SCALE, le=MOST_SCALE)] = 1.0
    max_cat_to_onehot: Annotated[Count, Field(ge=1)] = 4
    monotone_constraints: dict[str, Sign] = Field(default_factory=dict)
    subsample: Rate = 1.0
    colsample_bytree: Rate = 1.0
    colsample_bylevel: Rate = 1.0
    colsample_bynode: Rate = 1.0
    seed: Annotated[Count, Field(ge=0, lt=2**63)] = 0
    base_score: Number | None = None
    min_rows_per_leaf: Annotated[Count, Field(ge=0)] = 0
    reveal_gain: Annotated[bool, Field(strict=True)] = False
    early_stopping_rounds: Annotated[Count, Field(ge=1)] | None = None
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] | None = None
    eval_metric: Metric | None = None

    @property
    def outputs(self) -> int:
        """Trees per round, and margins per row: one per class of multi:softprob, else 1."""
        return self.num_class or 1

    @property
    def n_trees(self) -> int:
        """Trees of all rounds together."""
        return self.n_estimators * self.outputs

    @property
    def constrained(self) -> bool:
        """Whether there are monotone constraints."""
        return any(self.monotone_constraints.values())

    def signs(self, features: Iterable[Feature]) -> npt.NDArray[np.int64]:
        """The constraint of each feature: -1, 0 or 1."""
        return np.array([self.monotone_constraints.get(feature.name, 0) for feature in features], dtype=np.int64)

    @model_validator(mode="before")
    @classmethod
    def _resolve_names(cls, given: Any) -> Any:
        return _with_defaults(_canonical(given)) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _base_score_in_domain(self) -> "Parameters":
        if self.base_score is not None:
            # float32 is what a model file keeps: 1e-60 would be stored as 0 and have no logit.
            with np.errstate(over="ignore"):
                stored = float(np.float32(self.base_score))
            low = 0.0 if self.objective in ("binary:logistic", "count:poisson") else -math.inf
            high = 1.0 if self.objective == "binary:logistic" else math.inf
            if not low < stored < high:
                raise JobError(_wrong("base_score", self.base_score))
        return self

    @model_validator(mode="after")
    def _parameters_of_the_objective(self) -> "Parameters":
        if self.objective == "multi:softprob" and self.num_class is None:
            raise JobError("parameter num_class is missing: multi:softprob needs the number of classes")
        if self.objective != "multi:softprob" and self.num_class is not None:
            raise JobError(f"parameter num_class has no meaning for {self.objective}: remove it")
        if self.objective != "binary:logistic" and self.scale_pos_weight != 1:
            raise JobError(f"parameter scale_pos_weight has no meaning for {self.objective}: remove it")
        if self.early_stopping_rounds is None:
            for name in ("validation_fraction", "eval_metric"):
                if getattr(self, name) is not None:
                    raise JobError(
                        f"parameter {name} has no meaning without early_stopping_rounds: add it or remove it"
                    )
        elif self.eval_metric not in METRICS[self.objective]:
            known = " or ".join(METRICS[self.objective])
            raise JobError(f"parameter eval_metric = {self.eval_metric!r} does not fit {self.objective}: give {known}")
        return self


def parameters_from(mapping: Mapping[str, Any]) -> Parameters:
    """Check a mapping of parameters, such as the `[model]` table of a job file.

    Raises
    ------
    JobError
        Unknown or unsupported name, one parameter under two names, wrong type, or value out of range.
    """
    try:
        return Parameters.model_validate(dict(mapping))
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, JobError):
            raise JobError(str(cause)) from None
        name = str(first["loc"][0])
        written = next((str(key) for key in mapping if canonical_name(str(key)) == name), name)
        raise JobError(_wrong(written, first["input"])) from None


def least_weight(parameters: Parameters, largest: float) -> float:
    """The least sample weight above 0 beside the largest one that is allowed."""
    ratio = parameters.scale_pos_weight
    return LEAST_WEIGHT * largest * max(ratio, 1 / ratio)


def canonical_name(name: str) -> str | None:
    """The name that `Parameters` uses for `name` or for the alias `name`; None when there is no such parameter."""
    name = ALIASES.get(name, name)
    return name if name in Parameters.model_fields else None


def _canonical(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Replace aliases and numpy scalars; refuse names that are unknown, unsupported or given twice."""
    values: dict[str, Any] = {}
    written_as: dict[str, str] = {}
    for key, value in given.items():
        written = str(key)
        name = canonical_name(written)
        if name is None:
            raise JobError(_no_such_parameter(written))
        if name in written_as:
            raise JobError(f"parameter {name} is given twice, as {written_as[name]} and as {written}: keep one of them")
        written_as[name] = written
        values[name] = value.item() if isinstance(value, np.generic) else value
    return values


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults that depend on other parameters."""
    objective = values.get("objective", "binary:logistic")
    if objective == "count:poisson":
        values.setdefault("max_delta_step", POISSON_DELTA_STEP)
    if values.get("early_stopping_rounds") is not None:
        defaults = {"validation_fraction": VALIDATION_FRACTION, "eval_metric": _default_metric(objective)}
        values |= {name: default for name, default in defaults.items() if values.get(name) is None}
    return values


def _default_metric(objective: object) -> Metric | None:
    return next((metrics[0] for name, metrics in METRICS.items() if name == objective), None)


def _no_such_parameter(name: str) -> str:
    if name in NOT_SUPPORTED:
        return f"XGBoost's parameter {name} is not supported by this version of veilboost: remove it"
    nearest = difflib.get_close_matches(name.lower(), [*Parameters.model_fields, *ALIASES], n=1)
    hint = f": did you mean {nearest[0]}?" if nearest else f": known are {', '.join(Parameters.model_fields)}"
    return f"unknown parameter {_shown(name)}{hint}"


def _wrong(name: str, value: object) -> str:
    return f"parameter {name} = {_shown(value)} is not allowed: give {_RANGES[ALIASES.get(name, name)]}"


def _shown(value: object) -> str:
    """One short line, whatever was given."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 40 else text[:37] + "..."

"""Parameters of all estimators, as scikit-learn's tools expect them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Never, Self

from veilboost.trees.parameters import ALIASES


class Parametrised:
    """What an estimator is made with: XGBoost's parameters, and those of its subclass."""

    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **options: Any) -> None:
        """Show parameters that are handed on to a base class, too, to `help` and notebooks."""
        super().__init_subclass__(**options)
        named = cls._defaults().items()
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in named]
        cls.__signature__ = inspect.Signature(parameters)

    def __init__(
        self,
        *positional: Never,
        objective: str | None = None,
        n_estimators: int = 100,
        max_depth: int = 6,
        learning_rate: float = 0.3,
        max_bin: int = 256,
        reg_lambda: float = 1.0,
        reg_alpha: float = 0.0,
        gamma: float = 0.0,
        min_child_weight: float = 1.0,
        max_delta_step: float | None = None,
        scale_pos_weight: float | None = None,
        max_cat_to_onehot: int = 4,
        monotone_constraints: Mapping[str, int] | Sequence[int] | None = None,
        subsample: float = 1.0,
        colsample_bytree: float = 1.0,
        colsample_bylevel: float = 1.0,
        colsample_bynode: float = 1.0,
        seed: int = 0,
        base_score: float | None = None,
        min_rows_per_leaf: int = 0,
        reveal_gain: bool = False,
        early_stopping_rounds: int | None = None,
        validation_fraction: float | None = None,
        eval_metric: str | None = None,
        **unknown: Never,
    ) -> None:
        # Python's own message would name this base class.
        name = type(self).__name__
        if positional:
            raise TypeError(f"{name} takes no positional arguments: name the parameters, as in {name}(n_estimators=20)")
        if unknown:
            raise self._unknown(next(iter(unknown)))
        self.objective = objective
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.max_bin = max_bin
        self.reg_lambda = reg_lambda
        self.reg_alpha = reg_alpha
        self.gamma = gamma
        self.min_child_weight = min_child_weight
        self.max_delta_step = max_delta_step
        self.scale_pos_weight = scale_pos_weight
        self.max_cat_to_onehot = max_cat_to_onehot
        self.monotone_constraints = monotone_constraints
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.colsample_bylevel = colsample_bylevel
        self.colsample_bynode = colsample_bynode
        self.seed = seed
        self.base_score = base_score
        self.min_rows_per_leaf = min_rows_per_leaf
        self.reveal_gain = reveal_gain
        self.early_stopping_rounds = early_stopping_rounds
        self.validation_fraction = validation_fraction
        self.eval_metric = eval_metric

    def __repr__(self) -> str:
        defaults = self._defaults()
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
                raise self._unknown(name)
            setattr(self, name, value)
        return self

    @classmethod
    def _unknown(cls, name: str) -> TypeError:
        hint = f"did you mean {ALIASES[name]}? It has" if name in ALIASES else "it has"
        return TypeError(f"{cls.__name__} has no parameter '{name}': {hint} {', '.join(cls._parameter_names())}")

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(cls._defaults())

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Parameters and their defaults: those of all estimators first, then those of this one."""
        makers = [vars(one)["__init__"] for one in reversed(cls.__mro__) if "__init__" in vars(one)]
        parameters = [one for maker in makers for one in inspect.signature(maker).parameters.values()]
        return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}

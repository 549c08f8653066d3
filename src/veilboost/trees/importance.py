"""Which features an ensemble relies on."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.trees.ensemble import Ensemble

#: XGBoost's names: the number of splits on a feature, and the sum of their gains.
ImportanceType = Literal["weight", "total_gain"]

_TITLES: Final[dict[ImportanceType, str]] = {"weight": "number of splits", "total_gain": "total gain"}


@dataclass(frozen=True)
class Importance:
    """How much an ensemble uses each feature.

    Attributes
    ----------
    kind
        What was counted or added.
    scores
        float64, shape (features,), in the order of the ensemble's features.
    """

    kind: ImportanceType
    scores: npt.NDArray[np.float64]

    @property
    def title(self) -> str:
        return _TITLES[self.kind]

    def order(self) -> list[int]:
        """Features that are used at all, the most important first; equal ones in the order of the ensemble."""
        ranked = np.argsort(-self.scores, kind="stable")
        return [int(feature) for feature in ranked if self.scores[feature] > 0]

    def shown(self, feature: int) -> str:
        """The score of one feature in words."""
        score = self.scores[feature]
        return f"{score:.0f}" if self.kind == "weight" else f"{score:.4g}"


def importance_of(ensemble: Ensemble, kind: str | None = None) -> Importance:
    """Importance of the features of an ensemble.

    Parameters
    ----------
    kind
        "weight" or "total_gain", as XGBoost names them; None: "total_gain" if gains were disclosed, else "weight".

    Raises
    ------
    InputError
        `kind` is something else, or "total_gain" where gains were not disclosed.
    """
    disclosed = any(bool(tree.gain.any()) for tree in ensemble.trees)
    kind = kind or ("total_gain" if disclosed else "weight")
    if kind not in _TITLES:
        raise InputError(f"importance_type {kind!r}: give 'weight' (number of splits) or 'total_gain'")
    if kind == "total_gain" and not disclosed and any(tree.n_nodes > 1 for tree in ensemble.trees):
        raise InputError("importance_type 'total_gain': the gains were not disclosed: train with reveal_gain=True")
    scores = np.zeros(len(ensemble.features))
    for tree in ensemble.trees:
        inner = ~tree.leaf
        np.add.at(scores, tree.feature[inner], 1.0 if kind == "weight" else tree.gain[inner].astype(np.float64))
    return Importance("weight" if kind == "weight" else "total_gain", scores)

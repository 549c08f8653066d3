"""XGBoost's objectives as a scoring model needs them: from a base score to a margin, from margins to a prediction.

Definitions are those of XGBoost 3.2 (src/objective), in float32. What a base score is turned into, and what a margin:

==========================================================================  ==============  ===================
objective                                                                   margin          prediction
==========================================================================  ==============  ===================
reg:squarederror (once reg:linear), reg:squaredlogerror,                    the same        the same
reg:absoluteerror, reg:pseudohubererror, reg:quantileerror,
rank:pairwise, rank:ndcg, rank:map, binary:logitraw
reg:logistic, binary:logistic                                               log(p / (1-p))  1 / (1 + e^-m)
reg:gamma, reg:tweedie, count:poisson, survival:cox, survival:aft           log(p)          e^m
binary:hinge                                                                the same        1 where m > 0, else 0
multi:softprob                                                              the same        e^m_k / sum_j e^m_j
multi:softmax                                                               the same        the first k of largest m_k
==========================================================================  ==============  ===================
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.trees.fields import not_supported
from veilboost.trees.objective import softmax

Float32 = npt.NDArray[np.float32]
Link = Literal["identity", "logistic", "exponential", "hinge", "softprob", "softmax"]

#: The link of every objective whose models can be read.
LINKS: Final[dict[str, Link]] = {
    "reg:squarederror": "identity",
    "reg:linear": "identity",
    "reg:squaredlogerror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
    "binary:logitraw": "identity",
    "reg:logistic": "logistic",
    "binary:logistic": "logistic",
    "reg:gamma": "exponential",
    "reg:tweedie": "exponential",
    "count:poisson": "exponential",
    "survival:cox": "exponential",
    "survival:aft": "exponential",
    "binary:hinge": "hinge",
    "multi:softprob": "softprob",
    "multi:softmax": "softmax",
}

#: XGBoost moves the base score of a logistic objective so far from 0 and 1.
_LEAST_DISTANCE: Final = np.float32(1e-6)

#: XGBoost's sigmoid looks no further: e to this is just within float32.
_LARGEST_EXPONENT: Final = np.float32(88.7)


def link_of(objective: object) -> Link:
    """How an objective of this name, in XGBoost's words, maps margins.

    Raises
    ------
    ModelError
        The objective is not known; it is named.
    """
    if not isinstance(objective, str) or objective not in LINKS:
        raise not_supported("objective", objective)
    return LINKS[objective]


def to_base_margins(objective: str, base_scores: Float32) -> Float32:
    """Margins before the first tree, float32, of the shape of `base_scores`, which are in the label's space.

    Raises
    ------
    ModelError
        A base score is outside the objective's range, or the objective is not known.
    """
    link = link_of(objective)
    low, high = (0.0, 1.0) if link == "logistic" else (-np.inf, np.inf)
    margins = base_scores
    inside = np.isfinite(base_scores) & (base_scores >= low) & (base_scores <= high)
    if link == "logistic":
        one = np.float32(1)
        kept = np.clip(base_scores, _LEAST_DISTANCE, one - _LEAST_DISTANCE)
        margins = -np.log(one / kept - one)
    elif link == "exponential":
        inside &= base_scores > 0
        margins = np.log(np.where(inside, base_scores, np.float32(1)))
    if not np.all(inside):
        raise ModelError("damaged: base_score is out of range")
    return margins.astype(np.float32)


def to_predictions(objective: str, margins: Float32) -> Float32:
    """Predictions from margins, as XGBoost's `Booster.predict` gives them.

    Parameters
    ----------
    objective
        XGBoost's name.
    margins
        float32, shape (rows, outputs), or (rows,) for one output.

    Returns
    -------
    float32, shape (rows,) for one output and for multi:softmax (the class, as a float), else (rows, outputs)

    Raises
    ------
    ModelError
        The objective is not known; it is named.
    """
    link = link_of(objective)
    margins = margins.astype(np.float32, copy=False)
    if margins.ndim == 1:
        margins = margins[:, np.newaxis]
    if link == "softmax":
        chosen: Float32 = np.argmax(margins, axis=1).astype(np.float32)
        return chosen
    predictions: Float32 = margins
    if link == "softprob":
        predictions = softmax(margins)
    elif link == "hinge":
        predictions = (margins > 0).astype(np.float32)
    elif link == "exponential":
        with np.errstate(over="ignore", under="ignore"):  # infinity and 0, as in XGBoost
            predictions = np.exp(margins)
    elif link == "logistic":
        one = np.float32(1)
        with np.errstate(under="ignore"):
            predictions = one / (one + np.exp(np.minimum(-margins, _LARGEST_EXPONENT)))
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions

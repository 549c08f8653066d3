"""What a job asks its clients, and how large one row's part of an answer can be: all of it from public facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, exp
from typing import Final, Literal

from veilboost.errors import JobError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import sample_features

Mode = Literal["histograms", "leaf_sums"]

#: Fraction bits of labels and weights.
LABEL_BITS: Final = 24

#: Residuals of squared error are cut off here, in halves of `label_range`.
LARGEST_RESIDUAL: Final = 2.0

#: Means of counts are cut off here, in units of the upper bound of `label_range`.
LARGEST_MEAN: Final = 4.0


@dataclass(frozen=True)
class Shape:
    """What a job asks, from its public facts.

    Attributes
    ----------
    mode
        "histograms" or "leaf_sums".
    rounds, classes, depth
        Rounds of boosting, trees per round, levels of splits.
    features, searched, counted
        Features whose bins are asked for on a level, fewer than all where columns are sampled; numeric features whose
        edges are searched; those whose present cells are counted.
    bins, steps
        Bins of a numeric feature (one more than targets of the search); steps of the search.
    asks_labels
        Whether the first margin is estimated, not given.
    weighted, counts_rows
        Whether rows have weights; whether rows of leaves or bins are counted.
    """

    mode: Mode
    rounds: int
    classes: int
    depth: int
    features: int
    searched: int
    counted: int
    bins: int
    steps: int = 32
    asks_labels: bool = True
    weighted: bool = False
    counts_rows: bool = False


def shape_of(parameters: Parameters, features: Sequence[Feature], mode: Mode, weighted: bool) -> Shape:
    """The shape of a job whose clients answer for permitted features only.

    Raises
    ------
    JobError
        The job has early stopping, whose metrics are no part of the budget.
    """
    if parameters.early_stopping_rounds is not None:
        raise JobError("parameter early_stopping_rounds has no part in a privacy budget: remove one of the two")
    searched = [feature for feature in features if feature.kind in (Kind.CONTINUOUS, Kind.DISCRETE)]
    return Shape(
        mode=mode,
        rounds=parameters.n_estimators,
        classes=parameters.outputs,
        depth=parameters.max_depth,
        features=int(sample_features(parameters, 0, 0, len(features))[0].sum()),  # the same number at every node
        searched=len(searched),
        counted=sum(feature.missing for feature in searched),
        bins=parameters.max_bin,
        asks_labels=parameters.base_score is None,
        weighted=weighted,
        counts_rows=parameters.min_rows_per_leaf > 0,
    )


@dataclass(frozen=True)
class RowBounds:
    """Least and largest integers of one row, after rounding; clients cut off what is beyond.

    Attributes
    ----------
    gradient, hessian
        Weights, in units of the largest, included.
    label
        The same of a label with `LABEL_BITS` fraction bits.
    gradient_bits, hessian_bits
        Fraction bits.
    """

    gradient: tuple[int, int]
    hessian: tuple[int, int]
    label: tuple[int, int]
    gradient_bits: int
    hessian_bits: int


def row_bounds(parameters: Parameters, gradient_bits: int, hessian_bits: int) -> RowBounds:
    """Bounds by objective, in the units of `veilboost.xorboost.objectives`: |g| <= 1 for classes, +-2 for residuals."""
    low, high, largest_hessian, least_label = _REAL_BOUNDS[parameters.objective]
    if parameters.objective == "count:poisson":
        largest_hessian *= exp(min(parameters.max_delta_step, 100.0))
    gradient, hessian = 2**gradient_bits, 2**hessian_bits
    return RowBounds(
        (round(low * gradient), round(high * gradient)),
        (0, ceil(Fraction(largest_hessian) * hessian)),
        (round(least_label * 2**LABEL_BITS), 2**LABEL_BITS),
        gradient_bits,
        hessian_bits,
    )


#: g from, g to, h to, scaled label from (to 1).
_REAL_BOUNDS: Final = {
    "binary:logistic": (-1.0, 1.0, 0.25, 0.0),
    "multi:softprob": (-1.0, 1.0, 0.5, 0.0),
    "reg:squarederror": (-LARGEST_RESIDUAL, LARGEST_RESIDUAL, 1.0, -1.0),
    "count:poisson": (-1.0, LARGEST_MEAN, LARGEST_MEAN, 0.0),
}

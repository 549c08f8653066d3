"""What is trained: the public description that clients, aggregators and the dealer have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.federated.privacy import Budget
from veilboost.federated.protection import Protection, protect
from veilboost.federated.questions import Mode, shape_of
from veilboost.splitting.scales import Scales
from veilboost.splitting.space import SplitSpace, starts_of
from veilboost.splitting.units import Bounds, Unit, bounds_of, largest_weight_of, scales_of, unit_of
from veilboost.tables.binning import BinPlan, Layout
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import is_partitioned
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import sample_features, validation_rows

#: Fraction bits of what the base score follows from.
RATIO_BITS = 28


@dataclass(frozen=True)
class FederatedTask:
    """What is public about a training, before it begins.

    Attributes
    ----------
    features
        In job order; all clients have all of them.
    parameters
        Hyper-parameters.
    clients
        Names, in job order.
    label_range, weight_range
        Public bounds; None where there are none.
    min_clients
        Fewer clients do not go on with a tree.
    leaf_sums
        Whether trees have a random structure, and clients send the sums of their leaves only.
    aggregators
        How many add noise, if there is a budget.
    privacy
        A budget of differential privacy, without `clip_rows`; None: there is none.
    """

    features: tuple[Feature, ...]
    parameters: Parameters
    clients: tuple[str, ...]
    label_range: tuple[float, float] | None = None
    weight_range: tuple[float, float] | None = None
    min_clients: int = 2
    leaf_sums: bool = False
    aggregators: int = 2
    privacy: Budget | None = None

    @cached_property
    def space(self) -> SplitSpace:
        """Bins and candidates; a numeric column has one cut less than `max_bin`, however many of them differ."""
        plans = tuple(self._plan(feature) for feature in self.features)
        return SplitSpace(self.features, plans, *starts_of(self.features, plans))

    @cached_property
    def widths(self) -> npt.NDArray[np.int64]:
        """Bins of each column, that for missing cells included."""
        return np.diff(self.space.bin_starts)

    @cached_property
    def numeric(self) -> tuple[int, ...]:
        """Columns whose cuts are quantiles of all clients' cells."""
        return tuple(
            number for number, feature in enumerate(self.features) if feature.kind in (Kind.CONTINUOUS, Kind.DISCRETE)
        )

    @property
    def cuts(self) -> int:
        """Cuts of each numeric column."""
        return self.parameters.max_bin - 1

    @cached_property
    def largest_weight(self) -> float | None:
        """Public bound of what a row's gradient is multiplied by; None where that is 1."""
        return largest_weight_of(self.parameters, self.weight_range)

    @cached_property
    def unit(self) -> Unit:
        """What 1 in the clients' sums stands for."""
        return unit_of(self.parameters, self.label_range, self.largest_weight)

    @cached_property
    def bounds(self) -> Bounds:
        """Of one row's gradient and hessian, in the unit of the job."""
        return bounds_of(self.parameters, self.label_range, self.unit, self.largest_weight is not None)

    @cached_property
    def counted(self) -> tuple[int, ...]:
        """Which of the numeric columns, by position among them, have missing cells, so that the others are counted."""
        return tuple(at for at, number in enumerate(self.numeric) if self.features[number].missing)

    @property
    def label_columns(self) -> int:
        """Sums of labels that the base score needs."""
        return self.parameters.outputs

    @property
    def vectors(self) -> int:
        """Gradient, hessian and, where a minimum of rows per leaf is asked for, rows."""
        return 3 if self.parameters.min_rows_per_leaf else 2

    @property
    def largest_update(self) -> int:
        """Words of the largest answer that a client is asked for."""
        edges = len(self.numeric) * (self.cuts + 1)
        leaves = self.vectors << self.parameters.max_depth
        level = leaves // 2 * self.space.n_bins
        return max(edges, self.label_columns + 1, leaves if self.leaf_sums else level)

    def with_rows(self, rows: Mapping[str, int]) -> SizedTask:
        """The task for clients that have said how many rows they have."""
        return SizedTask(self, dict(rows))

    def _plan(self, feature: Feature) -> BinPlan:
        if feature.categorical:
            bins = len(feature.levels)
            partitioned = is_partitioned(feature, self.parameters.max_cat_to_onehot)
            return BinPlan(Layout.DIRECT, bins, 0, 0, bins - 1 if partitioned else bins)
        bins = 2 if feature.kind is Kind.FLAG else self.parameters.max_bin
        # With missing rows, one candidate more: all present rows left.
        return BinPlan(Layout.DIRECT, bins, 0, 0, bins - 1 + feature.missing)


@dataclass(frozen=True)
class SizedTask:
    """A task whose clients' numbers of rows, which are public, are known.

    Attributes
    ----------
    rows
        Of every client that takes part, by name.
    """

    task: FederatedTask
    rows: dict[str, int]

    @cached_property
    def total(self) -> int:
        """Rows of all clients."""
        return sum(self.rows.values())

    @cached_property
    def held_back(self) -> dict[str, int]:
        """Rows that each client holds back for the validation metric."""
        parameters = self.task.parameters
        return {client: int(validation_rows(parameters, rows).sum()) for client, rows in self.rows.items()}

    @property
    def scales(self) -> Scales:
        """Fixed point of sums over all rows; raises InputError where there are too many."""
        return self._scales if self.protection is None else self.protection.scales

    @cached_property
    def parameters(self) -> Parameters:
        """Parameters in the unit of the shared gradients; with noise, regularisation is no less than it needs."""
        parameters = self.task.unit.scaled(self.task.parameters)
        if self.protection is None:
            return parameters
        return parameters.model_copy(update={"reg_lambda": self.protection.reg_lambda})

    @cached_property
    def protection(self) -> Protection | None:
        """Noise and what goes with it, where there is a budget of differential privacy."""
        task, budget = self.task, self.task.privacy
        if budget is None:
            return None
        if budget.unit == "client":  # as many rows as clients have on average
            budget = replace(budget, clip_rows=-(-self.total // len(self.rows)))
        mode: Mode = "leaf_sums" if task.leaf_sums else "histograms"
        shape = shape_of(task.parameters, task.features, mode, task.weight_range is not None)
        summed = int(self._permitted(0, 0).sum())  # the same number on every level
        shape = replace(shape, features=summed, weighted=task.largest_weight is not None)
        parameters = task.unit.scaled(task.parameters)
        widest = int(self.task.widths.max())
        return protect(budget, shape, parameters, self._scales, self.total, task.aggregators, widest)

    def summed(self, tree: int, level: int) -> npt.NDArray[np.bool_]:
        """Columns whose bins clients sum on a level of a tree, shape (features,).

        With noise these are the columns that the level may split on, and no others are counted in the sensitivity.
        Without, all: sums of a right child are those of its parent less its sibling's, and the parent may have used
        other columns.
        """
        everything = np.ones(len(self.task.features), dtype=np.bool_)
        return everything if self.protection is None else self._permitted(tree, level)

    def whole(self, tree: int, level: int) -> slice:
        """Bins that make up a node on a level of a tree: those of the narrowest of the columns that clients sum.

        Without noise all columns add up to the same; with noise, the fewer bins the better.
        """
        widths = self.task.widths
        narrowest = int(np.argmin(np.where(self.summed(tree, level), widths, widths.max() + 1)))
        start = int(self.task.space.bin_starts[narrowest])
        return slice(start, start + int(widths[narrowest]))

    def _permitted(self, tree: int, level: int) -> npt.NDArray[np.bool_]:
        """Columns that any node of the level may split on; all where every node has its own sample."""
        parameters, count = self.task.parameters, len(self.task.features)
        if parameters.colsample_bynode != 1:
            return np.ones(count, dtype=np.bool_)
        permitted: npt.NDArray[np.bool_] = sample_features(parameters, tree, level, count)[0]
        return permitted

    @cached_property
    def _scales(self) -> Scales:
        task = self.task
        weighted = task.largest_weight is not None
        return scales_of(task.parameters, task.label_range, task.unit, weighted, self.total)

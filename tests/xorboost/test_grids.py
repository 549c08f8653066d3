"""Training where rows, or rows and columns, lie with several owners, against the oracle on all owners' cuts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.grids import GridTable, train_on_grid
from tests.training import EVERY_KIND, draw_table
from tests.xorboost.test_parity import LOGISTIC, OBJECTIVES, faults

from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters

#: Owners of each feature and of the label, by the number of blocks.
HORIZONTAL = "rows"
MIXED = "rows and columns"
LABEL_ELSEWHERE = "rows, the labels with an owner of all rows"


def draw_grid(split: str, blocks: int, objective: str, rng: np.random.Generator, rows: int = 420) -> GridTable:
    """A table of every kind of column; half of its columns lie with one more owner where the split is mixed."""
    drawn = draw_table(EVERY_KIND, rows, 2, objective, rng)
    sizes = rng.multinomial(rows - 12 * blocks, rng.dirichlet(np.ones(blocks))) + 12
    everybody = tuple(range(blocks))
    owners = [(blocks,) if split == MIXED and number % 2 else everybody for number in range(len(EVERY_KIND))]
    label = (blocks,) if split == LABEL_ELSEWHERE else everybody
    return GridTable(
        drawn.features,
        drawn.values,
        tuple(owners),
        tuple(int(size) for size in sizes),
        drawn.labels,
        label,
        drawn.label_range,
    )


def agree(table: GridTable, parameters: Parameters) -> Ensemble:
    """Train, and have the oracle judge every node."""
    owners = 1 + max(max(held) for held in (*table.owners, table.label_owners))
    model, _ = train_on_grid(table, parameters, owners)
    assert faults(model, _Pooled(table), parameters) == []
    return model


class _Pooled:
    """A grid as the oracle sees it."""

    def __init__(self, table: GridTable) -> None:
        self.labels = table.labels
        self.task, self.weights = table.task, None
        self._table = table
        self.parameters: Parameters | None = None

    def columns(self, max_bin: int) -> Any:
        return self._table.pooled_columns(Parameters(max_bin=max_bin))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("split", [HORIZONTAL, MIXED, LABEL_ELSEWHERE])
@pytest.mark.parametrize("blocks", [2, pytest.param(4, marks=pytest.mark.slow), 7])
def test_all_kinds_of_columns(blocks: int, split: str, objective: str) -> None:
    table = draw_grid(split, blocks, objective, np.random.default_rng(blocks))
    model = agree(table, Parameters(objective=objective, n_estimators=2, max_depth=4, max_bin=16))
    assert len({f for tree in model.trees for f in tree.feature[~tree.leaf].tolist()}) > 3


@pytest.mark.parametrize("feature", EVERY_KIND, ids=lambda feature: feature.name.replace(" ", "-"))
def test_each_kind_of_column_alone(feature: Any) -> None:
    table = draw_grid(HORIZONTAL, 3, LOGISTIC, np.random.default_rng(5), rows=150)
    number = EVERY_KIND.index(feature)
    alone = replace(table, features=(feature,), values=table.values[:, [number]], owners=(table.owners[number],))
    agree(alone, Parameters(n_estimators=2, max_depth=3, max_bin=8))


def test_blocks_of_different_values() -> None:
    """One block's values lie above all others', one block's are all missing, one block has a single row."""
    rng = np.random.default_rng(6)
    table = draw_grid(HORIZONTAL, 3, LOGISTIC, rng, rows=121)
    table = replace(table, block_rows=(60, 60, 1))
    values = table.values.copy()
    values[:60, :4] += 100
    values[60:, [f.missing for f in EVERY_KIND]] = np.nan
    agree(replace(table, values=values), Parameters(n_estimators=2, max_depth=3, max_bin=8))


@pytest.mark.parametrize(
    "options",
    [
        {"colsample_bylevel": 0.4, "seed": 5},
        {"colsample_bynode": 0.3, "seed": 6},
        {"subsample": 0.5, "seed": 3},
        {"reg_alpha": 2.0},
        {"min_rows_per_leaf": 20},
        {"max_depth": 1},
        {"max_bin": 2},
        {"max_bin": 200},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_parameters(options: dict[str, Any]) -> None:
    table = draw_grid(MIXED, 2, LOGISTIC, np.random.default_rng(8), rows=200)
    agree(table, Parameters(**({"n_estimators": 2, "max_depth": 3, "max_bin": 8} | options)))

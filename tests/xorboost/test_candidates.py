"""Left sides of candidates, and which of them send missing rows the less preferred way."""

from dataclasses import replace

import numpy as np
import pytest
from tests.network import run, secret
from tests.training import EVERY_KIND, Table, draw_table, train_on_shares

from veilboost.splitting.sides import left_sums, sides_of
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.candidates import CandidateSpace


@pytest.mark.parametrize("features", [range(10), (1, 3, 5, 7, 9), (0, 2), (8, 9, 0)])
def test_left_sums_are_those_of_the_rows_that_go_left(features: range | tuple[int, ...]) -> None:
    """Of every candidate as `describe` has it; and its second direction is told from its first."""
    table = draw_table(EVERY_KIND, 200, 2, "binary:logistic", np.random.default_rng(0))
    space = CandidateSpace.of(table.features, table.owners, 200, 8, 1000)
    columns = table.columns(8)
    histogram = np.zeros((space.n_bins, 1, 1), dtype=np.int64)
    values = np.random.default_rng(1).integers(-1000, 1000, 200)
    for feature, column in enumerate(columns):
        np.add.at(histogram[:, 0, 0], space.bin_starts[feature] + column.bins.astype(int), values)
    sides = sides_of(space, list(features))
    node = np.array([[values.sum()]])
    left = run(lambda s: left_sums(space, sides, secret(s, histogram), secret(s, node)))[0, 0]
    with_gaps = [feature for feature in features if space.features[feature].missing]
    assert sides.missing_bins.tolist() == [
        int(space.bin_starts[feature]) + space.plans[feature].n_bins for feature in with_gaps
    ]
    assert sorted(set(sides.second.tolist()) - {-1}) == list(range(len(with_gaps)))
    for position, candidate in enumerate(sides.candidates.tolist()):
        feature, place, default_left = space.describe(candidate)
        assert feature in features
        bins, categorical = columns[feature].bins, space.features[feature].categorical
        goes_left = bins != place if categorical else bins <= place
        absent = bins == space.plans[feature].n_bins
        assert left[position] == values[np.where(absent, default_left, goes_left)].sum()
        # The preferred way: missing rows right of a cut, or with the categories that are not asked for.
        preferred = default_left == categorical or not space.features[feature].missing
        assert sides.second[position] == (-1 if preferred else with_gaps.index(feature))


def without_gaps(table: Table) -> Table:
    return replace(table, values=np.nan_to_num(table.values, nan=1.0))


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_columns_without_missing_rows_send_them_the_preferred_way(objective: str) -> None:
    """Where cells may be missing and none is, no split says otherwise, in many trees."""
    table = without_gaps(draw_table([f for f in EVERY_KIND if f.missing], 300, 2, objective, np.random.default_rng(2)))
    parameters = Parameters(objective=objective, n_estimators=6, max_depth=4, max_bin=16)
    model, _ = train_on_shares(table, parameters, 2)
    splits = 0
    for tree in model.trees:
        inner = ~tree.leaf
        categorical = np.array([table.features[f].categorical for f in tree.feature[inner]], dtype=bool)
        assert np.array_equal(tree.default_left[inner], categorical)
        splits += int(inner.sum())
    assert splits > 40

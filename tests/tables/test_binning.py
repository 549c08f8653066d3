from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veilboost.tables.binning import ABOVE_ALL, BinnedColumn, Layout, bin_column, even_cuts, midpoint, plan_bins
from veilboost.tables.schema import Feature, Kind

LARGEST = float(np.nextafter(ABOVE_ALL, np.float32(0)))
finite = st.floats(min_value=-LARGEST, max_value=LARGEST, width=32)
few_values = st.sampled_from([-1.5, -0.0, 0.0, 1e-45, 1.0, 2.0, 1e30, LARGEST])
max_bins = st.integers(2, 20)


@st.composite
def numeric_columns(draw: st.DrawFn) -> tuple[Feature, npt.NDArray[np.float32]]:
    missing = draw(st.booleans())
    kind = draw(st.sampled_from([Kind.CONTINUOUS, Kind.DISCRETE]))
    cell = draw(st.sampled_from([finite, few_values]))
    cells = draw(st.lists(cell | st.just(np.nan) if missing else cell, min_size=1, max_size=60))
    return Feature("x", kind, missing=missing), np.array(cells, dtype=np.float32)


def slots_taken(column: BinnedColumn) -> int:
    """Slot bins that the groups of a column need when every group takes whole bins."""
    sizes = np.bincount(column.bins, minlength=column.plan.n_bins + 1)
    return int((-(-sizes // column.plan.capacity)).sum())


def check(feature: Feature, values: npt.NDArray[np.float32], max_bin: int) -> BinnedColumn:
    """The laws that hold for every numeric column."""
    column = bin_column(feature, values, max_bin)
    plan, missing = column.plan, np.isnan(values)
    assert plan == plan_bins(feature, len(values), max_bin)
    assert column.bins.dtype == np.uint16 and column.bins.shape == values.shape
    assert column.cuts.dtype == np.float32 and column.cuts.shape == (plan.n_candidates,)
    assert column.valid.dtype == np.bool_ and column.valid.shape == (plan.n_candidates,)
    assert np.all(column.bins[missing] == plan.n_bins)
    assert np.all(column.bins[~missing] < plan.n_bins)
    for candidate in np.flatnonzero(column.valid):
        np.testing.assert_array_equal(column.bins <= candidate, values < column.cuts[candidate])
    cuts = column.cuts[column.valid]
    assert np.all(cuts[1:] >= cuts[:-1])
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(column.bins[order].astype(int)) >= 0)
    if plan.layout is Layout.DIRECT:
        assert np.bincount(column.bins[~missing], minlength=1).max() <= plan.capacity
    if plan.layout is not Layout.DENSE:
        assert slots_taken(column) <= plan.slot_bins
        assert plan.slots >= len(values)
    return column


@given(numeric_columns(), max_bins)
@example((Feature("x", Kind.CONTINUOUS, missing=True), np.full(7, np.nan, dtype=np.float32)), 4)
@example((Feature("x", Kind.CONTINUOUS), np.zeros(1, dtype=np.float32)), 16)
@example((Feature("x", Kind.CONTINUOUS), np.zeros(40, dtype=np.float32)), 16)
def test_candidates_separate_what_they_say(given_column: tuple[Feature, Any], max_bin: int) -> None:
    check(*given_column, max_bin)


@given(numeric_columns(), max_bins)
def test_minus_zero_is_zero(given_column: tuple[Feature, Any], max_bin: int) -> None:
    feature, values = given_column
    flipped = np.where(values == 0, -values, values)
    one, other = bin_column(feature, values, max_bin), bin_column(feature, flipped, max_bin)
    np.testing.assert_array_equal(one.bins, other.bins)
    np.testing.assert_array_equal(one.cuts, other.cuts)
    np.testing.assert_array_equal(one.valid, other.valid)


@given(st.integers(1, 300), max_bins, st.booleans(), st.data())
def test_any_partition_fits_the_grouped_layout(rows: int, max_bin: int, missing: bool, data: st.DataObject) -> None:
    plan = plan_bins(Feature("x", Kind.DISCRETE, missing=missing), rows, max_bin)
    if plan.layout is not Layout.GROUPED:
        return
    groups = plan.n_bins + int(missing)
    ends = sorted(data.draw(st.lists(st.integers(0, rows), min_size=groups - 1, max_size=groups - 1)))
    sizes = np.diff([0, *ends, rows])
    assert sum(-(-size // plan.capacity) for size in sizes) <= plan.slot_bins


@given(
    st.integers(1, 12).map(lambda n: tuple(f"level {code}" for code in range(n))),
    st.booleans(),
    st.integers(1, 80),
    st.data(),
)
def test_categories_keep_their_codes(levels: tuple[str, ...], missing: bool, rows: int, data: st.DataObject) -> None:
    feature = Feature("c", Kind.CATEGORICAL, levels, missing)
    code = st.integers(0, len(levels) - 1).map(float)
    cell = code | st.just(float("nan")) if missing else code
    values = np.array(data.draw(st.lists(cell, min_size=rows, max_size=rows)), dtype=np.float32)
    column = bin_column(feature, values, max_bin=2)
    np.testing.assert_array_equal(column.bins, np.where(np.isnan(values), len(levels), values))
    assert column.plan.n_bins == column.plan.n_candidates == len(levels)
    assert column.valid.all() and not column.cuts.any()
    if column.plan.layout is Layout.GROUPED:
        assert slots_taken(column) <= column.plan.slot_bins


@pytest.mark.parametrize("missing", [False, True])
def test_flags(missing: bool) -> None:
    values = np.array([0, 1, 1, -0.0] + [np.nan] * missing, dtype=np.float32)
    column = check(Feature("f", Kind.FLAG, missing=missing), values, max_bin=64)
    assert column.plan.layout is Layout.DENSE
    np.testing.assert_array_equal(column.bins, [0, 1, 1, 0] + [2] * missing)
    np.testing.assert_array_equal(column.cuts, [0.5] + [ABOVE_ALL] * missing)


@pytest.mark.parametrize("kind", [Kind.CONTINUOUS, Kind.DISCRETE])
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_all_missing(kind: Kind, rows: int) -> None:
    check(Feature("x", kind, missing=True), np.full(rows, np.nan, dtype=np.float32), max_bin=8)


@pytest.mark.parametrize("kind", [Kind.CONTINUOUS, Kind.DISCRETE])
@pytest.mark.parametrize("missing", [False, True])
def test_one_row(kind: Kind, missing: bool) -> None:
    column = check(Feature("x", kind, missing=missing), np.array([3.5], dtype=np.float32), max_bin=256)
    separating = column.valid & (column.cuts < ABOVE_ALL)
    assert not separating.any()


@pytest.mark.parametrize("max_bin", [2, 16, 256])
def test_ties_lose_candidates_and_no_rows(max_bin: int) -> None:
    values = np.repeat(np.array([1, 2, 9], dtype=np.float32), [5, 900, 95])
    for missing in (False, True):
        column = check(Feature("x", Kind.CONTINUOUS, missing=missing), values, max_bin)
        found = {float(cut) for cut in column.cuts[column.valid] if cut < ABOVE_ALL}
        assert found <= {1.5, 5.5}
        assert max_bin == 2 or 5.5 in found


def test_distinct_values_get_bins_of_equal_size() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    for kind in (Kind.CONTINUOUS, Kind.DISCRETE):
        column = check(Feature("x", kind), values, max_bin=50)
        sizes = np.bincount(column.bins, minlength=50)
        assert column.valid.all()
        assert sizes.min() >= 19 and sizes.max() <= 21


def test_discrete_values_get_a_bin_each_when_there_is_room() -> None:
    values = np.array([3, 1, 2, 2, 3, 7], dtype=np.float32)
    column = check(Feature("x", Kind.DISCRETE), values, max_bin=6)
    np.testing.assert_array_equal(column.bins, [2, 0, 1, 1, 2, 3])
    np.testing.assert_array_equal(column.cuts[:3], [1.5, 2.5, 5])


@pytest.mark.parametrize("frequent", [-1.0, 500.5, 2000.0])
def test_a_frequent_value_leaves_the_other_bins_to_the_other_rows(frequent: float) -> None:
    values = np.concatenate([np.arange(1000), np.full(99_000, frequent)]).astype(np.float32)
    column = check(Feature("x", Kind.DISCRETE), values, max_bin=50)
    assert (column.cuts < ABOVE_ALL).sum() == 49
    sizes = np.bincount(column.bins[:1000], minlength=50)
    assert sizes.max() <= 30


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=300), st.integers(1, 64), st.sampled_from([0.1, 0.5, 1.0]))
def test_every_cut_is_used(sizes: list[int], count: int, first: float) -> None:
    count = min(count, len(sizes) - 1)
    cuts = even_cuts(np.array(sizes), count, first, 1.0 if first == 1.0 else 1.0 - first)
    assert len(cuts) == count
    assert (np.diff(cuts) > 0).all()
    assert cuts[0] >= 0 and cuts[-1] < len(sizes) - 1


@given(st.integers(2, 300), st.integers(1, 64), st.integers(1, 5))
def test_equal_groups_are_cut_evenly(groups: int, count: int, size: int) -> None:
    count = min(count, groups - 1)
    parts = np.diff(even_cuts(np.full(groups, size), count), prepend=-1, append=groups - 1)
    assert parts.max() - parts.min() <= 2


@given(finite, finite)
def test_midpoint_lies_between(one: float, other: float) -> None:
    below, above = sorted((np.float32(one), np.float32(other)))
    if below < above:
        cut = midpoint(below, above)
        assert cut.dtype == np.float32
        assert below < cut <= above
        assert (
            cut < above or np.nextafter(below, above) == above or np.float32((float(below) + float(above)) / 2) == above
        )


def test_midpoint_of_neighbours_is_the_upper_one() -> None:
    below = np.float32(1.0)
    above = np.nextafter(below, np.float32(2.0))
    assert midpoint(below, above) == above

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from veilboost.trees.parameters import Parameters, parameters_from
from veilboost.trees.sampling import sample_features, sample_rows

rates = st.floats(0.01, 1.0)

ROWS = [1, 5, 8, 9, 12, 16, 18, 20, 21, 23]
FEATURES = [[0, 3, 7, 8], [0, 2, 7, 8], [0, 7, 8, 9], [0, 2, 5, 8]]


def test_everything_is_kept_at_rate_one() -> None:
    assert sample_rows(Parameters(), 3, 10).all()
    features = sample_features(Parameters(), 3, 2, 5)
    assert features.shape == (4, 5)
    assert features.all()


def test_known_answer() -> None:
    """The draws are part of the job: every participant, on any machine and numpy, must make the same."""
    parameters = parameters_from({"subsample": 0.5, "colsample_bytree": 0.7, "colsample_bynode": 0.6, "seed": 42})
    assert np.flatnonzero(sample_rows(parameters, 1, 24)).tolist() == ROWS
    assert [np.flatnonzero(node).tolist() for node in sample_features(parameters, 1, 2, 10)] == FEATURES


def test_rows_are_kept_at_the_given_rate() -> None:
    rows = 100_000
    for rate in (0.1, 0.5, 0.9):
        kept = sample_rows(parameters_from({"subsample": rate}), 0, rows).sum()
        assert abs(kept - rate * rows) < 5 * np.sqrt(rate * (1 - rate) * rows)


def test_trees_levels_nodes_and_seeds_draw_independently() -> None:
    def agreement(a: np.ndarray, b: np.ndarray) -> float:
        return float((a == b).mean())

    half = parameters_from({"subsample": 0.5, "colsample_bylevel": 0.5, "colsample_bynode": 0.5})
    other = half.model_copy(update={"seed": 1})
    assert 0.45 < agreement(sample_rows(half, 0, 10_000), sample_rows(half, 1, 10_000)) < 0.55
    assert 0.45 < agreement(sample_rows(half, 0, 10_000), sample_rows(other, 0, 10_000)) < 0.55
    nodes = sample_features(half, 0, 1, 4000)
    assert not np.array_equal(nodes[0], nodes[1])
    levels = [sample_features(half, 0, level, 4000).any(axis=0) for level in (0, 1)]
    assert not np.array_equal(levels[0], levels[1])


def test_every_column_is_drawn_equally_often() -> None:
    parameters = parameters_from({"colsample_bytree": 0.3})
    counts = sum(sample_features(parameters, tree, 0, 10)[0].astype(int) for tree in range(2000))
    assert np.all(np.abs(np.asarray(counts) - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7))


@given(rates, rates, rates, st.integers(1, 40), st.integers(0, 4), st.integers(0, 2**63 - 1))
def test_counts_and_nesting(
    by_tree: float, by_level: float, by_node: float, n_features: int, level: int, seed: int
) -> None:
    parameters = parameters_from(
        {"colsample_bytree": by_tree, "colsample_bylevel": by_level, "colsample_bynode": by_node, "seed": seed}
    )
    nodes = sample_features(parameters, 0, level, n_features)
    of_tree = sample_features(
        parameters.model_copy(update={"colsample_bylevel": 1.0, "colsample_bynode": 1.0}), 0, 0, n_features
    )
    count = n_features
    for rate in (by_tree, by_level, by_node):
        count = max(1, int(np.float32(rate) * np.float32(count)))
    assert nodes.shape == (2**level, n_features)
    assert np.all(nodes.sum(axis=1) == count)
    assert not np.any(nodes & ~of_tree)


def test_counts_are_those_of_float32() -> None:
    assert int(0.29 * 100) == 28
    assert sample_features(parameters_from({"colsample_bytree": 0.29}), 0, 0, 100).sum() == 29

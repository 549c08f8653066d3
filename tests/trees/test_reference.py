import numpy as np
import pytest

from veilboost.errors import DataError
from veilboost.tables.binning import BinnedColumn, bin_column
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.exact_splits import Candidates, is_worth, leaf_weight, score
from veilboost.trees.objective import gradients
from veilboost.trees.parameters import Parameters, parameters_from
from veilboost.trees.reference import audit, train
from veilboost.trees.sampling import sample_features

NAN = float("nan")
PLAIN = parameters_from({"objective": "reg:squarederror", "lambda": 0, "min_child_weight": 0, "base_score": 0.0})


def column(name: str, kind: Kind, values: list[float], *, missing: bool = False, levels: int = 0) -> BinnedColumn:
    feature = Feature(name, kind, tuple(f"level {i}" for i in range(levels)), missing)
    return bin_column(feature, np.array(values, dtype=np.float32), 16)


def table(rows: int = 300, seed: int = 0) -> tuple[list[BinnedColumn], np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 3)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.1] = NAN
    codes = rng.integers(0, 4, rows).astype(np.float32)
    columns = [
        bin_column(Feature("a", Kind.CONTINUOUS, (), True), numbers[:, 0], 16),
        bin_column(Feature("b", Kind.DISCRETE, (), True), np.round(numbers[:, 1]), 16),
        bin_column(Feature("c", Kind.CATEGORICAL, ("p", "q", "r", "s")), codes, 16),
        bin_column(Feature("d", Kind.FLAG, (), True), (numbers[:, 2] > 0).astype(np.float32), 16),
    ]
    noise = rng.normal(size=rows)
    labels = (
        np.nan_to_num(numbers[:, 0]) + (codes == 2) + np.nan_to_num(numbers[:, 1]) * (codes == 1) + noise > 0.5
    ) * 1.0
    return columns, labels


def all_gains(columns: list[BinnedColumn], labels: np.ndarray, parameters: Parameters) -> tuple[Candidates, np.ndarray]:
    candidates = Candidates(columns, parameters)
    gradient, hessian = gradients(parameters.objective, np.zeros(len(labels)), labels)
    sums = candidates.sums(np.arange(len(labels)), gradient, hessian)
    return candidates, candidates.gains(sums, parameters, np.full(len(columns), True))


def test_candidates_are_numbered_as_promised() -> None:
    candidates = Candidates(
        [
            column("n", Kind.DISCRETE, [0, 1, 2, 3, NAN], missing=True),
            column("c", Kind.CATEGORICAL, [0, 1, 1, 0, NAN], missing=True, levels=2),
            column("f", Kind.FLAG, [0, 1, 1, 0, 1]),
            column("k", Kind.CATEGORICAL, [0, 1, 1, 0, 1], levels=2),
        ],
        Parameters(),
    )
    n = candidates.columns[0].plan.n_candidates
    assert candidates.feature.tolist() == [0] * 2 * n + [1] * 4 + [2] + [3] * 2
    assert candidates.bin.tolist() == [*range(n), *reversed(range(n)), 0, 0, 1, 1, 0, 0, 1]
    assert candidates.default_left.tolist() == [False] * n + [True] * n + [True, False] * 2 + [False] + [True] * 2


def test_gains_are_those_of_the_two_sides() -> None:
    """Every candidate's gain against a direct count over the rows that it sends either way."""
    columns, labels = table()
    parameters = parameters_from({"lambda": 0.7, "alpha": 0.4, "min_child_weight": 3})
    candidates, gains = all_gains(columns, labels, parameters)
    gradient, hessian = gradients("binary:logistic", np.zeros(len(labels)), labels)
    rows = np.arange(len(labels))
    sums = candidates.sums(rows, gradient, hessian)
    finite = 0
    for candidate, gain in enumerate(gains):
        left = candidates.goes_left(candidate, rows, candidates.categories(candidate, sums, parameters))
        valid = candidates.columns[candidates.feature[candidate]].valid[candidates.bin[candidate]]
        sides = [(gradient[side].sum(), hessian[side].sum()) for side in (left, ~left)]
        if not valid or min(hessian_sum for _, hessian_sum in sides) < 3:
            assert gain == -np.inf
        else:
            expected = sum(score(*side, parameters) for side in sides) - score(
                gradient.sum(), hessian.sum(), parameters
            )
            assert gain == pytest.approx(expected, rel=1e-5, abs=1e-5)
            finite += 1
    assert finite > 50


def test_of_equal_candidates_the_first_wins() -> None:
    same = [column(name, Kind.DISCRETE, [0, 0, 1, 1]) for name in "ab"]
    tree = train(same, np.array([0.0, 0, 1, 1]), PLAIN.model_copy(update={"n_estimators": 1})).trees[0]
    assert tree.feature[0] == 0


def test_without_missing_rows_in_a_node_missing_goes_right_or_with_the_other_categories() -> None:
    numeric = column("n", Kind.DISCRETE, [0, 0, 1, 1, NAN, NAN], missing=True)
    labels = np.array([0.0, 0, 1, 1, 9, 9])
    tree = train([numeric], labels, PLAIN.model_copy(update={"n_estimators": 1, "max_depth": 2})).trees[0]
    assert np.isclose(tree.threshold[0], np.finfo(np.float32).max)  # all present rows left, missing rows right
    assert not tree.default_left[0]
    assert tree.threshold[1] == 0.5
    assert not tree.default_left[1]
    categorical = column("c", Kind.CATEGORICAL, [0, 1, 2, 1], missing=True, levels=3)
    tree = train([categorical], np.array([0.0, 5, 0, 5]), PLAIN.model_copy(update={"n_estimators": 1})).trees[0]
    assert tree.categories[0].tolist() == [1]
    assert tree.default_left[0]


def test_a_cut_between_equal_values_is_never_chosen() -> None:
    columns, labels = table()
    good = columns[0]
    best = train([good], labels, parameters_from({"n_estimators": 1, "max_depth": 1})).trees[0]
    at = int(np.flatnonzero(good.cuts == best.threshold[0])[0])
    valid = good.valid.copy()
    valid[at] = False
    crippled = BinnedColumn(good.feature, good.plan, good.bins, good.cuts, valid)
    parameters = parameters_from({"n_estimators": 1, "max_depth": 1})
    assert train([crippled], labels, parameters).trees[0].threshold[0] != best.threshold[0]
    candidates, gains = all_gains([crippled], labels, parameters)
    assert np.all(gains[candidates.bin == at] == -np.inf)


def test_min_rows_per_leaf_counts_rows_on_both_sides() -> None:
    columns, labels = table()
    parameters = parameters_from({"min_rows_per_leaf": 20, "n_estimators": 3, "min_child_weight": 0, "subsample": 0.8})
    findings = audit(train(columns, labels, parameters), columns, labels, parameters)
    leaves = [at.rows for at in findings if not at.splits]
    assert min(leaves) >= 20
    without = parameters.model_copy(update={"min_rows_per_leaf": 0})
    assert min(at.rows for at in audit(train(columns, labels, without), columns, labels, without)) < 20


def test_gamma_and_the_least_gain_stop_splits() -> None:
    assert not is_worth(np.float32(1e-6), Parameters())
    assert is_worth(np.float32(2e-6), Parameters())
    half = parameters_from({"gamma": 0.1})
    assert is_worth(np.float32(0.1), half)
    assert not is_worth(np.nextafter(np.float32(0.1), np.float32(0)), half)
    columns, labels = table()
    tree = train(columns, labels, parameters_from({"gamma": 1e6, "n_estimators": 1})).trees[0]
    assert tree.n_nodes == 1


def test_leaf_weights_follow_the_formula() -> None:
    parameters = parameters_from({"eta": 0.5, "lambda": 1, "alpha": 2})
    assert leaf_weight(-10.0, 3.0, 12, parameters) == pytest.approx(0.5 * 8 / 4)
    assert leaf_weight(10.0, 3.0, 12, parameters) == pytest.approx(-0.5 * 8 / 4)
    assert leaf_weight(1.9, 3.0, 12, parameters) == 0
    assert leaf_weight(-10.0, 0.5, 12, parameters) == 0  # below min_child_weight
    enough = parameters.model_copy(update={"min_rows_per_leaf": 12})
    assert leaf_weight(-10.0, 3.0, 12, enough) == pytest.approx(0.5 * 8 / 4)
    assert leaf_weight(-10.0, 3.0, 11, enough) == 0
    clipped = parameters.model_copy(update={"max_delta_step": 0.6})
    assert leaf_weight(-10.0, 3.0, 12, clipped) == pytest.approx(0.5 * 0.6)
    # XGBoost: with max_delta_step alpha shapes the weight but not the gain.
    assert score(-10.0, 3.0, parameters) == pytest.approx(8**2 / 4)
    assert score(-10.0, 3.0, clipped) == pytest.approx(2 * 10 * 0.6 - 4 * 0.6**2)


def test_only_sampled_columns_are_split() -> None:
    columns, labels = table()
    parameters = parameters_from({"colsample_bytree": 0.75, "colsample_bynode": 0.5, "n_estimators": 4, "max_depth": 3})
    ensemble = train(columns, labels, parameters)
    seen = 0
    for number, tree in enumerate(ensemble.trees):
        position = {0: 0}
        for node in range(tree.n_nodes):
            if not tree.leaf[node]:
                level = int(tree.depths[node])
                assert sample_features(parameters, number, level, 4)[position[node], tree.feature[node]]
                position[int(tree.left[node])] = 2 * position[node]
                position[int(tree.right[node])] = 2 * position[node] + 1
                seen += 1
    assert seen > 8


def test_margins_and_predictions_agree() -> None:
    """What training adds up row by row is what the model predicts from the values."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(500, 2)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = NAN
    columns = [bin_column(Feature(name, Kind.CONTINUOUS, (), True), values[:, i], 32) for i, name in enumerate("ab")]
    labels = (np.nan_to_num(values.sum(axis=1)) > 0) * 1.0
    parameters = parameters_from({"n_estimators": 5, "max_depth": 3})
    ensemble = train(columns, labels, parameters)
    for number, leaf in enumerate(ensemble.leaf_index(values).T):
        counts = np.bincount(leaf, minlength=ensemble.trees[number].n_nodes)
        findings = [at for at in audit(ensemble, columns, labels, parameters) if at.tree == number]
        assert [counts[at.node] for at in findings if not at.splits] == [at.rows for at in findings if not at.splits]


def test_the_audit_agrees_with_the_oracle() -> None:
    columns, labels = table()
    for given in (
        {},
        {"subsample": 0.7, "colsample_bylevel": 0.6, "seed": 9},
        {"gamma": 1, "alpha": 0.5, "max_delta_step": 0.5, "min_child_weight": 5, "objective": "reg:squarederror"},
    ):
        parameters = parameters_from({"n_estimators": 4, "max_depth": 4, **given})
        findings = audit(train(columns, labels, parameters), columns, labels, parameters)
        for at in findings:
            assert at.splits == at.should_split
            if at.splits:
                assert at.chosen_gain == at.best_gain
                assert at.stated_weight is None
            else:
                assert at.chosen_gain == 0
                assert at.stated_weight == pytest.approx(at.exact_weight, rel=1e-6, abs=1e-9)
        assert sum(at.splits for at in findings) > 3


def replaced(ensemble: Ensemble, **changes: np.ndarray) -> Ensemble:
    tree = Tree(**{**vars(ensemble.trees[0]), **changes})
    return Ensemble(ensemble.features, ensemble.objective, ensemble.base_score, (tree, *ensemble.trees[1:]))


def test_the_audit_finds_what_is_wrong() -> None:
    columns, labels = table()
    parameters = parameters_from({"n_estimators": 1, "max_depth": 2, "gamma": 0.5})
    model = train(columns, labels, parameters)
    tree = model.trees[0]
    node = int(np.flatnonzero(~tree.leaf & ~tree.categories.given)[0])

    threshold = tree.threshold.copy()
    threshold[node] += np.float32(0.001)  # not a cut
    at = audit(replaced(model, threshold=threshold), columns, labels, parameters)[node]
    assert (at.chosen_gain, at.splits, at.should_split) == (-np.inf, True, True)

    leaf = np.zeros(1, dtype=np.int32)
    nothing = leaf * np.float32(0)
    stump = Tree(leaf - 1, leaf - 1, leaf, nothing, CategorySets.single([-1]), leaf > 0, nothing, nothing, nothing)
    unsplit = Ensemble(model.features, model.objective, model.base_score, (stump,))
    (at,) = audit(unsplit, columns, labels, parameters)
    assert (at.splits, at.should_split) == (False, True)
    assert at.best_gain > 0.5

    strict = parameters.model_copy(update={"gamma": 1e6})
    at = audit(model, columns, labels, strict)[0]
    assert (at.splits, at.should_split) == (True, False)
    assert at.chosen_gain == at.best_gain

    shallow = parameters.model_copy(update={"max_depth": 1})
    deep = [at for at in audit(model, columns, labels, shallow) if at.depth == 1 and at.splits]
    assert deep
    assert all(at.chosen_gain == -np.inf and not at.should_split for at in deep)


def test_the_hessian_tolerance_forgives_the_chosen_split_only() -> None:
    columns = [column("n", Kind.DISCRETE, [0, 1, 1, 1])]
    labels = np.array([5.0, 0, 0, 0])
    loose = PLAIN.model_copy(update={"n_estimators": 1, "min_child_weight": 1.0})
    model = train(columns, labels, loose)
    strict = loose.model_copy(update={"min_child_weight": 1.001})
    assert audit(model, columns, labels, strict)[0].chosen_gain == -np.inf
    forgiven = audit(model, columns, labels, strict, hessian_tolerance=0.01)[0]
    assert forgiven.chosen_gain > 0
    assert not forgiven.should_split
    assert audit(model, columns, labels, loose, hessian_tolerance=0.01)[0].best_gain == -np.inf


def test_tables_that_do_not_fit_are_refused() -> None:
    columns, labels = table()
    with pytest.raises(DataError, match="at least one feature"):
        train([], labels, Parameters())
    with pytest.raises(DataError, match="numbers of rows"):
        train(columns, labels[:-1], Parameters())
    model = train(columns, labels, parameters_from({"n_estimators": 1}))
    with pytest.raises(DataError, match="not those"):
        audit(model, columns[::-1], labels, Parameters())

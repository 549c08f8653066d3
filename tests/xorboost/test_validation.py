"""What is disclosed of the rows held back: averages over enough rows, rounded before anybody sees them."""

import numpy as np
import pytest
from tests.network import run, secret
from tests.training import EVERY_KIND, draw_table, train_on_shares

from veilboost.errors import InputError
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.splitting.metrics import LEAST_VALIDATION_ROWS, best_round
from veilboost.trees.parameters import Parameters, parameters_from
from veilboost.xorboost.objectives.base import Objective
from veilboost.xorboost.objectives.choose import objective_of
from veilboost.xorboost.validation import check_held_back, finish, metric_values

UNIT = 2.0**24


def objective_for(name: str, metric: str, bounds: tuple[float, float] | None = None) -> Objective:
    more = {"num_class": 3} if name == "multi:softprob" else {}
    given = {"objective": name, "early_stopping_rounds": 2, "eval_metric": metric} | more
    return objective_of(parameters_from(given), bounds, None)


@pytest.mark.parametrize(
    ("objective", "last_place"),
    [
        (objective_for("binary:logistic", "logloss"), 2.0**-13),
        (objective_for("binary:logistic", "error"), 2.0**-13),
        (objective_for("binary:logistic", "rmse"), 2.0**-20),
        (objective_for("multi:softprob", "mlogloss"), 2.0**-13),
        (objective_for("reg:squarederror", "rmse", (0.0, 8.0)), 4 * 2.0**-20),  # in units of half the range, squared
        (objective_for("count:poisson", "rmse", (0.0, 64.0)), 2.0**-20),
        (objective_for("count:poisson", "poisson-nloglik", (0.0, 64.0)), 2.0**-19),  # in units of 64
        (objective_for("count:poisson", "poisson-nloglik", (0.0, 1e6)), 2.0**-20),
    ],
)
def test_places_of_the_disclosed_average(objective: Objective, last_place: float) -> None:
    assert 2.0**-objective.metric_bits == last_place


@pytest.mark.parametrize("rows", [50, 77, 4096, 300_000, 3_000_000])
def test_averages_are_rounded(rows: int) -> None:
    objective = objective_for("binary:logistic", "logloss")
    averages = np.array([0.0, 2.0**-13, 0.123, 0.693147, 5.5, 15.0, 0.5 + 1e-6])
    sums = np.rint(averages * rows * UNIT).astype(np.int64)
    words = run(lambda s: finish(s, objective, secret(s, sums), None, rows))
    np.testing.assert_allclose(
        metric_values(objective, words.view(np.uint64), rows, weighted=False), averages, atol=2 * 2.0**-13
    )
    assert words.max() < 15 * 2**13 * 1.5  # nothing below the last place


def test_averages_far_from_any_label() -> None:
    objective = objective_for("reg:squarederror", "rmse", (-1.0, 1.0))
    rows, average = 50, 2.0**18
    words = run(lambda s: finish(s, objective, secret(s, [round(average * rows * UNIT)]), None, rows))
    (found,) = metric_values(objective, words.view(np.uint64), rows, weighted=False)
    assert found == pytest.approx(np.sqrt(average), rel=1e-6)


@pytest.mark.parametrize("metric", ["logloss", "rmse"])
def test_weighted_averages_are_rounded(metric: str) -> None:
    objective = objective_for("binary:logistic", metric)
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.1, 1, 80)
    averages = np.array([0.25, 0.123456])
    sums = np.rint(averages * weights.sum() * UNIT).astype(np.int64)

    def program(session: Session) -> Shared:
        held = secret(session, np.rint(weights * UNIT).astype(np.int64), 1)
        return finish(session, objective, secret(session, sums), held, 80)

    words = run(program)
    np.testing.assert_allclose(words / 2.0**objective.metric_bits, averages, atol=3 * 2.0**-objective.metric_bits)


def test_what_the_analyst_receives_does_not_tell_small_changes_of_a_sum() -> None:
    """A row's loss differs by less than the last place: the same few words come out."""
    objective, rows = objective_for("binary:logistic", "logloss"), 50
    seen: list[set[int]] = []
    for change in (0.0, 0.3 * rows * 2.0**-13):
        sums = np.full(200, round((0.4 * rows + change) * UNIT))
        seen.append(set(run(lambda s, sums=sums: finish(s, objective, secret(s, sums), None, rows)).tolist()))
    assert len(seen[0] | seen[1]) <= 3


@pytest.mark.parametrize(
    ("metric", "patience", "expected"),
    [([0.5, 0.4, 0.4, 0.4], 2, 1), ([0.5, 0.5, 0.5], 1, 0), ([0.5, 0.4, 0.4, 0.3], 2, 3), ([0.4, 0.5, 0.3], 1, 0)],
)
def test_of_equal_rounds_the_earliest_is_the_best(metric: list[float], patience: int, expected: int) -> None:
    assert best_round(metric, patience) == expected


def test_few_rows_held_back() -> None:
    parameters = Parameters(early_stopping_rounds=1, validation_fraction=0.5)
    check_held_back(parameters, 2 * LEAST_VALIDATION_ROWS)
    check_held_back(Parameters(), 20)
    with pytest.raises(InputError, match="would hold back 49 of 99 rows, and its metric needs at least 50"):
        check_held_back(parameters, 2 * LEAST_VALIDATION_ROWS - 1)


def test_training_itself_refuses_few_rows_held_back() -> None:
    """At all participants, whoever calls it."""
    table = draw_table(EVERY_KIND[:2], 60, 2, "binary:logistic", np.random.default_rng(0))
    with pytest.raises(InputError, match="would hold back 12 of 60 rows"):
        train_on_shares(table, Parameters(n_estimators=1, early_stopping_rounds=1), 2, analyst="owner0")

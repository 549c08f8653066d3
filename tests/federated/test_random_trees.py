"""Trees of random structure, and noise: the same tree everywhere, and as much noise as the plan says."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.federated.test_parity import draw, parameters_of, split_rows
from tests.federation import Trained, task_of, train_federated
from tests.training import EVERY_KIND

from veilboost.federated import protection
from veilboost.federated.keys import ClientRing
from veilboost.federated.privacy import Budget
from veilboost.federated.random_tree import random_tree
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.ring import Words

#: Without numeric columns there is no search for cuts.
FEW = (EVERY_KIND[4], EVERY_KIND[5], EVERY_KIND[6], EVERY_KIND[9])
OBJECTIVES = ("binary:logistic", "reg:squarederror", "multi:softprob", "count:poisson")


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Words]:
    """What the clients share, in the clear."""
    taken: list[Words] = []
    really = ClientRing.share

    def share(self: ClientRing, serial: int, question: bytes, words: Words) -> bytes:
        taken.append(words.copy())
        return really(self, serial, question, words)

    monkeypatch.setattr(ClientRing, "share", share)
    return taken


def train(
    objective: str, features: Any, rows: int = 90, epsilon: float | None = None, unit: Any = "row", **more: Any
) -> Trained:
    table = draw(objective, rows, 1, features)
    parameters = parameters_of(objective, **{"max_bin": 4, "max_depth": 3, **more})
    budget = None if epsilon is None else Budget(unit, epsilon, 1e-6)
    task = task_of(table.features, parameters, 3, label_range=table.label_range, leaf_sums=True, privacy=budget)
    return train_federated(task, split_rows(table, 3))


def check_same_trees(trained: Trained) -> None:
    forest, task = trained.forests[0], trained.task
    everybody = [*trained.forests, *(client.forest for client in trained.clients.values())]
    assert len({one.to_bytes() for one in everybody}) == 1
    for number, tree in enumerate(forest.trees):
        assert random_tree(task, forest, number).levels == tree.levels
        assert tree.weights is not None and any(tree.weights)
    shapes = {str(tree.levels) for tree in forest.trees}
    assert len(shapes) > 1


@pytest.mark.parametrize(
    "objective", [*OBJECTIVES[:2], *(pytest.param(one, marks=pytest.mark.slow) for one in OBJECTIVES[2:])]
)
def test_the_same_tree_at_all_participants(objective: str) -> None:
    check_same_trees(train(objective, FEW, n_estimators=3))


def test_the_same_tree_with_every_kind_of_column() -> None:
    check_same_trees(train("binary:logistic", EVERY_KIND, n_estimators=2, colsample_bynode=0.7, min_rows_per_leaf=3))


@pytest.mark.parametrize("unit", ["row", pytest.param("client", marks=pytest.mark.slow)])
def test_the_same_tree_with_noise(unit: str) -> None:
    pytest.importorskip("dp_accounting")
    check_same_trees(train("binary:logistic", FEW, 600, 8.0, unit, n_estimators=2))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_noise_with_cuts_and_base_score(objective: str) -> None:
    pytest.importorskip("dp_accounting")
    check_same_trees(train(objective, EVERY_KIND, 600, 8.0, n_estimators=2))


@pytest.mark.parametrize("objective", ["binary:logistic", pytest.param("reg:squarederror", marks=pytest.mark.slow)])
def test_weights_are_the_exact_ones(objective: str, updates: list[Words]) -> None:
    trained = train(objective, FEW, n_estimators=1, base_score=0.5, min_child_weight=0)
    exact = weights_of(trained, updates)
    stated = np.array(trained.forests[0].trees[0].weights) / 2.0**FRACTION_BITS
    assert np.abs(stated - exact[0]).max() < 1e-4
    assert np.ptp(exact[0]) > 0.01


def weights_of(trained: Trained, updates: list[Words]) -> tuple[Any, Any]:
    """Weights of the only tree from the sums without noise, and their standard deviations with it.

    To first order, which is enough where noise is small beside the sums of hessians.
    """
    task = trained.task
    sized = task.with_rows({name: client._rows for name, client in trained.clients.items()})
    scales, parameters = sized.scales, sized.parameters
    total = sum(words.view(np.int64) for words in updates[-3:]).reshape(task.vectors, -1)
    gradient, hessian = total[0] / 2.0**scales.gradient_bits, total[1] / 2.0**scales.hessian_bits
    below = hessian + parameters.reg_lambda
    spread = np.zeros(len(below))
    if sized.protection is not None:
        noise = sized.protection.plan.of("leaves")
        own = [
            2 * float(noise.variance(name)) / 4.0**bits  # two aggregators, all of it each
            for name, bits in (("gradient", scales.gradient_bits), ("hessian", scales.hessian_bits))
        ]
        spread = np.sqrt(own[0] / below**2 + own[1] * gradient**2 / below**4)
    rate = parameters.learning_rate
    return -rate * gradient / below, rate * spread


def deviations(updates: list[Words], epsilon: float | None, repeats: int) -> Any:
    """How far published weights are from the exact ones, in standard deviations; in weights where there is no noise."""
    found = []
    for _ in range(repeats):
        more: dict[str, Any] = {"n_estimators": 1, "base_score": 0.5, "min_child_weight": 0, "max_depth": 2}
        trained = train("binary:logistic", FEW, 3000, epsilon, **more)
        exact, spread = weights_of(trained, updates)
        stated = np.array(trained.forests[0].trees[0].weights) / 2.0**FRACTION_BITS
        found.append((stated - exact) / (1 if epsilon is None else spread))
    return np.array(found)


def test_published_weights_have_the_noise_of_the_plan(updates: list[Words], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dp_accounting")
    monkeypatch.setattr(protection, "plan_noise", cache(protection.plan_noise))  # the same plan every time
    noisy = deviations(updates, 3.0, 28)
    count = noisy.size
    low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], count)
    assert low < (noisy**2).sum() < high
    assert len(np.unique(noisy, axis=0)) == len(noisy)  # drawn anew every time
    assert not low < (noisy**2).sum() / 4 < high  # half the noise would be noticed


def test_without_a_budget_there_is_no_noise(updates: list[Words]) -> None:
    plain = deviations(updates, None, 2)
    assert np.abs(plain).max() < 1e-4
    assert np.array_equal(plain[0], plain[1])


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_a_smaller_budget_has_more_noise(epsilon: float, updates: list[Words]) -> None:
    pytest.importorskip("dp_accounting")
    spreads = []
    for one in (epsilon, 4 * epsilon):
        trained = train("binary:logistic", FEW, 3000, one, n_estimators=1, base_score=0.5, reg_lambda=1e4)
        spreads.append(weights_of(trained, updates)[1])
    assert (spreads[0] > 2 * spreads[1]).all()

"""Plans: the promised epsilon is kept, nearly used up, and confirmed by formulas that are not the accountant's."""

import sys
from dataclasses import replace
from fractions import Fraction
from math import exp, pi, sqrt

import numpy as np
import pytest
from scipy import stats

from veilboost.errors import InputError, JobError
from veilboost.federated.discrete_gaussian import sample
from veilboost.federated.privacy import DISCRETE, PARTS, Budget, NoisePlan, composed_epsilon, plan_noise
from veilboost.federated.questions import Shape, row_bounds
from veilboost.mpc.prg import Stream
from veilboost.trees.parameters import Parameters, parameters_from

SHAPE = Shape("leaf_sums", 100, 1, 5, 40, 7, 3, 32)
BOUNDS = row_bounds(Parameters(), 16, 16)


@pytest.fixture(autouse=True)
def _accountant(request: pytest.FixtureRequest) -> None:
    if "without_accountant" not in request.node.name:
        pytest.importorskip("dp_accounting", reason="dp-accounting comes with the federated extra")


def delta_of(epsilon: float, mean: float) -> float:
    """Delta of one Gaussian mechanism of sensitivity / sigma = mean: Balle, Wang, ICML 2018, Theorem 8."""
    return float(stats.norm.cdf(mean / 2 - epsilon / mean) - exp(epsilon) * stats.norm.cdf(-mean / 2 - epsilon / mean))


def mean_of(plan: NoisePlan) -> float:
    """Of the Gaussian mechanism that all questions together are, from the variances that are drawn.

    Squares of distances, in multiples of sigma, add up over components and questions.
    """
    total = Fraction(0)
    for noise in plan.noises:
        asked = noise.sensitivity
        # The worst neighbours' squared distance is at most D^2, whatever component it is in.
        least = min(
            (variance - DISCRETE) / part.unit_squared
            for variance, part in zip(noise.variances, asked.components, strict=True)
        )
        total += asked.times * asked.squared / least
    return sqrt(total)


@pytest.mark.parametrize("mode", ["leaf_sums", "histograms"])
@pytest.mark.parametrize(("unit", "clip_rows"), [("row", None), ("client", 50)])
@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.05, 1e-6), (1.0, 1e-7), (1.0, 1e-12), (3.0, 1e-5), (20.0, 1e-6), (5.0, 0.01)]
)
def test_budget_is_kept_and_used(epsilon: float, delta: float, unit: str, clip_rows: int | None, mode: str) -> None:
    budget = Budget(unit, epsilon, delta, clip_rows)  # type: ignore[arg-type]
    plan = plan_noise(budget, replace(SHAPE, mode=mode, rounds=20), BOUNDS)
    assert 0.999 * epsilon < plan.epsilon <= epsilon
    assert delta_of(epsilon, mean_of(plan)) <= delta
    assert delta_of(epsilon * 0.995, mean_of(plan)) > delta  # no more noise than it takes


def test_formula_notices_too_little_noise() -> None:
    plan = plan_noise(Budget("row", 1.0, 1e-6), SHAPE, BOUNDS)
    assert delta_of(1.0, mean_of(plan) * 1.001) > 1e-6
    events = [(noise.multiplier * 0.999, noise.sensitivity.times) for noise in plan.noises]
    assert composed_epsilon(events, 1e-6) > 1.0


def test_parts_of_the_budget() -> None:
    plan = plan_noise(Budget("row", 1.0, 1e-6), SHAPE, BOUNDS)
    costs = {noise.sensitivity.kind: noise.sensitivity.times / noise.multiplier**2 for noise in plan.noises}
    whole = sum(costs.values())
    assert set(costs) == {"edges", "present", "labels", "leaves"}
    assert all(abs(cost / whole - PARTS[kind]) < 1e-9 for kind, cost in costs.items())
    fewer = plan_noise(Budget("row", 1.0, 1e-6), replace(SHAPE, searched=0, counted=0, asks_labels=False), BOUNDS)
    (leaves,) = fewer.noises
    assert leaves.sensitivity.times / leaves.multiplier**2 == pytest.approx(whole, rel=1e-3)


def test_more_questions_and_smaller_epsilons_take_more_noise() -> None:
    def sigma(epsilon: float, shape: Shape) -> float:
        return sqrt(plan_noise(Budget("row", epsilon, 1e-6), shape, BOUNDS).of("leaves").variance("gradient"))

    base = sigma(1.0, SHAPE)
    assert sigma(0.5, SHAPE) > 1.9 * base
    assert sigma(1.0, replace(SHAPE, rounds=400)) == pytest.approx(2 * base, rel=1e-6)
    # Seven classes cost twice as much as two, in squares 8 instead of 4, not seven times.
    seven = row_bounds(parameters_from({"objective": "multi:softprob", "num_class": 7}), 16, 16)
    classes = plan_noise(Budget("row", 1.0, 1e-6), replace(SHAPE, classes=7), seven).of("leaves").variance("gradient")
    assert sqrt(classes) == pytest.approx(sqrt(2) * base, rel=1e-3)


def test_known_noise() -> None:
    """epsilon = 1 at delta = 1e-6 takes one question a multiplier of 4.2; D^2 is 4.25 for logistic loss."""
    shape = replace(SHAPE, rounds=1, searched=0, counted=0, asks_labels=False)
    noise = plan_noise(Budget("row", 1.0, 1e-6), shape, BOUNDS).of("leaves")
    assert delta_of(1.0, 1 / noise.multiplier) == pytest.approx(1e-6, rel=1e-4)
    assert sqrt(noise.variance("gradient")) == pytest.approx(noise.multiplier * sqrt(4.25) * 2**16, rel=1e-6)
    assert sqrt(noise.variance("hessian")) == pytest.approx(noise.multiplier * sqrt(4.25) * 2**15, rel=1e-6)


def test_every_variance_is_nine_more_than_is_accounted_for() -> None:
    plan = plan_noise(Budget("row", 20.0, 0.01), replace(SHAPE, rounds=1, searched=1, bins=2, steps=1), BOUNDS)
    for noise in plan.noises:
        for variance, part in zip(noise.variances, noise.sensitivity.components, strict=True):
            needed = Fraction(noise.multiplier) ** 2 * noise.sensitivity.squared * part.unit_squared
            assert 9 <= variance - needed < 10


@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.5])
def test_sums_over_the_integers_hardly_depend_on_the_place(place: float) -> None:
    """The step from continuous to discrete noise; with a variance of 9 the difference is below any float64."""

    def excess(variance: float) -> float:
        whole = sum(exp(-((x - place) ** 2) / (2 * variance)) for x in range(-60, 61))
        return abs(whole / sqrt(2 * pi * variance) - 1)

    assert excess(DISCRETE) < 1e-14
    assert excess(0.25) > 1e-3 or place == 0.25  # control: a narrower law feels the place
    assert 2 * exp(-2 * pi**2 * DISCRETE) < 1e-76


def test_discrete_noise_is_as_private_as_what_is_accounted_for() -> None:
    """Delta of the discrete Gaussian itself, summed over the integers, at several epsilons."""
    for variance in (13, 25, 100):
        for shift in (1, 2, 5):
            values = np.arange(-400, 401)
            weights = np.exp(-(values**2) / (2 * variance))
            moved = np.exp(-((values - shift) ** 2) / (2 * variance))
            for epsilon in (0.1, 0.5, 1.0, 2.0):
                delta = float(np.maximum(moved - exp(epsilon) * weights, 0).sum() / weights.sum())
                assert delta <= delta_of(epsilon, shift / sqrt(variance - DISCRETE))


def told_apart(samples: np.ndarray, shift: int, epsilon: float) -> float:
    """Estimate of delta from samples: the best of all events "above a threshold"."""
    thresholds = np.sort(samples)[:: len(samples) // 200]
    ordered = np.sort(samples)
    above = 1 - np.searchsorted(ordered, thresholds, side="right") / len(samples)
    moved = 1 - np.searchsorted(ordered + shift, thresholds, side="right") / len(samples)
    return float((moved - exp(epsilon) * above).max())


def test_samples_keep_the_budget() -> None:
    """Noise as planned, as drawn: answers of neighbours can be told apart as far as delta allows, and no further."""
    shape = replace(SHAPE, searched=1, counted=0, bins=2, steps=1, asks_labels=False)
    noise = plan_noise(Budget("row", 1.0, 0.01), shape, BOUNDS).of("edges")
    scale = 1000  # one count is 1000 units, so that rounding does not blur the comparison
    variance = Fraction(noise.multiplier) ** 2 * scale**2
    samples = sample(variance, 400_000, Stream(bytes(32), 1))
    mean = 1 / noise.multiplier
    tolerance = 5 / sqrt(400_000)
    for at in (0.0, 0.05):
        assert told_apart(samples, scale, at) <= delta_of(at, mean) + tolerance
        assert told_apart(samples, 2 * scale, at) > delta_of(at, mean) + tolerance  # control: two rows


def test_largest_noise() -> None:
    noise = plan_noise(Budget("row", 1.0, 1e-6), SHAPE, BOUNDS).of("leaves")
    largest = noise.largest("gradient", 32, 2)
    sigma = sqrt(2 * noise.variance("gradient"))
    assert 7 * sigma < largest < 9 * sigma
    samples = sum(sample(noise.variance("gradient"), 100_000, Stream(bytes(32), number)) for number in (2, 3))
    assert 3 * sigma < np.abs(samples).max() < largest
    with pytest.raises(KeyError):
        noise.variance("rows")


@pytest.mark.parametrize("mode", ["leaf_sums", "histograms"])
def test_steady_lambda_outweighs_the_noise(mode: str) -> None:
    plan = plan_noise(Budget("row", 1.0, 1e-6), replace(SHAPE, mode=mode), BOUNDS)
    noise = plan.noises[-1]
    gradient, hessian = (
        sum(sample(noise.variance(name), 10_000, Stream(bytes(32), number)) for number in numbers) / 2**16
        for name, numbers in (("gradient", (4, 5)), ("hessian", (6, 7)))
    )
    weights = np.abs(gradient / (np.maximum(hessian, 0) + plan.steady_lambda(2, 16)))
    assert np.quantile(weights, 0.9) < 1
    assert np.quantile(np.abs(gradient / (np.maximum(hessian, 0) + 1)), 0.9) > 10  # with XGBoost's default


def test_statement() -> None:
    plan = plan_noise(Budget("row", 1.0, 1e-6), replace(SHAPE, counts_rows=True), BOUNDS)
    first, second, *kinds = plan.statement.splitlines()
    assert "one row of one client" in first
    assert "same numbers of rows" in first
    assert "delta = 1e-06" in second
    assert f"epsilon = {plan.epsilon:.6g}" in second
    assert [line.partition(":")[0] for line in kinds] == ["edges", "present", "labels", "leaves"]
    assert f"gradient {sqrt(plan.of('leaves').variance('gradient')):.6g}" in kinds[-1]
    assert "asked 32 times" in kinds[0]
    client = plan_noise(Budget("client", 1.0, 1e-6, 30), SHAPE, BOUNDS).statement
    assert "the whole table of one client" in client
    assert "clipped to the norms gradient 1966080, hessian 491520" in client


@pytest.mark.parametrize(
    ("epsilon", "delta", "name"),
    [(0.0, 1e-6, "epsilon"), (-1.0, 1e-6, "epsilon"), (float("nan"), 1e-6, "epsilon"), (1.0, 0.0, "delta"),
     (1.0, 0.5, "delta"), (21.0, 1e-6, "epsilon")],
)  # fmt: skip
def test_budgets_out_of_range_without_accountant(epsilon: float, delta: float, name: str) -> None:
    with pytest.raises(JobError, match=f"privacy: {name} = .* give a number from"):
        Budget("row", epsilon, delta)


def test_too_much_noise_for_fixed_point() -> None:
    bounds = row_bounds(Parameters(), 40, 40)
    with pytest.raises(InputError, match=r"noise of 'leaves' has sigma = 2\^.*give a larger epsilon"):
        plan_noise(Budget("row", 0.01, 1e-12), SHAPE, bounds)


def test_a_missing_package_without_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError) as caught:
        plan_noise(Budget("row", 1.0, 1e-6), SHAPE, BOUNDS)
    assert "pip install 'veilboost[federated]'" in str(caught.value)
    assert "\n" not in str(caught.value)

"""Scores of candidates rank as XGBoost's gain does; weights and scores of sides are XGBoost's."""

from dataclasses import dataclass

import numpy as np
import pytest
from tests.network import run, secret

from veilboost.mpc.session import Session
from veilboost.splitting.gain import absolute, at_least, rank, side_scores
from veilboost.splitting.scales import WEIGHT_BITS, Scales, choose_scales
from veilboost.trees.exact_splits import score
from veilboost.trees.parameters import Parameters

Float64 = np.ndarray


@dataclass(frozen=True)
class Nodes:
    """Random nodes in fixed point: sums of left sides, shape (nodes, candidates), and of nodes, shape (nodes,)."""

    gradient: np.ndarray
    hessian: np.ndarray
    node_gradient: np.ndarray
    node_hessian: np.ndarray
    scales: Scales

    def real(self) -> tuple[Float64, Float64, Float64, Float64]:
        g, h = 2.0**self.scales.gradient_bits, 2.0**self.scales.hessian_bits
        return self.gradient / g, self.hessian / h, self.node_gradient[:, None] / g, self.node_hessian[:, None] / h


def draw_nodes(nodes: int, objective: str, reg_lambda: float, seed: int, features: int = 6, bins: int = 12) -> Nodes:
    """Nodes of 200 to 100,000 rows, log-uniform, with weak and strong effects; features share the nodes' rows."""
    rng = np.random.default_rng(seed)
    most = 100_000
    logistic = objective == "binary:logistic"
    scales = choose_scales(most, 1.0 if logistic else 2.0, 0.25 if logistic else 1.0, reg_lambda)
    rows = np.exp(rng.uniform(np.log(200), np.log(most), nodes)).astype(np.int64)
    shares = rng.dirichlet(np.full(bins, 0.7), (nodes, features))
    counts = np.stack(
        [[rng.multinomial(n, share) for share in per_node] for n, per_node in zip(rows, shares, strict=True)]
    )
    effect = rng.normal(size=counts.shape) * 10.0 ** rng.uniform(-3, 0, (nodes, 1, 1))
    if logistic:
        p = rng.uniform(0.02, 0.98, (nodes, 1, 1))
        positive = rng.binomial(counts, np.clip(p + effect * p * (1 - p), 0, 1))
        gradient, hessian = counts * p - positive, counts * p * (1 - p)
    else:
        gradient, hessian = counts * effect.clip(-1, 1) + rng.normal(size=counts.shape) * np.sqrt(counts), counts * 1.0
    gradient = np.rint(gradient * 2**scales.gradient_bits).astype(np.int64)
    noise = np.rint(rng.normal(size=counts.shape) * np.sqrt(counts / 6)).astype(np.int64) if logistic else 0
    hessian = np.rint(hessian * 2**scales.hessian_bits).astype(np.int64) + noise
    # All features must sum up to the same node: every row makes up an equal part of the difference.
    for sums in (gradient, hessian):
        difference = sums[:, :1].sum(axis=2) - sums.sum(axis=2)
        sums += np.rint(difference[:, :, None] * counts / rows[:, None, None]).astype(np.int64)
        sums[:, :, -1] += sums[:, :1].sum(axis=2) - sums.sum(axis=2)
    left = np.stack([gradient, hessian]).cumsum(axis=3)[..., :-1].reshape(2, nodes, -1)
    return Nodes(left[0], left[1], gradient[:, 0].sum(axis=1), hessian[:, 0].sum(axis=1), scales)


def ranked(nodes: Nodes, parameters: Parameters, handicapped: np.ndarray | None = None) -> np.ndarray:
    passive = np.zeros(nodes.gradient.shape[1], dtype=np.bool_) if handicapped is None else handicapped

    def program(session: Session) -> object:
        sums = [secret(session, a) for a in (nodes.gradient, nodes.hessian, nodes.node_gradient, nodes.node_hessian)]
        return rank(session, *sums, passive, parameters, nodes.scales)

    return run(program)


def exact_gains(nodes: Nodes, parameters: Parameters, least_hessian: float = 1.0) -> np.ndarray:
    """XGBoost's gains, -inf where a side has less than the least hessian."""
    g, h, node_g, node_h = nodes.real()
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = score(g, h, parameters) + score(node_g - g, node_h - h, parameters) - score(node_g, node_h, parameters)
    return np.where((h >= least_hessian) & (node_h - h >= least_hessian), gains, -np.inf)


def shortfalls(nodes: Nodes, parameters: Parameters) -> np.ndarray:
    """By which part of the best gain the chosen candidate of each node misses it."""
    gains = exact_gains(nodes, parameters)
    scores = np.where(np.isfinite(gains), ranked(nodes, parameters).astype(np.float64), -1)
    rows = np.arange(len(gains))
    best, chosen = gains.max(axis=1), gains[rows, scores.argmax(axis=1)]
    worth = best > 1e-3
    assert worth.mean() > 0.8
    return 1 - chosen[worth] / best[worth]


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
@pytest.mark.parametrize("reg_lambda", [0.0, 1.0, 10.0])
def test_the_best_candidate_of_random_nodes_is_chosen(objective: str, reg_lambda: float) -> None:
    """Over 9,600 such nodes of 372 candidates, one was not XGBoost's choice, and missed its gain by 1.2e-5."""
    parameters = Parameters(objective=objective, reg_lambda=reg_lambda)
    missed = shortfalls(draw_nodes(400, objective, reg_lambda, int(reg_lambda), features=12, bins=32), parameters)
    assert (missed > 0).mean() < 0.01
    assert missed.max() < 1e-3


@pytest.mark.parametrize(
    "changed", [{"reg_alpha": 3.0}, {"max_delta_step": 0.3}, {"reg_alpha": 1.0, "max_delta_step": 0.1}]
)
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_the_best_candidate_with_clipped_weights(objective: str, changed: dict[str, float]) -> None:
    parameters = Parameters(objective=objective, **changed)
    missed = shortfalls(draw_nodes(300, objective, 1.0, seed=9), parameters)
    assert (missed > 1e-3).mean() < 5e-3


def test_the_less_preferred_direction_wins_only_if_it_is_better() -> None:
    """A candidate twice: the second, handicapped, loses; one whose gradient is larger by two per mille wins."""
    nodes = draw_nodes(200, "binary:logistic", 1.0, seed=11)
    better = nodes.gradient + nodes.gradient // 500
    for second, wins in ((nodes.gradient, False), (better, True)):
        doubled = Nodes(
            np.concatenate([nodes.gradient, second], axis=1),
            np.concatenate([nodes.hessian, nodes.hessian], axis=1),
            np.zeros_like(nodes.node_gradient),
            nodes.node_hessian,
            nodes.scales,
        )
        count = nodes.gradient.shape[1]
        for parameters in (Parameters(), Parameters(reg_alpha=1e-6)):
            scores = ranked(doubled, parameters, np.arange(2 * count) >= count)
            clear = np.isfinite(exact_gains(nodes, parameters)) & (np.abs(nodes.gradient) > 2**17)
            assert clear.sum() > 1000
            assert ((scores[:, count:] > scores[:, :count])[clear] == wins).all()


@pytest.mark.parametrize("reg_alpha", [0.0, 2.0])
@pytest.mark.parametrize("max_delta_step", [0.0, 0.25])
def test_sides(reg_alpha: float, max_delta_step: float) -> None:
    parameters = Parameters(reg_alpha=reg_alpha, max_delta_step=max_delta_step)
    nodes = draw_nodes(60, "binary:logistic", 1.0, seed=5)
    scales = nodes.scales
    weight, saved = run(
        lambda s: side_scores(s, secret(s, nodes.gradient), secret(s, nodes.hessian), parameters, scales), 3
    )
    g, h, _, _ = nodes.real()
    exact = np.sign(g) * np.maximum(np.abs(g) - reg_alpha, 0) / (h + 1)
    if max_delta_step:
        exact = exact.clip(-max_delta_step, max_delta_step)
    enough = h > 0.5
    assert np.abs(weight / 2.0**WEIGHT_BITS - exact)[enough].max() < 1e-6 * max(1, np.abs(exact[enough]).max())
    wanted = score(g, h, parameters)
    error = np.abs(saved / 2.0 ** (scales.gradient_bits + WEIGHT_BITS) - wanted)
    assert (error <= 1e-5 * np.abs(g * exact) + 1e-4)[enough].all()


def test_absolute_and_at_least() -> None:
    values = np.array([[0, 1, -1, 2**61], [-(2**61), 5, -5, 7]])

    def program(session: Session) -> object:
        x = secret(session, values)
        return absolute(session, x), at_least(session, (x, 5), (x, -1), (x, 1 << 61))

    magnitude, planes = run(program, 3)
    assert np.array_equal(magnitude, np.abs(values))
    for plane, bound in zip(planes, (5, -1, 1 << 61), strict=True):
        assert np.array_equal(plane, values.ravel() >= bound)

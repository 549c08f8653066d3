"""The ranking where its fixed point is tried hardest.

f = (D / S)^2 / p is what candidates of a node rank by. docs/protocols/split-search.md states how far off it may be:
D / S by one unit of the gradient and what the error of u makes of the node's, p by 27 units of 2^-32 and twice the
error of u.
"""

import numpy as np
import pytest
from tests.network import run, secret, secret_bits
from tests.splitting.nodes import Float64, Ints, Nodes, choose

from veilboost.mpc.session import Session
from veilboost.mpc.shares import stack
from veilboost.splitting.gain import rank
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.splitting.search import open_root
from veilboost.trees.parameters import Parameters

MOST = int(0.98 * 2**30)
#: A million rows: few bits for gradients and hessians.
MILLION = choose_scales(10**6, 1.0, 0.25, 1.0)
MILLION_SQUARED = choose_scales(10**6, 2.0, 1.0, 0.0, exact_hessians=True)


def magnitudes(rng: np.random.Generator, size: int, most: int = MOST) -> Ints:
    """Whole numbers from 1 on, uniform on a logarithmic scale."""
    return np.exp(rng.uniform(0, np.log(most), size)).astype(np.int64).clip(1, most)


def u_of(nodes: Nodes, reg_lambda: float) -> tuple[Float64, Float64]:
    """a / S and b / S."""
    lam = nodes.scales.hessian(reg_lambda)
    total = (nodes.node_hessian + 2 * lam).astype(float)[:, None]
    left, right = nodes.hessian + lam, nodes.node_hessian[:, None] - nodes.hessian + lam
    return left / total, right / total


def difference(nodes: Nodes, reg_lambda: float) -> Float64:
    """D / S in units of the gradient."""
    left, right = u_of(nodes, reg_lambda)
    of_right = nodes.node_gradient[:, None] - nodes.gradient
    return np.asarray(nodes.gradient * right - of_right * left)


def bounds(nodes: Nodes, reg_lambda: float) -> tuple[tuple[Float64, Float64], tuple[Float64, Float64]]:
    """Least and largest (D / S)^2 that the ranking may compute, and p in units of 2^-32."""
    left, right = u_of(nodes, reg_lambda)
    off = 12 * left + 1  # of u, in units of 2^-31
    size = np.abs(difference(nodes, reg_lambda))
    slack = 1 + np.abs(nodes.node_gradient)[:, None] * off / 2.0**31
    spread = left * right * 2.0**32
    numerators = np.maximum(size - slack, 0) ** 2, (size + slack) ** 2
    return numerators, (np.maximum(spread + 26 - 1 - 2 * off, 0), spread + 26 + 1 + 2 * off)


def pairs_of_candidates(rng: np.random.Generator, size: int, lam: int) -> Nodes:
    """Nodes of any size with two candidates, often hard to tell apart; sides down to one unit of hessian."""
    scales = Scales(10, 12)
    hessian = np.maximum(magnitudes(rng, size, MOST - 2 * lam), 2)
    hessian[::3] = MOST - 2 * lam
    small = magnitudes(rng, 2 * size, MOST).reshape(size, 2)
    small = np.minimum(small, hessian[:, None] - 1)
    left = np.where(rng.random((size, 2)) < 0.5, small, hessian[:, None] - small)
    share = (left + lam) / (hessian + 2 * lam)[:, None]
    node = magnitudes(rng, size) * rng.choice([-1, 1], size)
    node[::4] = rng.integers(-3, 4, len(node[::4]))
    step = magnitudes(rng, size) * rng.choice([-1, 1], size)
    # The second candidate's f is the first one's, times something near 1.
    near = 1 + rng.choice([-1, 1], size) * 10.0 ** rng.uniform(-5, 0, size)
    spread = np.sqrt(share * (1 - share))
    steps = np.stack([step, step * near * spread[:, 1] / spread[:, 0]], axis=1).clip(-MOST, MOST)
    gradient = np.rint(node[:, None] * share + steps)
    gradient = np.clip(gradient, np.maximum(-MOST, node[:, None] - MOST), np.minimum(MOST, node[:, None] + MOST))
    return Nodes(gradient.astype(np.int64), left, node, hessian, scales)


@pytest.mark.parametrize("reg_lambda", [0.0, 1.0])
def test_what_ranks_first_is_first_within_the_stated_errors(reg_lambda: float) -> None:
    """Sides of one unit of hessian, tiny and huge differences, sums from one unit to the largest."""
    parameters = Parameters(reg_lambda=reg_lambda, min_child_weight=0.0)
    nodes = pairs_of_candidates(np.random.default_rng(3), 60_000, Scales(10, 12).hessian(reg_lambda))
    place, certified = choose(nodes, parameters, np.ones(nodes.gradient.shape, dtype=bool))
    (low, high), (least, most) = bounds(nodes, reg_lambda)
    rows, other = np.arange(len(nodes)), 1 - place
    behind = low[rows, other] * least[rows, place] - high[rows, place] * most[rows, other]
    assert (behind < 2.0**28).all()
    # Without errors this would be too easy or impossible: many pairs are close, and some are chosen wrongly.
    f = difference(nodes, reg_lambda) ** 2 / np.prod(u_of(nodes, reg_lambda), axis=0)
    missed = 1 - f[rows, place] / f.max(axis=1)
    assert 0.001 < (missed > 0).mean() < 0.3
    # Where a difference is many units and no side is a tiny part, little is missed.
    clear = (np.abs(difference(nodes, reg_lambda)) >= 2**15).all(axis=1) & (least >= 2**18).all(axis=1)
    assert clear.mean() > 0.1
    assert missed[clear].max() < 1e-3
    assert certified[low[rows, place] > 0].all()


def spreads(nodes: Nodes, parameters: Parameters) -> tuple[Ints, Ints]:
    """What `rank` returns: D / S and p."""

    def program(session: Session) -> object:
        sums = stack([secret(session, nodes.node_gradient), secret(session, nodes.node_hessian)])
        alive = secret_bits(session, np.ones(len(nodes)))
        standing = open_root(session, sums, alive, parameters, nodes.scales)
        left = secret(session, nodes.gradient), secret(session, nodes.hessian)
        return rank(session, *left, standing, parameters, nodes.scales).scores

    ranked = run(program)
    return ranked[0], ranked[1]


def test_no_denominator_is_zero_or_negative_or_too_large() -> None:
    """p of sides of nothing and of a few units, next to the largest sums, and of two equal sides."""
    rng = np.random.default_rng(4)
    hessian = np.concatenate([rng.integers(2**29, MOST, 3000), np.full(50, MOST), rng.integers(1, 50, 50)])
    sides = np.array([0, 1, 2, 3, 5])
    left = np.concatenate([sides + 0 * hessian[:, None], hessian[:, None] - sides, hessian[:, None] // 2], axis=1)
    left = np.clip(left, 0, hessian[:, None])
    nodes = Nodes(rng.integers(-1000, 1000, left.shape), left, np.full(len(hessian), 2**29), hessian, Scales(9, 10))
    parameters = Parameters(reg_lambda=0.0, min_child_weight=0.0)
    _, p = spreads(nodes, parameters)
    assert (p > 0).all()
    assert (p <= 2**30 + 64).all()
    _, (least, most) = bounds(nodes, 0.0)
    assert (p >= least).all() and (p <= most).all()


@pytest.mark.parametrize("position", [0, 1, 20, 23, 24, 99, 150])
@pytest.mark.parametrize("side", [1, 2, 1024, 2**20, MOST // 2])
def test_a_valid_candidate_beats_invalid_ones_before_and_after(side: int, position: int) -> None:
    """From a difference of two units of the gradient on, whatever the invalid ones' sums are."""
    rng = np.random.default_rng(position)
    sizes = np.array([2, 3, 5, 40, 1000, -2, -7, -(2**20)])
    hessian = rng.integers(1, MOST, (len(sizes), 151))
    gradient = rng.integers(-(2**29), 2**29, hessian.shape)
    hessian[:, position], gradient[:, position] = side, sizes
    nodes = Nodes(gradient, hessian, np.zeros(len(sizes), np.int64), np.full(len(sizes), MOST), MILLION)
    valid = np.zeros(hessian.shape, dtype=bool)
    valid[:, position] = True
    for parameters in (Parameters(reg_lambda=0.0, min_child_weight=0.0), Parameters(min_child_weight=0.0)):
        place, certified = choose(nodes, parameters, valid)
        assert (place == position).all() and certified.all()
    # Nobody is valid, or nobody gains anything: then nobody's score says so, wherever the winner stands.
    assert not choose(nodes, Parameters(), np.zeros(hessian.shape, dtype=bool))[1].any()


def test_no_difference_at_all_gives_no_valid_score() -> None:
    """D = 0 for every candidate, valid or not; the rounding of D / S makes at most one unit of it."""
    hessian = np.tile(np.arange(1, 31) * 2**20, (40, 1))
    node = np.full(40, 31 * 2**20)
    nodes = Nodes(np.zeros_like(hessian), hessian, 0 * node, node, MILLION)
    for parameters in (Parameters(), Parameters(reg_lambda=0.0)):
        place, certified = choose(nodes, parameters, np.ones(hessian.shape, dtype=bool))
        assert not certified.any()
        assert (place == 0).all()
    # The same, but gradients that are proportional to hessians: one unit is possible, an invalid winner is not.
    share = Nodes(hessian // 2**10, hessian, node // 2**10, node, MILLION)
    difference_found, _ = spreads(share, Parameters(reg_lambda=0.0))
    assert np.abs(difference_found).max() <= 1


#: Nodes of a million rows: (objective, lambda, part of the rows on the smaller side, largest gradient of a row).
TABLES = [
    ("binary:logistic", 1.0, MILLION, 0.25, 1.0),
    ("reg:squarederror", 0.0, MILLION_SQUARED, 1.0, 2.0),
]


@pytest.mark.parametrize(("objective", "reg_lambda", "scales", "row", "largest"), TABLES)
def test_few_rows_of_a_million_against_half_of_them(
    objective: str, reg_lambda: float, scales: Scales, row: float, largest: float
) -> None:
    """A hundred rows that stand out, and a cut in the middle whose gain is a little lower or higher."""
    rng = np.random.default_rng(5)
    size, rows = 3000, 10**6
    parameters = Parameters(objective=objective, reg_lambda=reg_lambda)
    node = np.full(size, rows * row)
    gradient = rng.normal(size=size) * 300
    few = np.full(size, 100 * row), rng.uniform(40, 100, size) * largest * rng.choice([-1, 1], size)
    half = np.full(size, rows * row / 2)
    total = node + 2 * reg_lambda
    share = (few[0] + reg_lambda) / total
    wanted = (few[1] - gradient * share) ** 2 / (share * (1 - share))
    ratio = 1 + rng.choice([-1, 1], size) * 10.0 ** rng.uniform(-4, -1, size)
    middle = gradient / 2 + np.sqrt(wanted * ratio / 4)
    nodes = Nodes.of(np.stack([few[1], middle], axis=1), np.stack([few[0], half], axis=1), gradient, node, scales)
    place, certified = choose(nodes, parameters, nodes.enough(scales.least_hessian(1.0)))
    gains = nodes.gains(parameters)
    assert certified.all()
    assert (1 - gains[np.arange(size), place] / gains.max(axis=1)).max() < 1e-3
    assert 0.3 < place.mean() < 0.7


@pytest.mark.parametrize("groups", [3, 24, 120])
def test_a_good_split_is_found_among_many_of_hardly_any_effect(groups: int) -> None:
    """Columns of which two rows of a million stand out, say, do not get in the way of one that is worth a split."""
    rng = np.random.default_rng(groups)
    size = 40
    hessian = np.full((size, groups + 1), 2.0)
    gradient = rng.uniform(0.001, 0.3, hessian.shape) * rng.choice([-1, 1], hessian.shape)
    hessian[:, groups], gradient[:, groups] = 500_000, 2000.0
    nodes = Nodes.of(gradient, hessian, np.zeros(size), np.full(size, 1e6), MILLION_SQUARED)
    parameters = Parameters(objective="reg:squarederror", reg_lambda=0.0)
    for order in (slice(None), slice(None, None, -1)):
        turned = Nodes(nodes.gradient[:, order], nodes.hessian[:, order], *_sums(nodes), nodes.scales)
        place, certified = choose(turned, parameters, np.ones(hessian.shape, dtype=bool))
        assert certified.all()
        assert (place == (groups if order.step is None else 0)).all()


@pytest.mark.parametrize("count", [25, 26, 49, 97, 193, 385, 601])
def test_the_last_of_many_may_be_the_best(count: int) -> None:
    """Groups that are filled up with copies of the last candidate; and the first may be the best, too."""
    rng = np.random.default_rng(count)
    hessian = rng.uniform(0.2, 0.8, (7, count)) * 1e5
    gradient = rng.normal(size=(7, count)) * 30
    for best in (count - 1, 0):
        gradient[:, best] = 300 * rng.choice([-1, 1], 7)
        nodes = Nodes.of(gradient, hessian, np.zeros(7), np.full(7, 1e5), MILLION)
        place, certified = choose(nodes, Parameters(), np.ones(hessian.shape, dtype=bool), owners=3)
        assert (place == best).all() and certified.all()
        gradient[:, best] = 0


def _sums(nodes: Nodes) -> tuple[Ints, Ints]:
    return nodes.node_gradient, nodes.node_hessian

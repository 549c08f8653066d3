"""The order of categories, and what goes right in each candidate, against sorting in the clear."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.network import run, secret, secret_bits

from veilboost.mpc.session import Session
from veilboost.splitting.partition import sort_categories
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.trees.exact_splits import optimal_weight
from veilboost.trees.parameters import Parameters

SCALES = choose_scales(1000, 2.0, 1.0, 1.0)
SQUARED = "reg:squarederror"

Ints = npt.NDArray[np.int64]


def partition(
    counts: list[int], sums: Ints, parameters: Parameters, owners: int = 2, scales: Scales = SCALES
) -> tuple[Ints, npt.NDArray[np.uint8], npt.NDArray[np.uint8], Ints, list[npt.NDArray[np.uint8]]]:
    """Each category's place (categories, nodes), what differs forward and backward, prefix sums, all winning sets."""
    nodes = sums.shape[1]
    n_candidates = sum(counts) - len(counts)

    def program(session: Session) -> Any:
        found = sort_categories(session, counts, secret(session, sums), parameters, scales)
        prefixes = found.prefix_sums(session, secret(session, sums, 1))
        sets = []
        for candidate in range(-1, n_candidates):
            won = np.zeros((nodes, max(1, n_candidates)), dtype=np.uint8)
            won[:, candidate] = candidate >= 0
            sets.append(found.winning_sets(session, secret_bits(session, won)))
        return found.places, found.differs(False), found.differs(True), prefixes, sets

    places, forward, backward, prefixes, sets = run(program, owners)
    assert (places.sum(axis=1) == 1).all()
    return places.argmax(axis=1).reshape(-1, nodes), forward, backward, prefixes, sets


def check(counts: list[int], sums: Ints, parameters: Parameters, owners: int = 2) -> None:
    nodes = sums.shape[1]
    places, forward, backward, prefixes, sets = partition(counts, sums, parameters, owners)
    least = SCALES.least_hessian(parameters.min_child_weight)
    gradient, hessian = sums[0] / 2.0**SCALES.gradient_bits, sums[1] / 2.0**SCALES.hessian_bits
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(sums[1] >= least, optimal_weight(gradient, hessian, parameters), 0.0)
    assert not sets[0].any()
    for node in range(nodes):
        first, candidate = 0, 0
        for count in counts:
            own = slice(first, first + count)
            order = np.argsort(np.round(weight[node, own], 9), kind="stable")
            assert places[own, node][order].tolist() == list(range(count))
            there = sums[1, node, own][order] > 0
            for k in range(count - 1):
                right = order[: k + 1]
                assert np.array_equal(prefixes[:, node, candidate], sums[:, node, own][:, right].sum(axis=1))
                at = node * (sum(counts) - len(counts)) + candidate
                assert forward[at] == there[k] and backward[at] == there[k + 1]
                expected = np.zeros(sum(counts))
                expected[first + right] = 1
                assert np.array_equal(sets[candidate + 1][node], expected)
                candidate += 1
            first += count


def draw(counts: list[int], nodes: int, seed: int, vectors: int = 2) -> Ints:
    """Sums with equal categories, empty ones, and ones of few rows; in whole units that repeat."""
    rng = np.random.default_rng(seed)
    size = sum(counts)
    rows = rng.integers(0, 9, (nodes, size)) * (rng.random((nodes, size)) < 0.8)
    gradient = rng.integers(-6, 7, (nodes, size)) * rows / 2
    parts = [gradient * 2.0**SCALES.gradient_bits, rows * 2.0**SCALES.hessian_bits, rows]
    return np.rint(np.stack(parts[:vectors])).astype(np.int64)


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize("counts", [[2], [16], [4, 3, 16]], ids=str)
def test_categories_are_sorted_by_their_weights(counts: list[int], owners: int) -> None:
    check(counts, draw(counts, 3, len(counts), vectors=3), Parameters(objective=SQUARED), owners)


@pytest.mark.parametrize(
    "given_parameters",
    [
        {"reg_lambda": 0.0},
        {"reg_lambda": 0.0, "min_child_weight": 0.0},
        {"min_child_weight": 4.0},
        {"reg_alpha": 2.0},
        {"max_delta_step": 0.5},
        {"max_delta_step": 0.75, "reg_alpha": 1.0, "min_child_weight": 3.0},
        {"max_delta_step": 1e-9},
        {"max_delta_step": 1e12},
    ],
    ids=str,
)
def test_weights_as_xgboost_computes_them(given_parameters: dict[str, float]) -> None:
    counts = [7, 5]
    check(counts, draw(counts, 4, 3), Parameters(objective=SQUARED, **given_parameters))


def test_a_node_without_rows() -> None:
    check([4], np.zeros((2, 2, 4), dtype=np.int64), Parameters(objective=SQUARED, reg_lambda=0.0))


def test_equal_categories_keep_the_order_of_their_codes() -> None:
    sums = np.stack([np.full((1, 9), 5 << SCALES.gradient_bits), np.full((1, 9), 7 << SCALES.hessian_bits)])
    places, *_ = partition([9], sums, Parameters(objective=SQUARED))
    assert places[:, 0].tolist() == list(range(9))


def test_the_largest_sums() -> None:
    """Numerators and denominators at their bounds, and neighbours that differ by one unit."""
    largest = int(0.98 * 2**30) - 1
    gradient = np.array([[largest, -largest, largest - 1, 1 - largest, 1, -1, 0, largest]])
    hessian = np.array([[largest, largest, largest, largest, 1, 1, 1, largest - 1]])
    parameters = Parameters(objective=SQUARED, reg_lambda=0.0, min_child_weight=0.0)
    places, *_ = partition([8], np.stack([gradient, hessian]), parameters)
    exact = sorted(range(8), key=lambda c: (-gradient[0, c] * 2**30 // hessian[0, c], c))
    assert [int(c) for c in np.argsort(places[:, 0])] == exact


@settings(max_examples=12, deadline=None)
@given(
    counts=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    nodes=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    reg_lambda=st.sampled_from([0.0, 1.0]),
    least=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_any_sums(counts: list[int], nodes: int, seed: int, reg_lambda: float, least: float) -> None:
    parameters = Parameters(objective=SQUARED, reg_lambda=reg_lambda, min_child_weight=least)
    check(counts, draw(counts, nodes, seed), parameters)

"""Bounds below splits, against the oracle's."""

from typing import Any

import numpy as np
import pytest
from tests.network import run, secret, secret_bits

from veilboost.mpc.session import Session
from veilboost.splitting.monotone import bounds_of_children, bounds_of_root, has_sign
from veilboost.splitting.scales import choose_scales
from veilboost.trees import exact_splits
from veilboost.trees.parameters import Parameters

SCALES = choose_scales(1000, 2.0, 1.0, 1.0)


@pytest.mark.parametrize("owners", [2, 3])
def test_halfway_between_the_weights_is_a_bound(owners: int) -> None:
    rng = np.random.default_rng(owners)
    nodes = 40
    signs = rng.integers(-1, 2, nodes)
    unit = 2.0**SCALES.weight_bits
    bounds = np.sort(rng.normal(size=(2, nodes)), axis=0)
    weights = np.clip(rng.normal(size=(nodes, 2)), *bounds[:, :, None])

    def words(real: np.ndarray) -> np.ndarray:
        return np.rint(real * unit).astype(np.int64)

    def program(session: Session) -> Any:
        rising, falling = (secret_bits(session, (signs == sign).astype(np.uint8)[None])[0] for sign in (1, -1))
        negated = np.stack([-bounds[1], -bounds[0]])
        return bounds_of_children(
            session, secret(session, words(negated)), secret(session, words(-weights.reshape(-1)), 1), rising, falling
        )

    found = run(program, owners).reshape(2, nodes, 2) / unit
    for node in range(nodes):
        both = exact_splits.bounds_of_children(*weights[node], signs[node], tuple(bounds[:, node]))
        for side in range(2):
            assert (-found[1, node, side], -found[0, node, side]) == pytest.approx(both[side], abs=3 / unit)


def test_bounds_of_the_root() -> None:
    free, limited = (
        Parameters(monotone_constraints={"x": 1}),
        Parameters(monotone_constraints={"x": 1}, max_delta_step=2),
    )
    assert run(lambda session: bounds_of_root(session, free, SCALES), 2).tolist() == [[-(2**60)], [2**60]]
    bound = 2 << SCALES.weight_bits
    assert run(lambda session: bounds_of_root(session, limited, SCALES), 2).tolist() == [[-bound], [bound]]
    run(lambda session: [] if bounds_of_root(session, Parameters(), SCALES) is None else 1 / 0, 2)


def test_winners_of_some_columns() -> None:
    won = np.zeros((5, 70), dtype=np.uint8)
    for node, candidate in enumerate([0, 64, 69, 3]):
        won[node, candidate] = 1
    found = run(lambda session: has_sign(secret_bits(session, won), np.array([3, 64, 65])), 2)
    assert found.tolist() == [0, 1, 0, 1, 0]

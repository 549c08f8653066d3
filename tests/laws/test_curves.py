"""Logistic function, exponential and softmax over the whole line, and the waves that they are made of."""

import ast
import inspect

import numpy as np
import pytest
from tests.network import run, secret

from veilboost.mpc.protocols import sigmoid as module
from veilboost.mpc.protocols.sigmoid import BOUND, FRACTION_BITS, exponential, sigmoid, softmax
from veilboost.mpc.ring import to_ring

FAR = [10.0**k for k in range(2, 10)]
EDGE = [BOUND + step * 2.0**-FRACTION_BITS for step in (-2, -1, 0, 1, 2)]
REALS = np.concatenate([np.linspace(-17, 17, 9001), [0.0, *EDGE, *FAR, *np.negative(EDGE), *np.negative(FAR)]])


def fixed(reals: np.ndarray) -> np.ndarray:
    return np.rint(reals * 2.0**FRACTION_BITS).astype(np.int64)


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_sigmoid(owners: int) -> None:
    result = run(lambda s: sigmoid(s, secret(s, fixed(REALS))), owners) / 2.0**FRACTION_BITS
    exact = 0.5 * (1 + np.tanh(REALS / 2))
    assert np.abs(result - exact).max() < 1e-5
    assert result.min() >= 0 and result.max() <= 1


def test_sigmoid_at_the_ends_of_its_domain() -> None:
    ends = np.array([2.0**37 - 1, -(2.0**37) + 1])
    result = run(lambda s: sigmoid(s, secret(s, fixed(ends))))
    assert result.tolist() == [1 << FRACTION_BITS, 0]


@pytest.mark.parametrize("owners", [2, 3])
def test_exponential(owners: int) -> None:
    reals = -np.abs(REALS)
    result = run(lambda s: exponential(s, secret(s, fixed(reals))), owners) / 2.0**FRACTION_BITS
    assert np.abs(result - np.exp(reals)).max() < 1e-5
    assert (result[reals < -BOUND] == 0).all()


@pytest.mark.parametrize("classes", [2, 3, 7, 60])
def test_softmax(classes: int) -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(150, classes)) * 4
    scores[:20] *= 1e8
    scores[20:25] = 3.25  # all equal
    scores[25:30] = -1e9
    scores[30, 0], scores[31, -1] = 1e9, -1e9
    scores = np.clip(scores, -1e9, 1e9)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result = run(lambda s: softmax(s, secret(s, fixed(scores))), 3) / 2.0**FRACTION_BITS
    assert np.abs(result - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-4


def test_probabilities_that_are_nearly_zero_are_hardly_negative() -> None:
    """What unpacking of hessians relies on: no sum of them is below -2^14 units, of the 2^29 that it allows for."""
    scores = np.full((30_000, 3), -30.0)
    scores[:, 0], scores[:, 1] = 0.0, np.linspace(-12.01, -11, len(scores))
    result = run(lambda s: softmax(s, secret(s, fixed(scores)))) / 2.0**FRACTION_BITS
    assert result.min() > -4e-6 and result.max() < 1 + 4e-6


def test_harmonics_are_sines_and_cosines() -> None:
    words = np.random.default_rng(7).integers(0, 2**64, 50_000, dtype=np.uint64)
    period = 1 << (5 + FRACTION_BITS)
    words[:9] = to_ring([0, period // 8, period // 4, period // 2, period - 1, period, -1, 1, period * 3 // 8])
    angle = (words % np.uint64(period)).astype(np.float64) / period * 2 * np.pi
    for k, (sine, cosine) in enumerate(module._harmonics(words, 20), start=1):
        assert np.abs(sine - np.sin(k * angle)).max() < 1e-12
        assert np.abs(cosine - np.cos(k * angle)).max() < 1e-12


def test_harmonics_use_arithmetic_that_is_the_same_on_every_machine() -> None:
    allowed = {"zeros_like", "ones_like", "floor", "choose", "astype", "range", "to_ring", "append"}
    (function,) = ast.parse(inspect.getsource(module._harmonics)).body
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else call.id for call in calls}  # type: ignore[attr-defined]
    assert names <= allowed
    operators = {type(node.op) for node in ast.walk(function) if isinstance(node, ast.BinOp)}
    exact = {ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.LShift}
    powers = [node for node in ast.walk(function) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    assert operators <= exact | {ast.Pow}
    assert all(ast.unparse(power.left) == "2.0" for power in powers)

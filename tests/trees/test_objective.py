import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilboost.errors import DataError
from veilboost.trees.objective import check_labels, estimate_base_score, gradients, sigmoid, to_margin, to_prediction


def loss(objective: str, margin: float, label: float) -> float:
    return (margin - label) ** 2 / 2 if objective == "reg:squarederror" else np.logaddexp(0, margin) - label * margin


@given(st.sampled_from(["binary:logistic", "reg:squarederror"]), st.floats(-8, 8), st.sampled_from([0.0, 1.0]))
def test_gradients_are_derivatives_of_the_loss(objective: str, margin: float, label: float) -> None:
    step = 1e-4
    below, at, above = (loss(objective, margin + k * step, label) for k in (-1, 0, 1))
    gradient, hessian = gradients(objective, np.array([margin]), np.array([label]))  # type: ignore[arg-type]
    assert gradient[0] == pytest.approx((above - below) / (2 * step), abs=1e-6)
    assert hessian[0] == pytest.approx((above - 2 * at + below) / step**2, abs=1e-5)


def test_the_hessian_never_vanishes() -> None:
    _, hessian = gradients("binary:logistic", np.array([-800.0, 800.0]), np.array([1.0, 1.0]))
    assert np.all(hessian == 1e-16)


@given(st.floats(-1000, 1000))
def test_sigmoid_is_symmetric_and_bounded(margin: float) -> None:
    p, q = sigmoid(np.array([margin, -margin]))
    assert 0 <= p <= 1
    assert p + q == pytest.approx(1)


@pytest.mark.parametrize("score", [1e-6, 0.1, 0.5, 0.999])
def test_margin_and_prediction_are_inverse(score: float) -> None:
    for objective in ("binary:logistic", "reg:squarederror"):
        margin = np.array([to_margin(objective, score)])
        assert to_prediction(objective, margin)[0] == pytest.approx(score, rel=1e-5)


def test_base_score_is_the_mean_as_float32() -> None:
    assert estimate_base_score("binary:logistic", np.array([1.0, 0.0, 0.0])) == float(np.float32(1 / 3))
    assert estimate_base_score("reg:squarederror", np.array([-5.0, 1.0])) == -2.0


@pytest.mark.parametrize(
    ("objective", "labels", "bounds", "words"),
    [
        ("binary:logistic", [0, 1, 0.5], None, ["row 3", "neither 0 nor 1"]),
        ("binary:logistic", [0, float("nan"), 1], None, ["row 2", "missing"]),
        ("binary:logistic", [1, 1], None, ["one class"]),
        ("reg:squarederror", [1, float("inf")], None, ["row 2", "finite"]),
        ("reg:squarederror", [1, -1e39], None, ["row 2", "float32"]),
        ("reg:squarederror", [0, 500, 500.5], (0, 500), ["row 3", "label_range [0, 500]"]),
        ("reg:squarederror", [-1, 7], (0, 500), ["row 1", "label_range"]),
        ("reg:squarederror", [], None, ["no rows"]),
    ],
)
def test_bad_labels_are_refused(
    objective: str, labels: list[float], bounds: tuple[float, float], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        check_labels(objective, np.array(labels, dtype=np.float64), bounds)  # type: ignore[arg-type]
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "500.5" not in message


def test_good_labels_pass() -> None:
    check_labels("binary:logistic", np.array([0.0, 1.0]))
    check_labels("binary:logistic", np.array([1.0, 1.0]), both_classes=False)
    check_labels("reg:squarederror", np.array([0.0, 500.0]), (0, 500))

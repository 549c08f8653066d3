"""Bounds against real answers of neighbours: never exceeded, and nearly reached, so none is looser than it must be."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilboost.errors import JobError
from veilboost.federated.questions import LABEL_BITS, RowBounds, Shape, row_bounds, shape_of
from veilboost.federated.sensitivity import Question, Sensitivity, clip_to_norm, sensitivities
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.parameters import Parameters, parameters_from

BITS = 10
GENERATOR = np.random.Generator(np.random.Philox(7))


def made_up(mode: str = "leaf_sums", classes: int = 1, **changes: object) -> Shape:
    given: dict[str, object] = {
        "mode": mode,
        "rounds": 3,
        "classes": classes,
        "depth": 2,
        "features": 5,
        "searched": 4,
        "counted": 2,
        "bins": 8,
    }
    return Shape(**{**given, **changes})  # type: ignore[arg-type]


def of_kind(kind: Question, asked: tuple[Sensitivity, ...]) -> Sensitivity:
    (found,) = [question for question in asked if question.kind == kind]
    return found


def moved(question: Sensitivity, differences: dict[str, np.ndarray]) -> Fraction:
    """The square of D for differences of whole numbers."""
    assert set(differences) == {component.name for component in question.components}
    return sum(
        (int((differences[part.name].astype(object) ** 2).sum()) / part.unit_squared for part in question.components),
        Fraction(0),
    )


def rows_of(parameters: Parameters, bounds: RowBounds, weighted: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gradients and hessians, shape (classes,), of rows at the corners and in between, rounded and cut off."""
    weights = [1.0, 0.5, 0.001] if weighted else [1.0]
    for weight, (g, h) in product(weights, _derivatives(parameters)):
        gradient = np.clip(np.rint(weight * g * 2**BITS).astype(np.int64), *bounds.gradient)
        hessian = np.clip(np.rint(weight * h * 2**BITS).astype(np.int64), *bounds.hessian)
        yield gradient, hessian


def _derivatives(parameters: Parameters) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if parameters.objective == "multi:softprob":
        classes = parameters.outputs
        margins = [*(40 * np.eye(classes)), *(40 * np.roll(np.eye(classes), 1, 0) + 39 * np.eye(classes))]
        margins += list(GENERATOR.normal(0, 3, (10, classes)))
        for margin, label in product(margins, range(classes)):
            p = np.exp(margin - margin.max())
            p /= p.sum()
            yield p - (np.arange(classes) == label), 2 * p * (1 - p)
        return
    if parameters.objective == "binary:logistic":
        for p, label in product([0.0, 1e-9, 0.1, 0.5, 0.77, 1.0], [0, 1]):
            yield np.array([p - label]), np.array([p * (1 - p)])
    elif parameters.objective == "reg:squarederror":
        for residual in (-7.0, -2.0, -0.3, 0.0, 1.9, 2.0, 5.0):
            yield np.array([residual]), np.array([1.0])
    else:
        for mean, label in product([0.0, 0.4, 3.0, 4.0], [0.0, 0.5, 1.0]):
            yield np.array([mean - label]), np.array([mean * np.exp(parameters.max_delta_step)])


OBJECTIVES = [
    {"objective": "binary:logistic"},
    {"objective": "reg:squarederror"},
    {"objective": "count:poisson"},
    {"objective": "multi:softprob", "num_class": 2},
    {"objective": "multi:softprob", "num_class": 3},
    {"objective": "multi:softprob", "num_class": 7},
]


@pytest.mark.parametrize("counts_rows", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", OBJECTIVES)
def test_leaves_and_levels(model: dict[str, object], weighted: bool, counts_rows: bool) -> None:
    """Two rows, class by class in the same leaf or in two: all combinations of few classes, the extremes of many."""
    parameters = parameters_from(model)
    classes = parameters.outputs
    bounds = row_bounds(parameters, BITS, BITS)
    changes = {"classes": classes, "weighted": weighted, "counts_rows": counts_rows}
    question = of_kind("leaves", sensitivities(made_up(**changes), bounds, "row", None))
    rows = list(rows_of(parameters, bounds, weighted))
    placements = list(product([True, False], repeat=classes)) if classes <= 3 else [(True,) * 7, (False,) * 7]
    largest = Fraction(0)
    for (g, h), (other_g, other_h), same in product(rows[:60], rows[:60], placements):
        leaves = np.zeros((3, classes, 2), dtype=np.int64)  # gradient, hessian, rows of two leaves
        for k in range(classes):
            leaves[:, k, 0] += [g[k], h[k], 1]
            leaves[:, k, 0 if same[k] else 1] -= [other_g[k], other_h[k], 1]
        differences = {"gradient": leaves[0], "hessian": leaves[1], "rows": leaves[2]}
        if not counts_rows:
            del differences["rows"]
        largest = max(largest, moved(question, differences))
    # The bound allows for extremes of g, h and rows that do not come together, and for rounding.
    assert float(question.squared) * 0.85 < largest <= question.squared
    assert question.times == 3
    levels = of_kind("level", sensitivities(made_up("histograms", **changes), bounds, "row", None))
    assert levels.squared == 5 * question.squared  # five features
    assert levels.times == 3 * 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", OBJECTIVES)
def test_labels(model: dict[str, object], weighted: bool) -> None:
    parameters = parameters_from(model)
    classes = parameters.outputs
    shape = made_up(classes=classes, weighted=weighted)
    question = of_kind("labels", sensitivities(shape, row_bounds(parameters, BITS, BITS), "row", None))
    if classes > 1:
        labels = list(np.eye(classes))
    elif model["objective"] == "binary:logistic":
        labels = [np.array([0.0]), np.array([1.0])]
    else:
        lowest = -1.0 if model["objective"] == "reg:squarederror" else 0.0
        labels = [np.array([value]) for value in (lowest, 0.123456789, 0.5, 1.0)]
    weights = [0.0, 1e-7, 0.333, 1.0] if weighted else [1.0]
    answers = [
        {
            "labels": np.rint(weight * label * 2**LABEL_BITS).astype(np.int64),
            "weights": np.rint([weight * 2**LABEL_BITS]).astype(np.int64),
        }
        for label, weight in product(labels, weights)
    ]
    names = [part.name for part in question.components]
    assert names == (["labels", "weights"] if weighted else ["labels"])
    largest = max(
        moved(question, {name: one[name] - other[name] for name in names}) for one, other in product(answers, answers)
    )
    assert largest == question.squared


def test_edges_and_present() -> None:
    """A table of four searched columns, of which two may have empty cells; one row is replaced."""
    asked = sensitivities(made_up(), row_bounds(Parameters(), BITS, BITS), "row", None)
    edges, present = of_kind("edges", asked), of_kind("present", asked)
    thresholds = np.sort(GENERATOR.normal(size=(4, 7)))

    def answers(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = (table[:, :, np.newaxis] < thresholds).sum(axis=0)
        return counts.ravel(), (~np.isnan(table[:, :2])).sum(axis=0)

    table = GENERATOR.normal(size=(20, 4))
    largest = [Fraction(0), Fraction(0)]
    for row in ([-9.0] * 4, [9.0] * 4, [np.nan, np.nan, 0.0, 0.0], [0.0, np.nan, 9.0, -9.0]):
        for other in ([-9.0] * 4, [9.0] * 4, [np.nan, np.nan, 9.0, 9.0]):
            before, after = table.copy(), table.copy()
            before[3], after[3] = row, other
            for at, (one, two) in enumerate(zip(answers(before), answers(after), strict=True)):
                largest[at] = max(largest[at], moved((edges, present)[at], {"counts": one - two}))
    assert largest == [edges.squared, present.squared] == [28, 2]
    assert (edges.times, present.times) == (32, 1)


def test_what_is_not_asked_costs_nothing() -> None:
    bounds = row_bounds(Parameters(), BITS, BITS)
    asked = sensitivities(made_up(searched=0, counted=0, asks_labels=False), bounds, "row", None)
    assert [question.kind for question in asked] == ["leaves"]


@pytest.mark.parametrize("mode", ["leaf_sums", "histograms"])
@pytest.mark.parametrize("model", OBJECTIVES)
def test_clients(model: dict[str, object], mode: str) -> None:
    """Answers within the norms move by no more than the bound; a client of `clip_rows` equal rows is not clipped."""
    parameters = parameters_from(model)
    bounds = row_bounds(parameters, BITS, BITS)
    shape = made_up(mode, parameters.outputs, weighted=True, counts_rows=True)
    for question in sensitivities(shape, bounds, "client", 6):
        largest, extremes = Fraction(0), {}
        for part in question.components:
            assert part.norm is not None
            signed = part.name == "gradient" or (part.name == "labels" and bounds.label[0] < 0)
            one = np.array([part.norm, 0], dtype=np.int64)
            other = -one if signed else one[::-1]
            extremes[part.name] = one - other
        largest = moved(question, extremes)
        assert float(question.squared) * 0.999 < largest <= question.squared
    last = sensitivities(shape, bounds, "client", 6)[-1]
    cells = 5 if mode == "histograms" else 1
    for part, value in zip(
        last.components, (max(-bounds.gradient[0], bounds.gradient[1]), bounds.hessian[1], 1), strict=True
    ):
        answer = np.array([6 * value] * cells, dtype=np.int64)
        assert part.norm is not None
        assert np.array_equal(clip_to_norm(answer, part.norm), answer)
        assert not np.array_equal(clip_to_norm(answer * 7 // 6 + 1, part.norm), answer * 7 // 6 + 1)
    assert last.times == 3 * parameters.outputs * (2 if mode == "histograms" else 1)


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=20), st.integers(1, 2**40))
def test_clipping_keeps_the_norm_and_the_direction(numbers: list[int], norm: int) -> None:
    values = np.array(numbers, dtype=np.int64)
    clipped = clip_to_norm(values, norm).tolist()
    length = sum(number * number for number in numbers)
    assert sum(number * number for number in clipped) <= norm * norm
    if length <= norm * norm:
        assert clipped == numbers
    for number, kept in zip(numbers, clipped, strict=True):
        assert abs(kept) <= abs(number)
        assert kept * number >= 0
        if length > norm * norm:  # the rounded-up length and the rounding towards zero take at most two units
            assert abs(kept) >= abs(number) * norm / length**0.5 * (1 - 1 / length**0.5) - 1.001


def test_clipping_keeps_shapes() -> None:
    assert clip_to_norm(np.full((2, 3), 100), 10).tolist() == [[4, 4, 4]] * 2


def test_bounds_in_fixed_point() -> None:
    bounds = row_bounds(Parameters(), 12, 14)
    assert bounds.gradient == (-4096, 4096)
    assert bounds.hessian == (0, 4096)
    assert bounds.label == (0, 2**24)
    poisson = row_bounds(parameters_from({"objective": "count:poisson"}), 12, 12)
    assert poisson.gradient == (-4096, 4 * 4096)
    assert poisson.hessian == (0, int(np.ceil(4 * np.exp(0.7) * 4096)))


@pytest.mark.parametrize(("unit", "clip_rows"), [("row", 5), ("client", None), ("client", 0)])
def test_refusals(unit: str, clip_rows: int | None) -> None:
    with pytest.raises(JobError, match="clip_rows"):
        sensitivities(made_up(), row_bounds(Parameters(), BITS, BITS), unit, clip_rows)  # type: ignore[arg-type]


def test_shape_of_a_job() -> None:
    features = [
        Feature("age", Kind.CONTINUOUS, missing=True),
        Feature("count", Kind.DISCRETE),
        Feature("flag", Kind.FLAG, missing=True),
        Feature("level", Kind.CATEGORICAL, ("a", "b")),
    ]
    model = {"objective": "multi:softprob", "num_class": 3, "n_estimators": 7, "max_depth": 2, "max_bin": 16}
    given = Shape("leaf_sums", 7, 3, 2, 4, 2, 1, 16, 32, True, True, False)
    assert shape_of(parameters_from(model), features, "leaf_sums", True) == given
    more = {"colsample_bytree": 0.5, "colsample_bynode": 0.5, "base_score": 0.5, "min_rows_per_leaf": 5}
    changed = shape_of(parameters_from(model | more), features, "histograms", False)
    assert changed == Shape("histograms", 7, 3, 2, 1, 2, 1, 16, 32, False, False, True)
    with pytest.raises(JobError, match="early_stopping_rounds"):
        shape_of(parameters_from(model | {"early_stopping_rounds": 3}), features, "leaf_sums", False)

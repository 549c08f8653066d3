"""Jobs that cannot succeed are refused by every role, as early as its part of the facts allows."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.network import run
from tests.processes.support import LABEL, Case, make_case, run_roles

from veilboost.errors import InputError
from veilboost.jobs.inputs import read_table, training_task
from veilboost.jobs.job import Job
from veilboost.jobs.limits import LEAST_ROWS, check_labels, check_rows, check_table, warnings_of
from veilboost.jobs.run import Role, run_analyst, run_dealer, run_party
from veilboost.jobs.spec import job_from_dict
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.tables.table import Table
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.objectives.base import row_weights, share_labels, share_weights

NAMES = ("north", "south")
COLUMNS: dict[str, list[list[str]]] = {
    "columns": [["age"], ["drugs", "ill"]],
    "rows": [["age", "drugs", "ill"], ["age", "drugs", "ill"]],
}


def make_job(
    split: str = "columns", *, data: dict[str, Any] | None = None, weight: list[int] | None = None, **model: Any
) -> Job:
    """A job of two parties whose columns or rows are split; `weight` says who holds weights."""
    columns = [list(names) for names in COLUMNS[split]]
    for position in weight or []:
        columns[position].append("w")
    if model.get("objective", "binary:logistic") != "binary:logistic":
        data = {"label_range": [0, 100]} | (data or {})
    if weight is not None:
        data = {"weight": "w", "weight_range": [0, 10]} | (data or {})
    return job_from_dict(
        {
            "job": {"name": "limits", "method": "smpc", "analyst": "university"},
            "model": {"n_estimators": 1, "max_depth": 2} | model,
            "data": {"label": "ill"} | (data or {}),
            "feature": [{"name": name, "kind": "discrete", "missing": True} for name in ("age", "drugs")],
            "party": [
                {"name": name, "address": f"127.0.0.1:{number}", "columns": held}
                for number, (name, held) in enumerate(zip(NAMES, columns, strict=True), start=7101)
            ],
            "dealer": {"address": "127.0.0.1:7100"},
        }
    )


def table_of(labels: Any, weight: Any = None) -> Table:
    return Table(len(labels), (), np.asarray(labels, dtype=np.float64), {}, weight=weight)


def test_too_few_rows() -> None:
    for rows in ([LEAST_ROWS - 1], [LEAST_ROWS - 2, 1]):
        with pytest.raises(InputError, match="19 rows are too few to train on: a training needs at least 20 in all"):
            training_task(make_job("rows" if len(rows) > 1 else "columns"), rows)
    assert training_task(make_job("rows"), [LEAST_ROWS - 1, 1]).space.rows == LEAST_ROWS


@pytest.mark.parametrize(
    ("split", "data", "party", "rows", "refused"),
    [
        ("columns", {}, "north", 19, True),
        ("columns", {}, "north", 20, False),
        ("rows", {}, "north", 1, False),
        ("columns", {"id": "id"}, "north", 19, True),
        ("columns", {"id": "id", "join": "left"}, "north", 19, False),
        ("columns", {"id": "id", "join": "left"}, "south", 19, True),
    ],
)
def test_too_few_rows_before_the_others_are_met(
    split: str, data: dict[str, Any], party: str, rows: int, refused: bool
) -> None:
    job, table = make_job(split, data=data), table_of(np.arange(rows) % 2)
    if not refused:
        check_table(job, party, table, "t")
        return
    with pytest.raises(InputError, match="19 rows are too few"):
        check_table(job, party, table, "t")


def test_too_few_rows_held_back() -> None:
    job = make_job(early_stopping_rounds=2)
    why = "early stopping would hold back 49 of 249 rows, and its metric needs at least 50: give a larger"
    with pytest.raises(InputError, match=why):
        training_task(job, [249])
    with pytest.raises(InputError, match=why):
        check_table(job, "north", table_of(np.arange(249) % 2), "t")
    check_table(make_job("rows", early_stopping_rounds=2), "north", table_of(np.arange(9) % 2), "t")
    assert len(training_task(job, [250]).held_back) == 50
    training_task(make_job(), [LEAST_ROWS])


@pytest.mark.parametrize("split", ["columns", "rows"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"reg_lambda": 1e9}, "exceed the fixed-point range"),
        ({"objective": "reg:squarederror", "base_score": 1e12}, "base_score near the labels"),
    ],
)
def test_impossible_parameters_are_refused_by_every_role_before_it_listens(
    tmp_path: Path, split: str, model: dict[str, Any], expected: str
) -> None:
    """Where rows are split no role knows their number yet."""
    job = make_job(split, **model)
    nowhere = tmp_path / "nowhere"  # certificates are read just before a port is opened
    frame = pl.DataFrame({"age": [1, 2] * 15, "drugs": [1, 2] * 15, "ill": [0, 1] * 15})
    starts = (
        lambda: run_party(Role(job, "south", nowhere), frame, "patients"),
        lambda: run_dealer(Role(job, "dealer", nowhere)),
        lambda: run_analyst(Role(job, "university", nowhere)),
    )
    for start in starts:
        with pytest.raises(InputError, match=expected):
            start()


def test_too_many_rows_for_the_parameters_are_noticed_when_they_are_known() -> None:
    job = make_job("rows", reg_lambda=1e6)
    check_rows(job, LEAST_ROWS, None)
    training_task(job, [30, 30])
    with pytest.raises(InputError, match="fixed-point range"):
        training_task(job, [30, 60_000_000])


def test_regularisation_that_wide_bounds_make_vanish() -> None:
    counts = {"objective": "count:poisson", "min_child_weight": 0.0}
    assert warnings_of(make_job(**counts), 2000) == []
    wide = {"label_range": [0, 1_000_000]}
    (warning,) = warnings_of(make_job(**counts, data=wide), 2000)
    assert warning.startswith("reg_lambda = 1 is below what fixed point resolves here, ")
    assert warning.endswith(": lower the upper bound of label_range, or it counts about as 0")
    assert warnings_of(make_job(**counts, data=wide, reg_lambda=0.0), 2000) == []
    weighted = {"label_range": [0, 100], "weight_range": [0, 1e9]}
    found = warnings_of(make_job(objective="reg:squarederror", data=weighted, weight=[0]), 2000)
    assert [line.split(" = ")[0] for line in found] == ["reg_lambda", "min_child_weight"]
    assert all("weight_range" in line and "label_range" not in line for line in found)
    assert warnings_of(make_job(objective="reg:squarederror", reg_lambda=1e-9), 2000) == []


def test_samples_without_regularisation_may_diverge() -> None:
    squared = {"objective": "reg:squarederror", "reg_lambda": 0.0}
    assert warnings_of(make_job(**squared), 2000) == []
    assert warnings_of(make_job(subsample=0.5, reg_lambda=0.0), 2000) == []
    (warning,) = warnings_of(make_job(**squared, subsample=0.5), 2000)
    assert warning.startswith("subsample = 0.5 with reg_lambda = 0: residuals may grow beyond what fixed point holds")


def test_one_class_among_the_rows_that_train() -> None:
    """Both classes are there, but one of them among the rows that are held back only."""
    job = make_job(early_stopping_rounds=2)
    held_back = validation_rows(job.parameters, 300)
    labels = np.zeros(300)
    labels[np.flatnonzero(held_back)[:7]] = 1
    with pytest.raises(InputError, match="labels of the 240 rows not held back for early stopping are of one class"):
        check_table(job, "south", table_of(labels), "patients")
    with pytest.raises(InputError, match="matched by id and not held back for early stopping are of one class"):
        check_labels(make_job(early_stopping_rounds=2, data={"id": "id"}), table_of(labels), "patients")
    labels[np.flatnonzero(~held_back)[0]] = 1
    check_table(job, "south", table_of(labels), "patients")


def test_matching_by_id_may_leave_counts_of_zero_alone() -> None:
    job = make_job(objective="count:poisson", data={"id": "id"})
    with pytest.raises(InputError, match="counts of the 30 rows matched by id are all 0"):
        check_labels(job, table_of(np.zeros(30)), "t")


def test_matching_by_id_may_leave_labels_too_close_together() -> None:
    job = make_job(objective="reg:squarederror", data={"id": "id", "label_range": [0, 5000]})
    labels = np.linspace(0, 1, 30)
    check_table(job, "south", table_of([*labels, 4000.0]), "t")
    with pytest.raises(InputError, match="over 1000 times as wide as the labels"):
        check_labels(job, table_of(labels), "t")


@pytest.mark.parametrize("objective", ["binary:logistic", "count:poisson", "reg:squarederror"])
def test_an_owner_of_some_labels_is_not_refused_for_them(objective: str) -> None:
    """Other owners may hold the rest; a refusal would tell them about these."""
    data = {} if objective == "binary:logistic" else {"label_range": [0, 5000]}
    job = make_job("rows", objective=objective, data=data)
    labels = np.where(np.arange(30) < 15, 0.0, 1.0) if objective == "reg:squarederror" else np.zeros(30)
    check_table(job, "north", table_of(labels), "t")
    frame = pl.DataFrame({"age": [1.0] * 30, "drugs": [2] * 30, "ill": labels})
    assert read_table(job, "north", frame, "t").rows == 30


def test_the_message_does_not_tell_the_labels() -> None:
    job = make_job(objective="reg:squarederror", data={"label_range": [0, 1500.1]})
    with pytest.raises(InputError) as caught:
        check_labels(job, table_of([3.25, 4.75] * 10), "table")
    assert not any(part in str(caught.value) for part in ("3.25", "4.75", "1.5 "))
    check_labels(make_job(objective="reg:squarederror", data={"label_range": [0, 1500]}), table_of([3.25, 4.75]), "t")


def test_weights_of_zero_only() -> None:
    labels, weights = np.arange(30) % 2, np.zeros(30)
    with pytest.raises(InputError, match="column 'w': the weights of the 30 rows are all 0"):
        check_labels(make_job(weight=[0]), table_of(labels, weights), "t")
    check_labels(make_job("rows", weight=[0, 1]), table_of(labels, weights), "t")
    weights[3] = 1
    check_labels(make_job(weight=[0]), table_of(labels, weights), "t")


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e-4])
def test_the_least_weight_of_a_job_is_not_zero_in_shares(ratio: float) -> None:
    """For either class; of the next smaller one at least a part would be lost."""
    job = make_job(weight=[0], scale_pos_weight=ratio)
    assert job.weight_spec is not None
    least, task = job.weight_spec.least, training_task(job, [30])

    def program(session: Session) -> Shared:
        labels = share_labels(session, 0, np.array([0.0, 1.0, 0.0]), 3, task.objective)
        weights = share_weights(session, 1, np.array([least, least, 0.0]), 3, 10.0)
        factors = row_weights(session, job.parameters, labels, weights)
        assert factors is not None
        return factors

    words = run(program)
    exact = least / 10 * np.array([1.0, ratio]) / max(1.0, ratio) * 2.0**24
    assert exact.min() > 15.9
    np.testing.assert_allclose(words[:2], exact, rtol=0.1)
    assert words[2] in (0, 1)


def test_rows_split_with_labels_of_one_class_at_each_owner_train(tmp_path: Path) -> None:
    """What is sound together is not refused for its parts."""
    case = make_case(tmp_path)
    together = case.rows.sort(LABEL)
    job_text = case.path.read_text()
    assert 'columns = ["age", "smoker"]' in job_text
    everything = '["age", "prior drugs", "smoker", "referral", "ms"]'
    for columns in ('["age", "smoker"]', '["prior drugs", "referral", "ms"]'):
        job_text = job_text.replace(f"columns = {columns}", f"columns = {everything}")
    case.path.write_text(job_text)
    case = Case(case.folder, case.path, {"north": together.head(30), "south": together.tail(30)}, together)
    model = run_roles(case, tmp_path / "out")["university"].model
    assert model is not None
    assert 0.45 < float(np.asarray(model.base_score)) < 0.55

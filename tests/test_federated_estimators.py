"""Estimators of federated training: parameters, what they refuse, and the job that they draft."""

import inspect
from pathlib import Path
from typing import Any, Never

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from tests.test_estimators import patients

from veilboost import FederatedClassifier, FederatedRegressor, XORBoostClassifier
from veilboost.errors import InputError, JobError
from veilboost.jobs.job import Job
from veilboost.tables.schema import Feature, Kind

OWN = ["mode", "min_clients", "epsilon", "delta", "privacy_unit"]


def tables() -> dict[str, pd.DataFrame]:
    """Three hospitals with different patients; one has no patient of one ward."""
    table = patients().drop(columns=["patient", "cost"])
    table["referral"] = table["referral"].astype(object)
    parts = {"north": table.iloc[:40], "south": table.iloc[40:70], "west": table.iloc[70:]}
    parts["west"] = parts["west"].assign(referral="er")
    return parts


def costs() -> dict[str, pd.DataFrame]:
    table = patients()[["age", "dose", "cost"]]
    return {"north": table.iloc[:50], "south": table.iloc[50:]}


def drafted(monkeypatch: pytest.MonkeyPatch, model: Any, parties: Any, **options: Any) -> tuple[Job, dict[str, bytes]]:
    """The job and the tables that `fit` would start processes for."""
    taken: list[Any] = []

    class StartedError(Exception):
        pass

    def started(job: Job, job_file: Path, data: dict[str, bytes], *_: object) -> Never:
        taken.append((job, data))
        raise StartedError

    monkeypatch.setattr("veilboost.estimators.base.run_local", started)
    with pytest.raises(StartedError):
        model.fit(parties, **options)
    ((job, data),) = taken
    return job, data


def test_parameters_are_those_of_training_on_shares_and_more() -> None:
    model = FederatedClassifier(max_depth=3, epsilon=2.0)
    assert list(model.get_params()) == [*XORBoostClassifier().get_params(), *OWN]
    assert repr(model) == "FederatedClassifier(max_depth=3, epsilon=2.0)"
    assert repr(FederatedRegressor()) == "FederatedRegressor()"
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(mode="leaf_sums", seed=3) is model
    assert (model.mode, model.seed) == ("leaf_sums", 3)
    assert not set(OWN) & set(XORBoostClassifier().get_params())
    shown = inspect.signature(FederatedClassifier).parameters
    assert {name: one.default for name, one in shown.items()} == FederatedClassifier().get_params()
    assert is_classifier(model)
    assert is_regressor(FederatedRegressor())


@pytest.mark.parametrize("kind", [FederatedClassifier, FederatedRegressor])
def test_unknown_parameter_is_a_type_error(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"^{kind.__name__} has no parameter 'max_leaves': it has .*, mode, min_client"):
        kind(max_leaves=3)
    with pytest.raises(TypeError, match=f"^{kind.__name__} has no parameter 'eta'"):
        kind().set_params(eta=0.1)
    with pytest.raises(TypeError, match=f"^{kind.__name__} takes no positional arguments"):
        kind(3)
    with pytest.raises(TypeError, match="id"):
        kind().fit(tables(), id="patient", label="status")


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError, match="this FederatedClassifier is not fitted yet: call fit first"):
        FederatedClassifier().predict_proba(patients())


def test_job_of_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FederatedClassifier(n_estimators=3, mode="leaf_sums", min_clients=np.int64(3), epsilon=np.float64(1.5))
    job, data = drafted(monkeypatch, model, tables(), label="status")
    assert (job.method, job.party_names, job.parameters.n_estimators) == ("federated", ("north", "south", "west"), 3)
    assert job.federated is not None
    assert job.federated.model_dump(exclude={"answer_seconds"}) == {
        **{"mode": "leaf_sums", "min_clients": 3, "epsilon": 1.5, "delta": 1e-6, "privacy_unit": "row"}
    }
    assert len(job.aggregators) == 2
    assert len({*job.addresses.values()}) == 6
    assert [(one.name, one.kind, one.levels) for one in job.features] == [
        ("age", Kind.CONTINUOUS, ()),
        ("referral", Kind.CATEGORICAL, ("er", "gp", "ward")),
        ("dose", Kind.DISCRETE, ()),
        ("smoker", Kind.FLAG, ()),
    ]
    labels = {name: pl.read_parquet(content)["status"] for name, content in data.items()}
    assert [len(column) for column in labels.values()] == [40, 30, 20]
    expected = (patients()["status"] == "sick").astype(int).tolist()
    assert pl.concat([*labels.values()]).to_list() == expected
    assert model.classes_.tolist() == ["healthy", "sick"]


def test_job_of_a_regressor(monkeypatch: pytest.MonkeyPatch) -> None:
    weighted = {name: table.assign(w=2.0) for name, table in costs().items()}
    model = FederatedRegressor(privacy_unit="client", epsilon=3, delta=1e-8)
    options: dict[str, Any] = {
        "weight": "w",
        "weight_range": (0, 4),
        "features": [Feature("dose", Kind.CONTINUOUS, (), True)],
    }
    job, _ = drafted(monkeypatch, model, weighted, label="cost", label_range=(0, 300), **options)
    assert (job.data.label_range, job.data.weight_range) == ((0, 300), (0, 4))
    assert job.weight_holders == job.label_holders == ("north", "south")
    assert job.features[1] == Feature("dose", Kind.CONTINUOUS, (), True)
    assert job.federated is not None
    assert (job.federated.privacy_unit, job.federated.delta) == ("client", 1e-8)
    job, _ = drafted(monkeypatch, FederatedRegressor(), costs(), label="cost")
    cost = patients()["cost"]
    assert job.data.label_range == (cost.min(), cost.max())


def test_columns_may_come_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tables()
    given["south"] = given["south"][["status", "dose", "smoker", "referral", "age"]]
    job, _ = drafted(monkeypatch, FederatedClassifier(), given, label="status")
    assert [one.name for one in job.features] == ["age", "referral", "dose", "smoker"]


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (lambda t: {**t, "west": t["west"].drop(columns="age")}, {}, "table of west: there is no column 'age', which"),
        (
            lambda t: {**t, "west": t["west"].assign(bmi=1)},
            {},
            "table of north: there is no column 'bmi', which table of",
        ),
        (lambda t: {**t, "west": t["west"].drop(columns="status")}, {}, "table of west: there is no column 'status'"),
        (lambda t: t, {"label": "ill"}, "label 'ill': no table has this column"),
        (lambda t: t, {"weight": "w"}, "weight 'w': no table has this column"),
        (lambda t: t, {"weight_range": (0, 1)}, "weight_range: has no meaning"),
        (lambda t: t, {"label": "age"}, "a classifier needs 2 to 63 classes"),
        (lambda t: t, {"label": "age"}, "or for numbers FederatedRegressor"),
        (lambda t: t, {"features": [Feature("ages", Kind.CONTINUOUS)]}, "features: no table has a column 'ages'"),
        (lambda t: {"north": t["north"]}, {}, "parties: FederatedClassifier needs the tables of two owners or more"),
        (lambda t: t["north"], {}, "FederatedClassifier.fit takes the tables of all owners by name"),
        (lambda t: {**t, "north": t["north"].head(0)}, {}, "table of north: the table has no rows"),
        (lambda t: {**t, "north": "none.csv"}, {}, "table of north: there is no such file"),
        (lambda t: {**t, "aggregator1": t["north"]}, {}, "a party has that name"),
        (lambda t: {**t, "courier": t["north"]}, {}, "'courier' is reserved"),
    ],
)
def test_bad_tables_are_refused(change: Any, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        FederatedClassifier().fit(change(tables()), **({"label": "status"} | options))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"mode": "sums"},
        {"min_clients": 1},
        {"min_clients": 4},
        {"min_clients": 2.5},
        {"epsilon": 0},
        {"epsilon": "1"},
        {"delta": 1e-6},
        {"privacy_unit": "row"},
    ],
)
def test_parameter_out_of_range_is_refused(parameters: dict[str, Any]) -> None:
    (name,) = parameters
    with pytest.raises(JobError, match=f"^parameter {name}: "):
        FederatedClassifier(**parameters).fit(tables(), label="status")


def test_a_parameter_of_the_model_out_of_range_is_refused() -> None:
    with pytest.raises(JobError, match="max_depth"):
        FederatedClassifier(max_depth=0).fit(tables(), label="status")

"""The demonstration's table and job file agree, and the table is what its README says."""

import csv
import tomllib
from collections.abc import Callable

import pytest

from veilboost.data import heart_disease_path, heart_job_path, hospitals_job_path

ROWS = list(csv.DictReader(heart_disease_path().read_text(encoding="utf-8").splitlines()))
JOB = tomllib.loads(heart_job_path().read_text(encoding="utf-8"))
FEATURES = {feature["name"]: feature for feature in JOB["feature"]}
FEATURES_IN_FILE_ORDER = [
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalch", "exang", "oldpeak", "slope", "ca", "thal"),
]


def column(name: str) -> list[str]:
    return [row[name] for row in ROWS]


def test_table_has_its_published_shape() -> None:
    assert len(ROWS) == 920
    assert list(ROWS[0]) == [*FEATURES_IN_FILE_ORDER, "hospital", "disease"]
    assert sum(int(cell) for cell in column("disease")) == 509
    assert {name: column("hospital").count(name) for name in set(column("hospital"))} == {
        "Cleveland": 304,
        "Hungary": 293,
        "Switzerland": 123,
        "VA Long Beach": 200,
    }


def test_parties_share_out_every_feature_and_the_label() -> None:
    columns = [name for party in JOB["party"] for name in party["columns"]]
    assert sorted(columns) == sorted([*FEATURES, JOB["data"]["label"]])
    assert set(FEATURES) == set(FEATURES_IN_FILE_ORDER)
    assert "hospital" not in columns


def test_hospitals_have_the_same_features() -> None:
    hospitals = tomllib.loads(hospitals_job_path().read_text(encoding="utf-8"))
    assert hospitals["feature"] == JOB["feature"]
    assert hospitals["model"] == JOB["model"]
    *sites, laboratory = hospitals["party"]
    assert [site["columns"] for site in sites] == [JOB["party"][0]["columns"]] * 4
    assert laboratory["columns"] == JOB["party"][1]["columns"]


def test_addresses_are_distinct_and_local() -> None:
    addresses = [JOB["dealer"]["address"], *(party["address"] for party in JOB["party"])]
    assert addresses == ["127.0.0.1:7100", "127.0.0.1:7101", "127.0.0.1:7102"]


@pytest.mark.parametrize("name", FEATURES_IN_FILE_ORDER)
def test_job_describes_the_column(name: str) -> None:
    cells = column(name)
    feature = FEATURES[name]
    present = {cell for cell in cells if cell}
    assert ("" in cells) == feature.get("missing", False)
    checks: dict[str, Callable[[], bool]] = {
        "categorical": lambda: present == set(feature["levels"]) and len(feature["levels"]) == len(present),
        "flag": lambda: present == {"true", "false"},
        "discrete": lambda: all(abs(float(cell)) < 1000 for cell in present),
    }
    assert checks[feature["kind"]]()

"""What a job file says of federated training: aggregators, how clients take part, differential privacy."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.errors import JobError
from veilboost.jobs.federated_spec import DELTA, NOT_AVAILABLE, FederatedSpec
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job

COLUMNS = ["age", "referral", "ms"]


def tables() -> dict[str, Any]:
    return {
        "job": {"name": "ms-diagnosis", "method": "federated", "analyst": "university"},
        "model": {"n_estimators": 20, "max_depth": 4},
        "data": {"label": "ms"},
        "feature": [
            {"name": "age", "kind": "continuous"},
            {"name": "referral", "kind": "categorical", "levels": ["gp", "er", "other"]},
        ],
        "party": [
            {"name": name, "address": f"127.0.0.1:{port}", "columns": list(COLUMNS)}
            for name, port in (("north", 7101), ("south", 7102), ("west", 7103))
        ],
        "aggregator": [
            {"name": "ministry", "address": "10.0.0.1:7200"},
            {"name": "charity", "address": "10.0.0.2:7200"},
        ],
        "dealer": {"address": "127.0.0.1:7100"},
    }


def with_privacy() -> dict[str, Any]:
    given = tables()
    given["federated"] = {"epsilon": 2.5, "delta": 1e-8, "privacy_unit": "client", "mode": "leaf_sums"}
    return given


def with_waiting() -> dict[str, Any]:
    given = tables()
    given["federated"] = {"min_clients": 3, "answer_seconds": 20, "epsilon": 1}
    given["data"] |= {"weight": "w", "weight_range": [0, 4]}
    for party in given["party"]:
        party["columns"].append("w")
    return given


def with_local_aggregators() -> dict[str, Any]:
    given = tables()
    del given["aggregator"]
    return given


def test_a_federated_job() -> None:
    job = job_from_dict(tables())
    assert (job.method, job.federated) == ("federated", FederatedSpec())
    assert job.aggregator_names == ("ministry", "charity")
    assert job.lead == "ministry"
    assert job.roles == ("north", "south", "west", "ministry", "charity", "dealer", "courier", "university")
    assert job.mesh_roles() == job.mesh_roles("embedded") == ("ministry", "charity", "dealer", "university")
    assert job.mesh_roles("nvflare") == ("ministry", "charity", "dealer", "courier", "university")
    assert job.addresses["charity"] == ("10.0.0.2", 7200)
    assert set(job.addresses) == set(job.roles) - {"courier", "university"}
    assert job.grid.block_of == (0, 1, 2)
    assert job.label_holders == job.party_names
    assert not job.label_spec.whole


def test_an_analyst_that_is_a_party_is_not_in_the_mesh() -> None:
    given = tables()
    given["job"]["analyst"] = "south"
    job = job_from_dict(given)
    assert job.mesh_roles() == ("ministry", "charity", "dealer")
    assert job.roles == ("north", "south", "west", "ministry", "charity", "dealer", "courier")


def test_defaults() -> None:
    spec = job_from_dict(tables()).federated
    assert spec is not None
    assert (spec.mode, spec.min_clients, spec.answer_seconds) == ("histograms", 2, 600.0)
    assert (spec.epsilon, spec.delta, spec.privacy_unit) == (None, None, "row")
    given = tables()
    given["federated"] = {"epsilon": 1}
    spec = job_from_dict(given).federated
    assert spec is not None
    assert (spec.epsilon, spec.delta, spec.privacy_unit) == (1.0, DELTA, "row")


@pytest.mark.parametrize(
    ("dealer", "parties", "expected"),
    [
        (7100, (7101, 7102, 7103), (7104, 7105)),
        (7100, (7102, 7105, 9000), (7101, 7103)),
        (65535, (1024, 7101, 7102), (1025, 1026)),
        (65534, (1, 2, 3), (65535, 1024)),
        (80, (81, 82, 84), (83, 85)),
    ],
)
def test_local_aggregators_take_free_ports(dealer: int, parties: tuple[int, ...], expected: tuple[int, int]) -> None:
    given = with_local_aggregators()
    given["dealer"]["address"] = f"10.0.0.9:{dealer}"
    for party, port in zip(given["party"], parties, strict=True):
        party["address"] = f"10.0.0.9:{port}"
    job = job_from_dict(given)
    shown = [f"{one.name} {one.address}" for one in job.aggregators]
    assert shown == [f"aggregator{number} 127.0.0.1:{port}" for number, port in enumerate(expected, start=1)]


@pytest.mark.parametrize("make", [tables, with_privacy, with_waiting, with_local_aggregators])
def test_round_trip(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    job = job_from_dict(make())
    path = tmp_path / "job.toml"
    path.write_text(job_to_toml(job))
    again = load_job(path)
    assert again == job
    assert again.job_hash() == job.job_hash()


def test_text_holds_what_is_not_a_default() -> None:
    assert "[federated]" not in job_to_toml(job_from_dict(tables()))
    text = job_to_toml(job_from_dict(with_privacy()))
    assert '[federated]\nmode = "leaf_sums"\nepsilon = 2.5\ndelta = 1e-08\nprivacy_unit = "client"\n' in text
    assert '[[aggregator]]\nname = "charity"\naddress = "10.0.0.2:7200"\n' in text


@settings(max_examples=50, deadline=None)
@given(
    mode=st.sampled_from(["histograms", "leaf_sums"]),
    clients=st.integers(2, 3),
    seconds=st.floats(1e-300, 86_400.0),
    privacy=st.none() | st.tuples(st.floats(0.01, 20.0), st.floats(1e-12, 0.01), st.sampled_from(["row", "client"])),
)
def test_round_trip_of_any_numbers(
    mode: str,
    clients: int,
    seconds: float,
    privacy: tuple[float, float, str] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = tables()
    content["federated"] = {"mode": mode, "min_clients": clients, "answer_seconds": seconds}
    if privacy is not None:
        content["federated"] |= dict(zip(("epsilon", "delta", "privacy_unit"), privacy, strict=True))
    job = job_from_dict(content)
    path = tmp_path_factory.getbasetemp() / "federated.toml"
    path.write_text(job_to_toml(job))
    assert load_job(path) == job


Change = Callable[[dict[str, Any]], object]

BAD: list[tuple[Change, str, str]] = [
    (
        lambda t: t["job"].update(method="federate"),
        "[job], key 'method'",
        'must be "smpc" or "federated": did you mean',
    ),
    (lambda t: t["job"].update(method="smpc"), "[[aggregator]]", 'write method = "federated" under [job]'),
    (lambda t: (t["job"].update(method="smpc"), t.pop("aggregator"), t.update(federated={})), "[federated]", "smpc"),
    (lambda t: t["job"].update(analyst="ministry"), "[job], key 'analyst'", "is an [[aggregator]] too"),
    (lambda t: t["job"].update(analyst="Ministry"), "[job], key 'analyst'", "'ministry' is an [[aggregator]] too"),
    (lambda t: t["job"].update(analyst="courier"), "[job], key 'analyst'", "reserved"),
    (lambda t: t["data"].update(id="patient"), "[data], key 'id'", "is not used by federated: remove it"),
    (lambda t: t["data"].update(join="inner"), "[data], key 'join'", "is not used by federated: remove it"),
    (lambda t: t["data"].update(id="patient", join="left"), "[data], key 'id'", "is not used by federated"),
    (lambda t: t["party"][1]["columns"].remove("age"), "[[party]] 'south', key 'columns'", "'age' is missing: all"),
    (lambda t: t["party"][2]["columns"].remove("ms"), "[[party]] 'west', key 'columns'", "'ms' is missing: all"),
    (lambda t: t["party"][0].update(name="courier"), "[[party]] 'courier', key 'name'", "reserved"),
    (lambda t: t.update(party=t["party"][:1]), "[[party]]", "two data owners are the least"),
    (lambda t: t.update(aggregator=[]), "[[aggregator]]", "is empty"),
    (lambda t: t.update(aggregator={}), "[[aggregator]]", "double square brackets"),
    (lambda t: t["aggregator"].pop(), "there is only one [[aggregator]]", "add another, of another organisation"),
    (lambda t: t["aggregator"][0].pop("address"), "[[aggregator]] 'ministry', key 'address'", "missing"),
    (lambda t: t["aggregator"][0].pop("name"), "[[aggregator]] number 1, key 'name'", "missing"),
    (lambda t: t["aggregator"][0].update(columns=["age"]), "[[aggregator]] 'ministry'", "unknown key 'columns'"),
    (lambda t: t["aggregator"][0].update(address="0.0.0.0:1"), "[[aggregator]] 'ministry', key 'address'", "dial"),
    (lambda t: t["aggregator"][1].update(name="ministry"), "[[aggregator]] 'ministry'", "another aggregator has that"),
    (lambda t: t["aggregator"][1].update(name="Ministry"), "[[aggregator]] 'Ministry'", "in capitals only, 'ministry'"),
    (lambda t: t["aggregator"][1].update(name="north"), "[[aggregator]] 'north', key 'name'", "a party has that name"),
    (lambda t: t["aggregator"][1].update(name="dealer"), "[[aggregator]] 'dealer', key 'name'", "reserved"),
    (lambda t: t["aggregator"][1].update(name="courier"), "[[aggregator]] 'courier', key 'name'", "reserved"),
    (lambda t: t["aggregator"][1].update(name="../x"), "[[aggregator]] '../x', key 'name'", "1 to 64 letters"),
    (
        lambda t: t["aggregator"][1].update(address="10.0.0.1:7200"),
        "[[aggregator]] 'charity', key 'address'",
        "ministry",
    ),
    (lambda t: t["aggregator"][1].update(address="localhost:7102"), "[[aggregator]] 'charity'", "'south' too"),
    (lambda t: t["aggregator"][1].update(address="localhost:7100"), "[[aggregator]] 'charity'", "the dealer too"),
    (lambda t: t.update(federated=[]), "[federated]", "must be a table"),
    (lambda t: t.update(federated={"modus": 1}), "[federated]", "unknown key 'modus': did you mean 'mode'?"),
    (lambda t: t.update(federated={"mode": "sums"}), "[federated], key 'mode'", '"histograms" or "leaf_sums"'),
    (lambda t: t.update(federated={"mode": 1}), "[federated], key 'mode'", "text in double quotes"),
    (lambda t: t.update(federated={"min_clients": 1}), "[federated], key 'min_clients'", "must be at least 2"),
    (lambda t: t.update(federated={"min_clients": 4}), "[federated], key 'min_clients'", "whole number from 2 to 3"),
    (lambda t: t.update(federated={"min_clients": 2.0}), "[federated], key 'min_clients'", "must be a whole number"),
    (lambda t: t.update(federated={"min_clients": True}), "[federated], key 'min_clients'", "must be a whole number"),
    (lambda t: t.update(federated={"answer_seconds": 0}), "[federated], key 'answer_seconds'", "above 0"),
    (lambda t: t.update(federated={"answer_seconds": -1.5}), "[federated], key 'answer_seconds'", "above 0"),
    (lambda t: t.update(federated={"answer_seconds": float("inf")}), "[federated], key 'answer_seconds'", "finite"),
    (lambda t: t.update(federated={"answer_seconds": "1"}), "[federated], key 'answer_seconds'", "must be a number"),
    (
        lambda t: t.update(federated={"answer_seconds": 1e5}),
        "[federated], key 'answer_seconds'",
        "at most 86400, a day",
    ),
    (lambda t: t.update(federated={"epsilon": 0}), "[federated], key 'epsilon'", "from 0.01 to 20"),
    (lambda t: t.update(federated={"epsilon": 21}), "[federated], key 'epsilon'", "from 0.01 to 20"),
    (lambda t: t.update(federated={"epsilon": float("nan")}), "[federated], key 'epsilon'", "finite"),
    (lambda t: t.update(federated={"epsilon": True}), "[federated], key 'epsilon'", "must be a number"),
    (lambda t: t.update(federated={"epsilon": 1, "delta": 0}), "[federated], key 'delta'", "from 1e-12 to 0.01"),
    (lambda t: t.update(federated={"epsilon": 1, "delta": 1}), "[federated], key 'delta'", "from 1e-12 to 0.01"),
    (lambda t: t.update(federated={"epsilon": 1, "privacy_unit": "cell"}), "key 'privacy_unit'", '"row" or "client"'),
    (lambda t: t.update(federated={"delta": 1e-6}), "[federated], key 'delta'", "no meaning without epsilon"),
    (lambda t: t.update(federated={"privacy_unit": "row"}), "[federated], key 'privacy_unit'", "without epsilon"),
    (
        lambda t: t.update(federated={"mode": "leaf_sums"}, model={"monotone_constraints": {"age": 1}}),
        "[model]: parameter monotone_constraints",
        'not available with mode = "leaf_sums"',
    ),
    (
        lambda t: t.update(federated={"epsilon": 1}, model={"early_stopping_rounds": 2}),
        "[model]: parameter early_stopping_rounds",
        "no part in a privacy budget: remove it, or epsilon",
    ),
    (
        lambda t: (
            t.update(
                feature=[{"name": f"gene {number}", "kind": "continuous"} for number in range(1000)],
                model={"max_bin": 1024, "max_depth": 8},
            ),
            [p.update(columns=[*(f"gene {n}" for n in range(1000)), "ms"]) for p in t["party"]],
        ),
        "job: 3 clients would send 2097 MB each",
        "aggregators pass on 2147 MB in all: use a smaller max_bin or max_depth, or fewer features",
    ),
    *(
        (
            lambda t, name=name: t["party"][0].update(name=name),
            f"[[party]] '{name}', key 'name'",
            f"'{name}' is reserved",
        )
        for name in ("nvflare", "project", "localhost")
    ),
]


@pytest.mark.parametrize(("change", "where", "why"), BAD)
def test_bad_job(change: Change, where: str, why: str) -> None:
    given = copy.deepcopy(tables())
    change(given)
    with pytest.raises(JobError) as refused:
        job_from_dict(given)
    message = str(refused.value)
    assert message.startswith("job: ") and "\n" not in message
    assert where in message and why in message


def test_a_party_that_has_the_name_of_a_local_aggregator() -> None:
    given = with_local_aggregators()
    given["party"][0]["name"] = "aggregator1"
    with pytest.raises(JobError, match=r"^job: \[\[aggregator\]\] 'aggregator1', key 'name': a party has that name"):
        job_from_dict(given)


def test_weights_are_at_every_party() -> None:
    given = with_waiting()
    given["party"][1]["columns"].remove("w")
    with pytest.raises(JobError, match=r"\[\[party\]\] 'south', key 'columns': 'w' is missing"):
        job_from_dict(given)


def test_parameters_that_are_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are known are available today; one that is not is refused where it is given, and only there."""
    monkeypatch.setitem(NOT_AVAILABLE, "gamma", "remove it")
    job_from_dict(tables())
    given = tables()
    given["model"]["gamma"] = 0.5
    with pytest.raises(JobError, match=r"^job: \[model\]: parameter gamma is not available in federated: remove it$"):
        job_from_dict(given)


def test_too_many_aggregators() -> None:
    given = tables()
    given["aggregator"] = [{"name": f"a{n}", "address": f"10.0.0.1:{8000 + n}"} for n in range(65)]
    with pytest.raises(JobError, match=r"there are 65 \[\[aggregator\]\] tables: at most 64"):
        job_from_dict(given)

"""`report.html` of federated jobs; what holds for all pages is in test_report.py."""

from typing import Any

import pytest
from tests.jobs.test_federated_spec import tables
from tests.jobs.test_report import Page, make_model

from veilboost.jobs.entries import DEALER
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import Outcome, collected, settings
from veilboost.jobs.report.disclosures import cautions, known_to_all, learned_nothing, not_disclosed, strangeness
from veilboost.jobs.report.page import render
from veilboost.jobs.spec import job_from_dict
from veilboost.mpc.phases import PhaseTotal
from veilboost.trees.ensemble import Ensemble


def make_job(**federated: Any) -> Job:
    return job_from_dict(tables() | {"federated": federated})


def entry(value: str, shape: list[int], receiver: str = "everyone") -> dict[str, Any]:
    return {"receiver": receiver, "value": value, "why": "the trained model", "shape": shape, "round": 7}


LEDGER = [
    entry("base score", [1]),
    entry("edges of every numeric column", [1, 31]),
    entry("feature, bin and default direction of every split", [5, 7]),
    entry("leaf weights", [5, 8]),
]


def make_report(job: Job, lost: tuple[str, ...] = (), dropped: tuple[str, ...] = ()) -> dict[str, Any]:
    """As `veilboost train` makes it: the first aggregator speaks for all."""
    outcomes = {}
    for number, name in enumerate(job.roles, start=1):
        if name in (*lost, "courier"):
            continue
        outcome = Outcome(name, 10 * number, 2.5, [0.1 * number] * 5, {"peer": 1_000_000}, 100 * number)
        if name in (*job.aggregator_names, DEALER):
            outcome.phases = {"setup": PhaseTotal(0.1, 1000)}
        if name == job.lead:
            outcome.dropped = list(dropped)
        outcomes[name] = outcome.to_dict()
    return collected(job, outcomes, lost)


def make_page(job: Job, **report: Any) -> Page:
    model: Ensemble = make_model(job)
    return Page(render(job, model, make_report(job, **report), LEDGER, one_machine=True))


def test_what_the_page_says() -> None:
    job = make_job(min_clients=2, epsilon=1.5, delta=1e-7)
    text = make_page(job, lost=("south",)).text
    for words in (
        "trained on securely aggregated sums of 3 tables",
        "For the federation only.",
        "Lost 1 on the way: south",
        "Rows 40 of all parties together",
        "and the label, at north, south, west",
        "Rounds 400 turns of messages between aggregators",
        "everyone base score",
        "31 values (1 columns \u00d7 31 edges)",
        "35 values (5 trees \u00d7 7 nodes)",
        "round 7 of 400",
        "Each of ministry and charity received one share of every party's numbers",
        "if the two aggregators do not work together and if the dealer does not work together with an aggregator",
        "epsilon = 1.5 and delta = 1e-07",
        "the number of rows of every party",
        "north client 2 and the label 1.0 MB",
        "ministry aggregator",
        "aggregators 2",
        "mode histograms",
        "min_clients 2",
        "privacy_unit row",
    ):
        assert words in text, words
    for words in ("courier", "owner", "nothing 0 values", "ask what it is"):
        assert words not in text, words


def test_no_loss_and_no_privacy() -> None:
    text = make_page(make_job()).text
    assert "on the way" not in text
    assert "The model is not differentially private" in text


def test_report_is_that_of_the_first_aggregator() -> None:
    job = make_job()
    report = make_report(job, lost=("west",), dropped=("west", "north"))
    assert (report["rows"], report["rounds"], report["seconds_per_tree"]) == (40, 400, [pytest.approx(0.4)] * 5)
    assert report["dropped"] == ["north", "west"]
    assert make_report(job)["dropped"] == []
    assert set(report["roles"]) == {"north", "south", "ministry", "charity", "dealer", "university"}


def test_settings() -> None:
    said = settings(make_job(epsilon=2, privacy_unit="client"))
    assert (said["method"], said["aggregators"]) == ("federated", 2)
    assert said["federated"] == {
        "mode": "histograms",
        "min_clients": 2,
        "answer_seconds": 600.0,
        "epsilon": 2.0,
        "delta": 1e-6,
        "privacy_unit": "client",
    }


def test_everyone_has_learned_something() -> None:
    job = make_job()
    assert learned_nothing(job, LEDGER) == []
    assert learned_nothing(job, []) == [name for name in job.roles if name != "courier"]


@pytest.mark.parametrize(
    ("strange", "why"),
    [
        (entry("leaf weights", [5, 8], "university"), "The receiver is one participant"),
        (entry("leaf weights", [5, 8], "north"), "The receiver is one participant"),
        (entry("gradient sums of every client", [3]), "This page knows no such entry"),
    ],
)
def test_entries_out_of_the_ordinary(strange: dict[str, Any], why: str) -> None:
    job = make_job()
    assert all(strangeness(job, one) is None for one in LEDGER)
    assert why in (strangeness(job, strange) or "")
    assert "cannot say what was not disclosed" in not_disclosed(job, [*LEDGER, strange])[0]


def test_entries_of_a_federated_training_are_strange_elsewhere() -> None:
    other = tables()
    del other["aggregator"]
    other["job"]["method"] = "smpc"
    job = job_from_dict(other)
    assert "The receiver is not university" in (strangeness(job, LEDGER[0]) or "")
    assert "knows no such entry" in (strangeness(job, {**LEDGER[1], "receiver": "university"}) or "")


def test_three_aggregators() -> None:
    given = tables()
    given["aggregator"].append({"name": "bureau", "address": "10.0.0.3:7200"})
    said = cautions(job_from_dict(given), one_machine=False)
    assert "if the 3 aggregators do not all work together" in said[0]
    assert "which parties took part in which tree" in known_to_all(job_from_dict(given), 500)

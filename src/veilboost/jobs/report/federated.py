"""What the report says of a federated training alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from veilboost.jobs.federated_spec import FederatedSpec
from veilboost.jobs.job import Job

#: What everybody knows beside the facts of any job.
KNOWN: Final = ("the number of rows of every party", "which parties took part in which tree")

_UNITS: Final = {
    "row": "whether a row says one thing or another",
    "client": "whether the whole table of a party says one thing or another",
}


def not_disclosed(job: Job) -> list[str]:
    """What stayed secret, one sentence or two per line."""
    return [
        "No cell and no label was disclosed, nor what a party computed of its rows, nor any sum of it over the "
        "parties: such numbers left a party, and existed outside it, as secret shares only. What is listed above is "
        "all that left the shared domain.",
        f"Each of {' and '.join(job.aggregator_names)} received one share of every party's numbers, which by itself "
        "is random.",
        "The dealer received no share of anything, and no message between aggregators.",
    ]


def conditions(job: Job) -> list[str]:
    """On what conditions this holds, beside that everybody runs the program as it is."""
    count = len(job.aggregators)
    return [
        f"if the {count} aggregators do not all work together"
        if count > 2
        else "if the two aggregators do not work together",
        "if the dealer does not work together with an aggregator",
    ]


def privacy(spec: FederatedSpec) -> list[str]:
    """What differential privacy promises, or that there is none."""
    if spec.epsilon is None:
        return [
            "The model is not differentially private: it holds exact results of the rows of all parties. epsilon under "
            "[federated] in the job file adds noise."
        ]
    return [
        f"The model is differentially private with epsilon = {spec.epsilon:g} and delta = {spec.delta:g}: it hardly "
        f"depends on {_UNITS[spec.privacy_unit]}."
    ]


def settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a report that only a federated training has, by name."""
    if "federated" not in settings:
        return {}
    return {"aggregators": settings["aggregators"], **settings["federated"]}

"""What a role knows at its end, and the report that comes of the roles' outcomes."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from veilboost.jobs.job import Job
from veilboost.jobs.process import peak_memory
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.phases import PhaseTotal
from veilboost.trees.ensemble import Ensemble
from veilboost.version import __version__


@dataclass
class Outcome:
    """What a role knows at its end; all of it public but the model, which only the analyst has.

    Attributes
    ----------
    role
        Name of the participant.
    rows
        Of every table.
    seconds_setup
        From the start of this process to the first tree.
    seconds_per_tree
        One per tree.
    bytes_sent
        To each peer.
    rounds
        Communication rounds (owners).
    ledger
        Disclosures.
    phases
        Seconds and bytes by phase (owners and dealer).
    model
        At the analyst; of a federated job at every participant that keeps it.
    privacy
        What differential privacy promises: epsilon, and a statement (aggregators of a federated job with a budget).
    dropped
        Names of clients that a federated training went on without (its first aggregator).
    """

    role: str
    rows: int = 0
    seconds_setup: float = 0.0
    seconds_per_tree: list[float] = field(default_factory=list)
    bytes_sent: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    ledger: list[Disclosure] = field(default_factory=list)
    phases: dict[str, PhaseTotal] = field(default_factory=dict)
    model: Ensemble | None = None
    privacy: dict[str, Any] | None = None
    dropped: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """What is not the model, for JSON; with the processor time and the peak memory of this process.

        The analyst's has the validation metrics.
        """
        usage = resource.getrusage(resource.RUSAGE_SELF)
        known = {
            "role": self.role,
            "rows": self.rows,
            "seconds_setup": self.seconds_setup,
            "seconds_per_tree": self.seconds_per_tree,
            "bytes_sent": self.bytes_sent,
            "rounds": self.rounds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": peak_memory(),
            "phases": {name: asdict(total) for name, total in self.phases.items()},
            "ledger": [entry.to_dict() for entry in self.ledger],
        }
        if self.privacy is not None:
            known["privacy"] = self.privacy
        if self.dropped:
            known["dropped"] = self.dropped
        if self.model is not None and self.model.metrics:
            known["metrics"] = {name: {m: list(v) for m, v in by.items()} for name, by in self.model.metrics.items()}
        return known


def collected(job: Job, outcomes: Mapping[str, dict[str, Any]], dropped: Collection[str] = ()) -> dict[str, Any]:
    """The report on a job from what its roles, or some of them, know at their end; by role, as `Outcome.to_dict`.

    Parameters
    ----------
    dropped
        Clients of a federated job that have failed, beside those that its first aggregator went on without.
    """
    first = outcomes.get(job.lead) or next(iter(outcomes.values()))
    report = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": first["rows"],
        "seconds_setup": first["seconds_setup"],
        "seconds_per_tree": first["seconds_per_tree"],
        "bytes_sent": {role: sum(outcome["bytes_sent"].values()) for role, outcome in outcomes.items()},
        "rounds": first["rounds"],
        "roles": {
            role: {name: outcome[name] for name in ("cpu_seconds", "peak_memory_bytes", "phases")}
            for role, outcome in outcomes.items()
        },
        "settings": settings(job),
    }
    if "metrics" in outcomes.get(job.analyst, {}):
        report["metrics"] = outcomes[job.analyst]["metrics"]
    if job.federated is not None:
        missing = {*dropped, *first.get("dropped", ())}
        report["dropped"] = [name for name in job.party_names if name in missing]
        if "privacy" in first:
            report["privacy"] = first["privacy"]
    return report


def settings(job: Job) -> dict[str, Any]:
    """What a report says about how it came about."""
    said = {
        "job": job.name,
        "method": job.method,
        "job_hash": job.job_hash().hex(),
        "parameters": job.parameters.model_dump(),
        "parties": len(job.parties),
        "features": len(job.features),
        "veilboost": __version__,
        "numpy": np.__version__,
        "cores": os.cpu_count(),
    }
    if job.federated is not None:
        said |= {"aggregators": len(job.aggregators), "federated": job.federated.model_dump(exclude_none=True)}
    return said

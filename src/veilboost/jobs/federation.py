"""The roles of a federated job: client, aggregator, dealer, analyst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from veilboost.errors import ProtocolError
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.run import Role
from veilboost.tables.reading import Source

_NOT_YET = "federated training is not available in this version"


def run_client(role: Role, source: Source, where: str) -> Outcome:
    """Train as a client: answer the lead's questions from one's own table."""
    raise ProtocolError(_NOT_YET)


def run_aggregator(role: Role) -> Outcome:
    """Train as an aggregator."""
    raise ProtocolError(_NOT_YET)


def run_federated_dealer(role: Role) -> Outcome:
    """Make the correlated randomness of the aggregators."""
    raise ProtocolError(_NOT_YET)


def run_federated_analyst(role: Role) -> Outcome:
    """Wait for the model as an analyst who is no party."""
    raise ProtocolError(_NOT_YET)


def open_client(job_file: Path, name: str, source: Path, folder: Path, certificates: Path) -> Any:
    """Open a client that answers questions brought by somebody else."""
    raise ProtocolError(_NOT_YET)


def run_courier(
    job_file: Path,
    certificates: Path,
    ask: Callable[[Mapping[str, bytes], float], dict[str, bytes]],
    wait_seconds: float,
) -> None:
    """Carry questions of the lead to clients."""
    raise ProtocolError(_NOT_YET)

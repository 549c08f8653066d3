"""Estimators that train on securely aggregated sums of clients that hold different rows of the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Never

import numpy as np
import polars as pl

from veilboost.estimators.base import Boosted
from veilboost.jobs.entries import FEDERATED
from veilboost.jobs.federated_spec import LEAST_CLIENTS, MODES
from veilboost.jobs.joining import read_alike


class Federated(Boosted):
    """Clients with the same columns, two aggregators and their dealer, all on this machine."""

    _method = FEDERATED

    def __init__(
        self,
        *positional: Never,
        mode: str = MODES[0],
        min_clients: int = LEAST_CLIENTS,
        epsilon: float | None = None,
        delta: float | None = None,
        privacy_unit: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(*positional, **common)
        self.mode = mode
        self.min_clients = min_clients
        self.epsilon = epsilon
        self.delta = delta
        self.privacy_unit = privacy_unit

    def _read(
        self, parties: Mapping[str, Any], needed: Mapping[str, str], row_id: str | None
    ) -> tuple[dict[str, pl.DataFrame], dict[str, tuple[str, ...]]]:
        return read_alike(parties, needed)

    def _federated(self) -> dict[str, Any]:
        names = ("mode", "min_clients", "epsilon", "delta", "privacy_unit")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}

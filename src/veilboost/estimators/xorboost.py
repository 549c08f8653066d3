"""Estimators that train on secret shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from veilboost.estimators.base import Boosted
from veilboost.jobs.entries import SMPC
from veilboost.jobs.joining import read_all


class XORBoost(Boosted):
    """Owners of different rows or columns, joined by an id if there is one."""

    _method = SMPC

    def _read(
        self, parties: Mapping[str, Any], needed: Mapping[str, str], row_id: str | None
    ) -> tuple[dict[str, pl.DataFrame], dict[str, tuple[str, ...]]]:
        return read_all(parties, needed, row_id)

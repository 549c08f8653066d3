"""Made-up tables and the jobs on them, which several benchmarks share."""

from __future__ import annotations

import resource
import socket
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from veilboost.jobs.entries import DEALER
from veilboost.jobs.job import Job
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml

KINDS = ("continuous", "discrete", "flag", "mixed")
SPLITS = ("columns", "rows", "both")
ANALYST = "analyst"
LEVELS = ["other", "referral a", "referral b", "referral c", "referral d"]

#: What a tree does not need, and comes once in every training.
_NOT_OF_A_TREE = ("setup", "reveal")


@dataclass(frozen=True)
class Setting:
    """Size of one training.

    Attributes
    ----------
    rows, columns
        Of the whole table.
    bins, depth, trees
        As `max_bin`, `max_depth`, `n_estimators`.
    owners
        Data owners. Dealer and analyst come on top.
    kind
        One of KINDS. "mixed" has the proportions of the thyroid table: of 29 columns 20 flags, 7 discrete ones with
        missing cells, 2 categorical ones of five levels.
    split
        One of SPLITS. "columns": these are dealt out to the owners in turn, the first one has the label too. "rows":
        every owner has an equal part of them. "both": all owners but the last have an equal part of the rows, with the
        label and every other column, and the last one the other columns for all rows.
    """

    rows: int = 10_000
    columns: int = 30
    bins: int = 10
    depth: int = 3
    trees: int = 5
    owners: int = 2
    kind: str = "continuous"
    split: str = "columns"

    @property
    def names(self) -> list[str]:
        return [f"owner{number}" for number in range(self.owners)]

    @property
    def roles(self) -> list[str]:
        return [*self.names, DEALER, ANALYST]


def features(setting: Setting) -> list[dict[str, Any]]:
    """The `[[feature]]` tables of the job."""
    flags = round(setting.columns * 20 / 29)
    discrete = round(setting.columns * 7 / 29)
    found: list[dict[str, Any]] = []
    for number in range(setting.columns):
        entry: dict[str, Any] = {"name": f"x{number:03d}", "kind": setting.kind}
        if setting.kind == "mixed" and number < flags:
            entry["kind"] = "flag"
        elif setting.kind == "mixed" and number < flags + discrete:
            entry |= {"kind": "discrete", "missing": True}
        elif setting.kind == "mixed":
            entry |= {"kind": "categorical", "levels": LEVELS}
        found.append(entry)
    return found


def make_table(setting: Setting, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Columns and a label that depends on five of them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(setting.rows, setting.columns)).astype(np.float32)
    several = min(5, setting.columns)
    score = values[:, :several] @ rng.normal(size=several) + rng.normal(size=setting.rows)
    cells: dict[str, Any] = {}
    for number, feature in enumerate(features(setting)):
        column = values[:, number]
        if feature["kind"] == "flag":
            column = (column > 0.5).astype(np.float32)
        elif feature["kind"] == "discrete":
            column = column.round(1)
        if feature.get("missing"):
            column = np.where(rng.random(setting.rows) < 0.1, np.nan, column)
        if feature["kind"] == "categorical":
            codes = np.digitize(column, [-1.0, -0.3, 0.3, 1.0])
            cells[feature["name"]] = [LEVELS[code] for code in codes]
        else:
            cells[feature["name"]] = column
    return pl.DataFrame(cells, nan_to_null=True), (score > np.median(score)).astype(int)


def make_job(setting: Setting, addresses: Mapping[str, str]) -> Job:
    """The job of a setting; `addresses` by owner and of the dealer."""
    entries = features(setting)
    return job_from_dict(
        {
            "job": {"name": "benchmark", "method": "smpc", "analyst": ANALYST},
            "model": {
                "objective": "binary:logistic",
                "n_estimators": setting.trees,
                "max_depth": setting.depth,
                "max_bin": setting.bins,
            },
            "data": {"label": "label"},
            "feature": entries,
            "party": [
                {"name": name, "address": addresses[name], "columns": _columns(setting, number)}
                for number, name in enumerate(setting.names)
            ],
            "dealer": {"address": addresses[DEALER]},
        }
    )


def make_data(setting: Setting) -> dict[str, bytes]:
    """Every owner's table as a Parquet file."""
    table, label = make_table(setting)
    table = table.with_columns(pl.Series("label", label))
    data = {}
    for number, name in enumerate(setting.names):
        buffer = BytesIO()
        table[_rows(setting, number)].select(_columns(setting, number)).write_parquet(buffer)
        data[name] = buffer.getvalue()
    return data


def measure(setting: Setting) -> dict[str, Any]:
    """Train with every role as a process of this machine, over TLS on loopback, and say what it cost."""
    names = [*setting.names, DEALER]
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}
    job = make_job(setting, addresses)
    before = _processor_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        job_file = Path(scratch) / "job.toml"
        job_file.write_text(job_to_toml(job), encoding="utf-8")
        report = run_local(job, job_file, make_data(setting), Path(scratch) / "out").report
    return costs(setting, report) | {"cpu_seconds_all_roles": _processor_seconds() - before}


def costs(setting: Setting, report: Mapping[str, Any]) -> dict[str, Any]:
    """What a benchmark keeps of the report of a training."""
    seconds = report["seconds_per_tree"]
    return {
        "settings": asdict(setting),
        # Without the first. Not the median: the dealer works ahead, so that the last trees find their share of it done.
        "seconds_per_tree_mean": statistics.fmean(seconds[1:] or seconds),
        "seconds_per_tree": seconds,
        "seconds_setup": report["seconds_setup"],
        "roles": report["roles"],
        "bytes_sent": report["bytes_sent"],
        "bytes_per_tree": {
            role: sum(phase["bytes_sent"] for name, phase in entry["phases"].items() if name not in _NOT_OF_A_TREE)
            / setting.trees
            for role, entry in report["roles"].items()
        },
        "rounds": report["rounds"],
    }


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at the moment, so that other jobs may run beside this one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _columns(setting: Setting, owner: int) -> list[str]:
    names = [entry["name"] for entry in features(setting)]
    if setting.split == "columns":
        return [*names[owner :: setting.owners], "label"] if owner == 0 else names[owner :: setting.owners]
    if setting.split == "rows":
        return [*names, "label"]
    return names[1::2] if owner == setting.owners - 1 else [*names[::2], "label"]


def _rows(setting: Setting, owner: int) -> slice:
    blocks = {"columns": 1, "rows": setting.owners, "both": setting.owners - 1}[setting.split]
    if blocks == 1 or owner == blocks:
        return slice(0, setting.rows)
    return slice(owner * setting.rows // blocks, (owner + 1) * setting.rows // blocks)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

"""Whole trainings on shares, in memory, and tables for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_bytes

import numpy as np
import numpy.typing as npt
from tests.network import ANALYST, Outcome, execute, owner_names

from veilboost.mpc.prg import KEY_BYTES
from veilboost.mpc.session import Session
from veilboost.tables.binning import BinnedColumn, bin_column
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.reveal import receive_reveal, reveal_to
from veilboost.xorboost.task import TrainingTask
from veilboost.xorboost.train import train

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Columns, who owns them, and labels."""

    features: tuple[Feature, ...]
    values: Float32
    owners: tuple[int, ...]
    labels: Float64
    label_owner: int
    label_range: tuple[float, float] | None = None
    weights: Float64 | None = None
    weight_owner: int | None = None
    weight_range: tuple[float, float] | None = None

    def columns(self, max_bin: int) -> list[BinnedColumn]:
        return [
            bin_column(f, np.ascontiguousarray(v), max_bin) for f, v in zip(self.features, self.values.T, strict=True)
        ]

    def task(self, parameters: Parameters) -> TrainingTask:
        space = CandidateSpace.of(
            self.features, self.owners, len(self.labels), parameters.max_bin, parameters.max_cat_to_onehot
        )
        return TrainingTask(
            space, (self.label_owner,), parameters, self.label_range, self._weight_owners, self.weight_range
        )

    @property
    def _weight_owners(self) -> tuple[int, ...]:
        return () if self.weight_owner is None else (self.weight_owner,)

    def weighted(self, owner: int, rng: np.random.Generator, high: float = 1.0) -> "Table":
        """The same with sample weights between 0 and `high`, some of them 0."""
        weights = high * np.where(rng.random(len(self.labels)) < 0.1, 0, rng.uniform(0.2, 1, len(self.labels)))
        return replace(self, weights=weights, weight_owner=owner, weight_range=(0.0, high))


def train_on_shares(
    table: Table,
    parameters: Parameters,
    owners: int,
    *,
    record: bool = False,
    analyst: str = ANALYST,
    keys: Sequence[bytes] | None = None,
) -> tuple[Ensemble, Outcome]:
    """The model that the analyst receives, and what else there is to see."""
    task = table.task(parameters)
    columns = table.columns(parameters.max_bin)
    names = owner_names(owners)

    def program(session: Session) -> Ensemble | None:
        own = [c if o == session.holder else None for c, o in zip(columns, table.owners, strict=True)]
        labels = table.labels if session.holder == table.label_owner else None
        weights = table.weights if session.holder == table.weight_owner else None
        return reveal_to(session, task, train(session, task, own, labels, weights=weights), analyst)

    outcome = execute(
        program,
        owners,
        record=record,
        keys=keys or [token_bytes(KEY_BYTES) for _ in names],
        analyst=partial(receive_reveal, owners=tuple(names), task=task) if analyst == ANALYST else None,
    )
    received = outcome.analyst_result if analyst == ANALYST else outcome.results[names.index(analyst)]
    assert isinstance(received, Ensemble)
    return received, outcome


def levels(count: int) -> tuple[str, ...]:
    return tuple(f"level {number}" for number in range(count))


#: Classes of the tables drawn for multi:softprob.
CLASSES = 3

#: One feature of every kind that training treats differently.
EVERY_KIND = (
    Feature("continuous", Kind.CONTINUOUS),
    Feature("continuous with gaps", Kind.CONTINUOUS, (), True),
    Feature("discrete", Kind.DISCRETE),
    Feature("discrete with gaps", Kind.DISCRETE, (), True),
    Feature("flag", Kind.FLAG),
    Feature("flag with gaps", Kind.FLAG, (), True),
    Feature("few levels", Kind.CATEGORICAL, levels(3)),
    Feature("few levels with gaps", Kind.CATEGORICAL, levels(3), True),
    Feature("many levels", Kind.CATEGORICAL, levels(9)),
    Feature("many levels with gaps", Kind.CATEGORICAL, levels(9), True),
)


def draw_values(features: Sequence[Feature], rows: int, rng: np.random.Generator) -> Float32:
    """Cells of the given features, a sixth of them missing where they may be."""
    columns = []
    for feature in features:
        if feature.kind is Kind.CONTINUOUS:
            column = rng.normal(size=rows)
        elif feature.kind is Kind.DISCRETE:
            column = rng.integers(-3, 9, rows).astype(float) / 2
        elif feature.kind is Kind.FLAG:
            column = (rng.random(rows) < 0.4).astype(float)
        else:
            column = rng.integers(0, len(feature.levels), rows).astype(float)
        if feature.missing:
            column[rng.random(rows) < 1 / 6] = np.nan
        columns.append(column)
    return np.stack(columns, axis=1).astype(np.float32)


def draw_table(
    features: Sequence[Feature],
    rows: int,
    owners: int,
    objective: str,
    rng: np.random.Generator,
    *,
    label_owner: int | None = None,
) -> Table:
    """A table whose labels depend on several columns and on noise, columns dealt out in turn."""
    values = draw_values(features, rows, rng)
    holders = tuple(number % owners for number in range(len(features)))
    centred = np.nan_to_num(values, nan=0.4)
    centred = (centred - centred.mean(axis=0)) / (centred.std(axis=0) + 1e-6)
    effects = np.where(rng.random(len(features)) < 0.7, rng.normal(size=len(features)), 0)
    signal = centred @ effects + np.sin(3 * centred[:, 0]) + 0.5 * rng.normal(size=rows)
    chosen = owners - 1 if label_owner is None else label_owner
    if objective == "binary:logistic":
        labels = np.zeros(rows)
        labels[np.argsort(signal)[rows // 2 :]] = 1
        return Table(tuple(features), values, holders, labels, chosen)
    if objective == "multi:softprob":
        labels = np.zeros(rows)
        labels[np.argsort(signal)] = np.arange(rows) * CLASSES // rows
        return Table(tuple(features), values, holders, labels, chosen)
    if objective == "count:poisson":
        counts = np.clip(rng.poisson(np.exp(np.clip(0.7 + 0.5 * signal, -3, 3))), 0, 20).astype(np.float64)
        counts[0] = 1  # some row has a count
        return Table(tuple(features), values, holders, counts, chosen, (0.0, 20.0))
    labels = np.clip(50 + 12 * signal, 0, 100)
    return Table(tuple(features), values, holders, labels, chosen, (0.0, 100.0))

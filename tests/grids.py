"""Tables whose rows and columns lie with several owners, and whole trainings on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_bytes

import numpy as np
import numpy.typing as npt
from tests.network import ANALYST, Outcome, execute, owner_names

from veilboost.mpc.prg import KEY_BYTES
from veilboost.mpc.session import Session
from veilboost.tables.binning import ABOVE_ALL, BinnedColumn, BinPlan, Layout, bin_column
from veilboost.tables.pieces import BinnedPiece, bin_piece
from veilboost.tables.schema import Feature
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.candidates import Binned, CandidateSpace
from veilboost.xorboost.reveal import receive_reveal, reveal_to
from veilboost.xorboost.task import TrainingTask
from veilboost.xorboost.train import train

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GridTable:
    """Columns, who owns which rows of them, and labels.

    `owners` and `label_owners` name the one owner of all rows, or the owners block by block.
    """

    features: tuple[Feature, ...]
    values: Float32
    owners: tuple[tuple[int, ...], ...]
    block_rows: tuple[int, ...]
    labels: Float64
    label_owners: tuple[int, ...]
    label_range: tuple[float, float] | None = None

    def task(self, parameters: Parameters) -> TrainingTask:
        space = CandidateSpace.of(
            self.features, self.owners, self.block_rows, parameters.max_bin, parameters.max_cat_to_onehot
        )
        return TrainingTask(space, self.label_owners, parameters, self.label_range)

    def held_by(self, owner: int, space: CandidateSpace, max_bin: int) -> list[Binned | None]:
        """What an owner has of each feature."""
        held: list[Binned | None] = [None] * len(self.features)
        for piece in space.pieces:
            if piece.owner == owner:
                values = np.ascontiguousarray(self.values[piece.rows, piece.feature])
                feature = self.features[piece.feature]
                if piece.proposal is None:
                    held[piece.feature] = bin_column(feature, values, max_bin)
                else:
                    held[piece.feature] = bin_piece(feature, values, piece.proposal, max_bin)
        return held

    def labels_of(self, owner: int | None, task: TrainingTask) -> Float64 | None:
        """The labels that an owner holds."""
        if owner not in self.label_owners:
            return None
        start = 0
        for holder, rows in task.label_parts:
            if holder == owner:
                return self.labels[start : start + rows]
            start += rows
        raise AssertionError

    def pooled_columns(self, parameters: Parameters) -> list[BinnedColumn]:
        """What all columns amount to: for the oracle, which sees everything.

        A pooled column's candidates are all owners' cuts, and a row lies where the middle of its fine bin lies.
        """
        space = self.task(parameters).space
        columns = []
        for number, feature in enumerate(self.features):
            own = [space.pieces[p] for p in space.pieces_of(number)]
            if own[0].proposal is None:
                columns.append(bin_column(feature, np.ascontiguousarray(self.values[:, number]), parameters.max_bin))
                continue
            parts = [self.held_by(piece.owner, space, parameters.max_bin)[number] for piece in own]
            columns.append(pooled(feature, [part for part in parts if isinstance(part, BinnedPiece)]))
        return columns


def pooled(feature: Feature, parts: Sequence[BinnedPiece]) -> BinnedColumn:
    """All owners' rows of a column, sorted into the intervals between all owners' cuts."""
    cuts = np.sort(np.concatenate([part.cuts for part in parts]))
    if feature.missing:
        cuts = np.append(cuts, ABOVE_ALL)
    n_bins = len(cuts) + (0 if feature.missing else 1)
    bins = []
    for part in parts:
        fine = part.column
        missing = fine.bins == fine.plan.n_bins
        middles = part.middles[np.where(missing, 0, fine.bins)]
        bins.append(np.where(missing, n_bins, np.searchsorted(cuts, middles, side="right")).astype(np.uint16))
    plan = BinPlan(Layout.POOLED, n_bins, 0, 0, len(cuts))
    return BinnedColumn(feature, plan, np.concatenate(bins), cuts, np.ones(len(cuts), dtype=np.bool_))


def train_on_grid(
    table: GridTable, parameters: Parameters, owners: int, *, record: bool = False
) -> tuple[Ensemble, Outcome]:
    """The model that the analyst receives, and what else there is to see."""
    task = table.task(parameters)
    names = owner_names(owners)

    def program(session: Session) -> Ensemble | None:
        held: list[Binned | None] = [None] * len(table.features)
        if session.holder is not None:
            held = table.held_by(session.holder, task.space, parameters.max_bin)
        labels = table.labels_of(session.holder, task)
        return reveal_to(session, task, train(session, task, held, labels), ANALYST)

    outcome = execute(
        program,
        owners,
        record=record,
        keys=[token_bytes(KEY_BYTES) for _ in names],
        analyst=partial(receive_reveal, owners=tuple(names), task=task),
    )
    assert isinstance(outcome.analyst_result, Ensemble)
    return outcome.analyst_result, outcome

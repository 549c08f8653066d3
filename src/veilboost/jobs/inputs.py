"""From a party's table to what it brings into the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.jobs.alignment import Matching, disclosures_of
from veilboost.jobs.spec import Job
from veilboost.mpc.ledger import Disclosure
from veilboost.tables.binning import bin_column
from veilboost.tables.pieces import bin_piece
from veilboost.tables.reading import Source
from veilboost.tables.table import Table, load_table
from veilboost.xorboost.candidates import Binned, CandidateSpace
from veilboost.xorboost.task import TrainingTask

#: How much wider than the labels `label_range` may be.
_WIDEST_RANGE = 1000


def read_table(job: Job, name: str, source: Source, where: str) -> Table:
    """A party's table, checked; `where` names it in error messages.

    Raises
    ------
    InputError
        When something is wrong with it, or it alone has more rows than training can hold.
    """
    table = load_table(
        source,
        features=job.features_of(name),
        label=job.label_spec if name in job.label_holders else None,
        weight=job.weight_spec if name in job.weight_holders else None,
        row_id=job.data.id,
        name_for_errors=where,
    )
    if job.grid.blocks == 1:
        _ = training_task(job, [table.rows]).scales  # refuses more rows than the fixed-point range allows
    if table.label is not None and job.data.label_range is not None:
        _check_label_spread(table.label, job.data.label_range, where)
    return table


def training_task(job: Job, block_rows: Sequence[int]) -> TrainingTask:
    """The public task of a job on blocks of the given numbers of rows."""
    owners = [job.grid.holders[feature.name] for feature in job.features]
    parameters, weight = job.parameters, job.data.weight
    space = CandidateSpace.of(job.features, owners, block_rows, parameters.max_bin, parameters.max_cat_to_onehot)
    weight_owners = () if weight is None else job.grid.holders[weight]
    holders = job.grid.holders[job.data.label]
    return TrainingTask(space, holders, parameters, job.data.label_range, weight_owners, job.data.weight_range)


def bin_columns(job: Job, task: TrainingTask, name: str, table: Table) -> list[Binned | None]:
    """A party's binned columns by feature; None for those that it does not hold.

    Raises
    ------
    InputError
        When the rows that matching by id has left are of one class, where labels of both are needed.
    """
    if job.data.id is not None and job.label_spec.whole and table.label is not None:
        _check_classes(job, table.label)
    own = job.party_names.index(name)
    columns: list[Binned | None] = [None] * len(job.features)
    for piece in task.space.pieces:
        if piece.owner != own:
            continue
        feature = job.features[piece.feature]
        values = table.values(feature.name)
        if piece.proposal is None:
            columns[piece.feature] = bin_column(feature, values, job.parameters.max_bin)
        else:
            columns[piece.feature] = bin_piece(feature, values, piece.proposal, job.parameters.max_bin)
    return columns


def matching(job: Job) -> Matching:
    """Whose rows are matched by id."""
    return Matching(job.party_names, job.grid, job.label_holders, job.data.join == "left")


def disclosed_by_matching(job: Job, block_rows: Sequence[int]) -> list[Disclosure]:
    """What the ledger says of matching; nothing where rows belong together as they are."""
    return [] if job.data.id is None else disclosures_of(matching(job), block_rows)


def _check_classes(job: Job, labels: npt.NDArray[np.float64]) -> None:
    objective = job.parameters.objective
    if objective == "binary:logistic" and labels.min() == labels.max():
        raise InputError(
            f"the labels of all {len(labels)} rows that were matched by id are of one class: {objective} needs both: "
            'check that the tables write the same ids alike, or keep all rows with join = "left"'
        )


def _check_label_spread(labels: npt.NDArray[np.float64], label_range: tuple[float, float], where: str) -> None:
    """Refuse labels that fixed point would hardly tell apart."""
    spread = float(labels.max() - labels.min())
    if 0 < spread * _WIDEST_RANGE < label_range[1] - label_range[0]:
        raise InputError(
            f"{where}: label_range in the job file is over {_WIDEST_RANGE} times as wide as the labels: "
            "narrow it, or the model will be coarse"
        )

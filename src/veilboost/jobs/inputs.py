"""From a party's table to what it brings into the training."""

from __future__ import annotations

from collections.abc import Sequence

from veilboost.jobs.alignment import Matching, disclosures_of
from veilboost.jobs.job import Job
from veilboost.jobs.limits import LEAST_ROWS, check_labels, check_rows, check_table
from veilboost.mpc.ledger import Disclosure
from veilboost.tables.binning import bin_column
from veilboost.tables.pieces import bin_piece
from veilboost.tables.reading import Source
from veilboost.tables.table import Table, load_table
from veilboost.xorboost.candidates import Binned, CandidateSpace
from veilboost.xorboost.task import TrainingTask


def read_table(job: Job, name: str, source: Source, where: str) -> Table:
    """A party's table, checked; `where` names it in error messages.

    Raises
    ------
    InputError
        When something is wrong with it, or with the job as far as its number of rows tells.
    """
    table = load_table(
        source,
        features=job.features_of(name),
        label=job.label_spec if name in job.label_holders else None,
        weight=job.weight_spec if name in job.weight_holders else None,
        row_id=job.data.id,
        name_for_errors=where,
    )
    check_table(job, name, table, where)
    return table


def training_task(job: Job, block_rows: Sequence[int]) -> TrainingTask:
    """The public task of a job on blocks of the given numbers of rows.

    Raises
    ------
    InputError
        At all participants alike, when the rows are too few or too many.
    """
    check_rows(job, sum(block_rows), sum(block_rows))
    owners = [job.grid.holders[feature.name] for feature in job.features]
    parameters, weight = job.parameters, job.data.weight
    space = CandidateSpace.of(job.features, owners, block_rows, parameters.max_bin, parameters.max_cat_to_onehot)
    weight_owners = () if weight is None else job.grid.holders[weight]
    holders = job.grid.holders[job.data.label]
    return TrainingTask(space, holders, parameters, job.data.label_range, weight_owners, job.data.weight_range)


def bin_columns(job: Job, task: TrainingTask, name: str, table: Table, where: str) -> list[Binned | None]:
    """A party's binned columns by feature; None for those that it does not hold.

    Parameters
    ----------
    table
        With the rows of the training, in their order; `where` names it in error messages.

    Raises
    ------
    InputError
        When matching by id has left rows from whose labels or weights nothing can be learned.
    """
    if job.data.id is not None:
        check_labels(job, table, where)
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
    return Matching(job.party_names, job.grid, job.label_holders, job.data.join == "left", LEAST_ROWS)


def disclosed_by_matching(job: Job, block_rows: Sequence[int] | None) -> list[Disclosure]:
    """What the ledger says of matching, as `disclosures_of`; nothing where rows belong together as they are."""
    return [] if job.data.id is None else disclosures_of(matching(job), block_rows)

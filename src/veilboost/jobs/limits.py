"""What a training must not fall short of or exceed: public limits, and labels and weights to learn from.

Public limits follow from the job file and from numbers of rows. Every role checks them, first before it opens its
port, with what it knows of the number of rows by then, and again as soon as the rows of each block are known; nothing
secret has been sent by then. What only an owner can check, it checks when it holds the whole column: an owner of some
rows cannot know about the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.jobs.job import Job
from veilboost.tables.table import Table
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.objectives.choose import objective_of
from veilboost.xorboost.validation import check_held_back

#: A training has at least so many rows in all: a model of fewer would speak of each of them.
LEAST_ROWS = 20

#: How much wider than the labels `label_range` may be.
_WIDEST_RANGE = 1000


def check_rows(job: Job, least: int, most: int | None) -> None:
    """Refuse a job that its public facts make impossible.

    Parameters
    ----------
    least, most
        Bounds of the number of rows of all blocks together, as far as they are known; `most` None: unknown.

    Raises
    ------
    InputError
        Too few rows, in all or held back for early stopping; values that fixed point does not hold.
    """
    if most is not None and most < LEAST_ROWS:
        raise InputError(f"{most} rows are too few to train on: a training needs at least {LEAST_ROWS} in all")
    objective_of(job.parameters, job.data.label_range, job.data.weight_range).scales(max(least, LEAST_ROWS))
    if most is not None:
        check_held_back(job.parameters, most)


def warnings_of(job: Job, rows: int) -> list[str]:
    """What operators should know before they train on so many rows: public facts, one line each.

    Hessians are in units of the upper bounds of counts and weights. Where these are large, regularisation may be less
    than fixed point tells from 0.
    """
    objective, parameters = objective_of(job.parameters, job.data.label_range, job.data.weight_range), job.parameters
    unit, scaled = objective.unit.hessian, objective.unit.scaled(parameters)
    last_place = 2.0 ** -objective.scales(rows).hessian_bits
    bounds = ["label_range"] if parameters.objective == "count:poisson" else []
    bounds += ["weight_range"] if job.data.weight is not None else []
    warnings = []
    if parameters.objective == "reg:squarederror" and parameters.subsample < 1 and parameters.reg_lambda == 0:
        warnings.append(
            f"subsample = {parameters.subsample:g} with reg_lambda = 0: residuals may grow beyond what fixed point "
            "holds: give reg_lambda a value"
        )
    return warnings + [
        f"{name} = {getattr(parameters, name):g} is below what fixed point resolves here, {last_place * unit:.2g}: "
        f"lower the upper bound of {' or '.join(bounds)}, or it counts about as 0"
        for name in ("reg_lambda", "min_child_weight")
        if unit > 1 and bounds and 0 < getattr(scaled, name) < last_place
    ]


def check_table(job: Job, name: str, table: Table, where: str) -> None:
    """Refuse a party's table before the others are met.

    Raises
    ------
    InputError
        As `check_rows` and `check_labels`.
    """
    least, most = _bounds_of_rows(job, name, table.rows)
    check_rows(job, least, most)
    if job.data.id is None:
        check_labels(job, table, where)
    elif job.label_spec.whole and table.label is not None:  # rows that match may have less of a spread, never more
        _check_spread(job, table.label, where)


def check_labels(job: Job, table: Table, where: str) -> None:
    """Refuse labels and weights that nothing can be learned from, where this table has all of a column.

    Parameters
    ----------
    table
        With the rows of the training, in their order.

    Raises
    ------
    InputError
        Of the rows that are not held back for early stopping: labels of one class for binary:logistic, or only counts
        of 0; weights of 0 only; labels far closer together than `label_range`.
    """
    training = ~validation_rows(job.parameters, table.rows)
    which = f"the {int(training.sum())} rows"
    which += " matched by id" if job.data.id is not None else ""
    which += " and" if job.data.id is not None and not training.all() else ""
    which += " not held back for early stopping" if not training.all() else ""
    mend = ""
    if job.data.id is not None:
        mend = ': check that the tables write the same ids alike, or keep all rows with join = "left"'
    if table.weight is not None and len(job.weight_holders) == 1 and not table.weight[training].any():
        raise InputError(f"{where}: column '{job.data.weight}': the weights of {which} are all 0{mend}")
    if table.label is None or not job.label_spec.whole:
        return
    labels, objective = table.label[training], job.parameters.objective
    at = f"{where}: column '{job.data.label}'"
    if objective == "binary:logistic" and labels.min() == labels.max():
        raise InputError(f"{at}: the labels of {which} are of one class: {objective} needs both{mend}")
    if objective == "count:poisson" and not labels.any():
        raise InputError(f"{at}: the counts of {which} are all 0: there is nothing to learn{mend}")
    _check_spread(job, table.label, where)


def _check_spread(job: Job, labels: npt.NDArray[np.float64], where: str) -> None:
    """Refuse labels that fixed point would hardly tell apart."""
    if job.data.label_range is None:
        return
    low, high = job.data.label_range
    if 0 < float(labels.max() - labels.min()) * _WIDEST_RANGE < high - low:
        raise InputError(
            f"{where}: label_range in the job file is over {_WIDEST_RANGE} times as wide as the labels: "
            "narrow it, or the model will be coarse"
        )


def _bounds_of_rows(job: Job, name: str, rows: int) -> tuple[int, int | None]:
    """What a party with so many rows knows of the number of rows of all blocks together."""
    whole = job.grid.block_of[job.party_names.index(name)] is None
    if job.data.id is None:
        return (rows, rows) if whole else (rows + job.grid.blocks - 1, None)
    if job.grid.blocks > 1:  # an id in two blocks is two rows
        return 0, None
    if job.data.join == "left":
        return (rows, rows) if name in job.label_holders else (0, None)
    return 0, rows

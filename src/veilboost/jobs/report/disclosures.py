"""The ledger in words: who learned what, why and how much of it, and what nobody learned.

It says no more than docs/leakage.md, whose words it follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from veilboost.jobs.alignment import BLOCK_ROWS, IDS_COUNTED, IDS_SHARED, IDS_TRAINED
from veilboost.jobs.entries import DEALER
from veilboost.jobs.spec import Job

_TIMES: Final = " \u00d7 "


@dataclass(frozen=True)
class Meaning:
    """What an entry of the ledger is.

    Attributes
    ----------
    words
        A sentence.
    dimensions
        What the numbers of its shape count, such as trees and nodes.
    bits
        Whether the last dimension counts the bits of each value.
    """

    words: str
    dimensions: tuple[str, ...]
    bits: bool = False


#: Every entry that training in mode `smpc` makes, by its `value`.
MEANINGS: Final[dict[str, Meaning]] = {
    "base score": Meaning(
        "The prediction before the first tree: the mean label, or the log-odds of the two classes, from which one can "
        "compute how many rows are positive.",
        ("number",),
    ),
    "feature, categories and default direction of every split": Meaning(
        "For every node whether it splits, and if it does, on which column or set of categories and which way missing "
        "values go. All zero where a node does not split.",
        ("trees", "nodes"),
        bits=True,
    ),
    "threshold of every split": Meaning(
        "The number that a split compares with, halfway between two neighbouring values of the column. Zero where a "
        "node does not split.",
        ("trees", "nodes"),
        bits=True,
    ),
    "leaf weights": Meaning(
        "What each leaf adds to a prediction, learning rate included. Zero where no rows can be.", ("trees", "leaves")
    ),
    "gain of every split (reveal_gain)": Meaning(
        "How much each split improves the model. Zero where a node does not split.", ("trees", "nodes")
    ),
    "validation metric of every round": Meaning(
        "How well the model after each round does on the rows held back: the mean over all of them, at least 50, "
        "rounded before it was disclosed.",
        ("rounds",),
    ),
    IDS_COUNTED: Meaning("How many rows the other party's table has.", ("number",)),
    IDS_SHARED: Meaning(
        "For each of its own ids whether the other party has it too. Nothing of ids that it does not have itself.",
        ("list",),
    ),
    IDS_TRAINED: Meaning(
        "For each of its own ids whether it is a row of the training, and where. Nothing of ids that it does not have "
        "itself.",
        ("rows",),
    ),
    BLOCK_ROWS: Meaning("How many rows the training has, in each block of rows.", ("blocks",)),
    "hessian sum of every node (reveal_gain)": Meaning(
        "For squared error the number of rows in each node; for the first tree of logistic loss proportional to it.",
        ("trees", "nodes and leaves"),
    ),
}


#: Entries of matching rows by id, whose receivers are not the analyst.
_OF_MATCHING: Final = frozenset({IDS_COUNTED, IDS_SHARED, IDS_TRAINED, BLOCK_ROWS})


def amount(entry: Mapping[str, Any]) -> str:
    """How many values an entry disclosed, such as "300 codes of 64 bits (20 trees x 15 nodes)"."""
    meaning, shape = MEANINGS.get(entry["value"]), list(entry["shape"])
    if meaning is None or len(shape) != len(meaning.dimensions) + meaning.bits:
        return f"{prod(shape):,} values ({_TIMES.join(map(str, shape))})"
    counted = shape[: len(meaning.dimensions)]
    values = f"{prod(counted):,} {'value' if prod(counted) == 1 else 'values'}"
    values += f" of {shape[-1]} bits" if meaning.bits else ""
    if len(counted) == 1:
        return values
    sizes = _TIMES.join(f"{count} {name}" for count, name in zip(counted, meaning.dimensions, strict=True))
    return f"{values} ({sizes})"


def strangeness(job: Job, entry: Mapping[str, Any]) -> str | None:
    """Why an entry is out of the ordinary; None if it is one of docs/leakage.md, for the analyst."""
    if entry["value"] in _OF_MATCHING and job.data.id is not None:
        return None
    if entry["receiver"] != job.analyst:
        return f"The receiver is not {job.analyst}, the analyst of the job."
    if entry["value"] not in MEANINGS:
        return "This page knows no such entry: ask what it is before you accept it."
    return None


def learned_nothing(job: Job, ledger: Sequence[Mapping[str, Any]]) -> list[str]:
    """The participants that no entry names, but for the matching of rows."""
    receivers = {entry["receiver"] for entry in ledger if entry["value"] not in _OF_MATCHING}
    return [role for role in job.roles if role not in receivers]


def not_disclosed(job: Job, ledger: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stayed secret, one sentence per line; nothing is promised if the ledger has entries out of the ordinary."""
    if any(strangeness(job, entry) for entry in ledger):
        return [
            "The ledger has entries out of the ordinary, marked above. As long as nobody explains them, this page "
            "cannot say what was not disclosed."
        ]
    nothing = learned_nothing(job, ledger)
    owners = [name for name in job.party_names if name in nothing]
    lines = [
        "No cell, bin or label was disclosed, nor a cut that no split uses, a gradient, a histogram, or the path of a "
        "row through a tree: outside their owner they existed as secret shares only. What is listed above is all that "
        "left the shared domain.",
        f"{job.analyst} received nothing about nodes that do not split, and not where a threshold lies among the bins "
        "of its owner" + ("." if job.parameters.reveal_gain else "; no gains and no hessian sums either."),
    ]
    if owners:
        who = " and ".join(owners) if len(owners) < 3 else f"{', '.join(owners[:-1])} and {owners[-1]}"
        lines.append(
            f"{who} received nothing of the model: not which column a node splits on, not whether it splits, no "
            "threshold and no weight."
        )
    if DEALER in nothing:
        lines.append(f"The {DEALER} received nothing but greetings: no data, no message between owners, no model.")
    return lines


def known_to_all(job: Job, rows: int | None) -> str:
    """What is public by construction."""
    parameters = job.parameters
    rates = (
        parameters.subsample,
        parameters.colsample_bytree,
        parameters.colsample_bylevel,
        parameters.colsample_bynode,
    )
    known = [
        "the job file (names, kinds and levels of columns, parameters)",
        f"the number of rows ({rows:,})" if rows else "the number of rows",
        "names and versions of the others",
        "sizes and order of messages",
    ]
    if min(rates) < 1:
        known.append("which rows and columns each tree may use")
    return f"Every participant knows {', '.join(known[:-1])}, and {known[-1]}."


def cautions(job: Job, *, one_machine: bool) -> list[str]:
    """Under what conditions all this holds, one sentence or two per line."""
    least = job.parameters.min_rows_per_leaf
    lines = [
        "This holds if every participant runs the program as it is, and if the dealer does not work together with an "
        "owner. The protocols and the code have not been audited.",
        "A model speaks of the data it was trained on. "
        + (
            f"No leaf describes fewer than {least} of the rows that its tree was trained on (min_rows_per_leaf)."
            if least > 1
            else f"min_rows_per_leaf is {least}, so a leaf may describe a single row."
        ),
    ]
    if job.analyst in job.party_names:
        lines.append(
            f"{job.analyst} is a data owner too. What it can work out from the model together with its own table is "
            "not in the list; docs/leakage.md describes it."
        )
    if one_machine:
        lines.append(
            "All roles of this run were processes of one machine, under one user who has all tables and keys anyway. "
            "Such a run shows how the job behaves; it protects nothing from that user."
        )
    return lines

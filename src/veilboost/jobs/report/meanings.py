"""What each entry of a ledger is, in words that follow docs/leakage.md."""

from dataclasses import dataclass
from typing import Final

from veilboost.jobs.alignment import BLOCK_ROWS, IDS_COUNTED, IDS_SHARED, IDS_TRAINED


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
        "The prediction before the first tree: the mean label or count, or what follows from the frequencies of "
        "classes, so that one can compute from it how many rows are of each.",
        ("numbers",),
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
OF_MATCHING: Final = frozenset({IDS_COUNTED, IDS_SHARED, IDS_TRAINED, BLOCK_ROWS})

#: Entries of a federated training beside those of `MEANINGS`, by their `value`.
FEDERATED_MEANINGS: Final[dict[str, Meaning]] = {
    "edges of every numeric column": Meaning(
        "The values between which each numeric column is cut into bins: quantiles of the rows of all clients together. "
        "A split compares with one of them.",
        ("columns", "edges"),
    ),
    "feature, bin and default direction of every split": Meaning(
        "For every node whether it splits, and if it does, on which column, at which edge or set of categories, and "
        "which way missing values go.",
        ("trees", "nodes"),
    ),
    "categories of every split into sets": Meaning(
        "Which categories go right, of every split of a column that is split into sets of categories.",
        ("trees", "nodes", "bins"),
    ),
}


def meaning_of(value: str) -> Meaning | None:
    """What an entry with this `value` is; None if it is one that no training makes."""
    return MEANINGS.get(value) or FEDERATED_MEANINGS.get(value)

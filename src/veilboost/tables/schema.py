"""What is public about a column: its name, its kind, its levels and whether cells may be empty."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the values of a column are spread; decides how the column is laid out for training."""

    CONTINUOUS = "continuous"  # any number, few ties
    DISCRETE = "discrete"  # any number, many ties
    CATEGORICAL = "categorical"  # text, one of a public list of levels
    FLAG = "flag"  # 0/1, true/false, t/f, yes/no


@dataclass(frozen=True)
class Feature:
    """One column that the model may split on.

    Attributes
    ----------
    name
        Name of the column in its owner's table and in the model.
    kind
        See `Kind`.
    levels
        The categories of a categorical column in the order of their codes; empty for other kinds.
    missing
        Whether cells may be empty. Public; which cells are empty is not.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    missing: bool = False

    @property
    def categorical(self) -> bool:
        return self.kind is Kind.CATEGORICAL

"""Who holds which cells: the grid of row blocks and column blocks that the parties' columns say.

A column that one party lists lies whole with it: that party has all rows. Parties that list the same column hold
different rows of it; the first of them in the order of the job file holds the first block of rows, and so on. So every
column that is split by rows has one party for each block, and every party holds either one block or all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from veilboost.errors import JobError


@dataclass(frozen=True)
class Grid:
    """Public: blocks of rows, and who holds what.

    Attributes
    ----------
    blocks
        Number of blocks of rows; 1 when no column is split by rows.
    holders
        Of every column the position of its party, or of its parties block by block.
    block_of
        Of every party the block whose rows it holds; None when it holds all rows.
    """

    blocks: int
    holders: dict[str, tuple[int, ...]]
    block_of: tuple[int | None, ...]

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[str]], where: str, at: Callable[[str], str]) -> Grid:
        """The grid of parties that hold the given columns.

        Parameters
        ----------
        columns
            Of each party, in order, the features and the label that it lists.
        where, at
            What errors call the job file, and the columns of a party.

        Raises
        ------
        JobError
            When the columns make no grid; with the party, the column and how to mend it.
        """
        holders: dict[str, tuple[int, ...]] = {}
        parties = list(columns)
        for position, listed in enumerate(columns.values()):
            for column in listed:
                holders[column] = (*holders.get(column, ()), position)
        split = {column: held for column, held in holders.items() if len(held) > 1}
        blocks = len(next(iter(split.values()))) if split else 1
        block_of: list[int | None] = [None] * len(parties)
        by: dict[int, str] = {}
        for column, held in split.items():
            if len(held) != blocks:
                first = next(iter(split))
                raise JobError(
                    f"{where}: the column '{column}' lies with {len(held)} parties and '{first}' with {blocks}: every "
                    "column that is split by rows needs one party for each block of rows; list it at those that lack "
                    "it, with empty cells in their tables (missing = true), or remove it"
                )
            for block, position in enumerate(held):
                if block_of[position] not in (None, block):
                    name = parties[position]
                    raise JobError(
                        f"{at(name)}: it is number {block + 1} of those that hold '{column}' but another "
                        f"number of those that hold '{by[position]}': parties that hold the same rows must come in "
                        "the same order for every column"
                    )
                block_of[position] = block
                by[position] = column
        for column, held in holders.items():
            if len(held) == 1 and block_of[held[0]] is not None:
                shared = by[held[0]]
                others = " and ".join(parties[position] for position in holders[shared] if position != held[0])
                raise JobError(
                    f"{at(parties[held[0]])}: '{shared}' is also at {others}, so each has different rows, but "
                    f"'{column}' is here alone: if '{shared}' says which rows belong together, make it the id; if it "
                    f"is there twice, keep it at one; else list '{column}' at all, with empty cells (missing = true)"
                )
        return cls(blocks, holders, tuple(block_of))

    def parties_of(self, block: int) -> tuple[int, ...]:
        """Positions of the parties that hold rows of a block, those of all rows included."""
        return tuple(position for position, own in enumerate(self.block_of) if own in (None, block))

"""All tables in one process, read and put together in the clear: only where the caller holds them all anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from veilboost.errors import DataError, InputError
from veilboost.jobs.grid import Grid
from veilboost.tables.alignment import read_ids
from veilboost.tables.reading import column_names, read_columns


def read_all(
    parties: Mapping[str, Any], needed: Mapping[str, str], row_id: str | None
) -> tuple[dict[str, pl.DataFrame], dict[str, tuple[str, ...]]]:
    """All columns of all tables, joined on the id if there is one; and who holds each column.

    Parameters
    ----------
    parties
        Table of each party: a data frame or a path.
    needed
        What a column is needed for, and its name.
    row_id
        Column that says which rows belong together; it is dropped.

    Raises
    ------
    InputError
        When a table cannot be read, the tables do not fit together, or a needed column is nowhere.
    """
    frames = _read(parties)
    if row_id is not None:
        frames = {party: frame.with_columns(_ids(frame, row_id, party)) for party, frame in frames.items()}
    columns = {party: [column for column in frame.columns if column != row_id] for party, frame in frames.items()}
    grid = Grid.of(columns, "tables", lambda party: f"table of {party}")
    for purpose, name in needed.items():
        if name not in grid.holders:
            raise InputError(f"{purpose} '{name}': no table has this column: check the name")
    names = list(frames)
    holders = {column: tuple(names[position] for position in owners) for column, owners in grid.holders.items()}
    if row_id is not None:
        frames = _align(frames, row_id, grid)
    counts = {party: frame.height for party, frame in frames.items()}
    if grid.blocks == 1 and len(set(counts.values())) > 1:
        shown = ", ".join(f"{party} has {count}" for party, count in counts.items())
        raise DataError(f"the tables have different numbers of rows ({shown}): align them, or name a common id column")
    return frames, holders


def read_alike(
    parties: Mapping[str, Any], needed: Mapping[str, str]
) -> tuple[dict[str, pl.DataFrame], dict[str, tuple[str, ...]]]:
    """All columns of tables that hold different rows of the same columns; and who holds each column: everybody.

    Parameters
    ----------
    parties, needed
        As `read_all`.

    Raises
    ------
    InputError
        When a table cannot be read, lacks a column of another, or a needed column is nowhere.
    """
    frames = _read(parties)
    columns = {party: frame.columns for party, frame in frames.items()}
    for purpose, name in needed.items():
        if not any(name in held for held in columns.values()):
            raise InputError(f"{purpose} '{name}': no table has this column: check the name")
    check_alike(columns, {party: f"table of {party}" for party in frames})
    names = list(dict.fromkeys(name for held in columns.values() for name in held))
    return frames, dict.fromkeys(names, tuple(frames))


def check_alike(columns: Mapping[str, Sequence[str]], where: Mapping[str, str]) -> None:
    """Refuse tables of which one lacks a column that another has.

    Parameters
    ----------
    columns, where
        By party the columns of its table, and what messages call it.

    Raises
    ------
    DataError
        With table and column.
    """
    for party, held in columns.items():
        for other, wanted in columns.items():
            for name in wanted:
                if name not in held:
                    raise DataError(
                        f"{where[party]}: there is no column '{name}', which {where[other]} has: federated training "
                        "needs the same columns in every table: add it, or leave it out everywhere"
                    )


def _read(parties: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    frames: dict[str, pl.DataFrame] = {}
    for party, source in parties.items():
        where = f"table of {party}"
        frames[party] = read_columns(source, column_names(source, where), where)
        if frames[party].height == 0:
            raise DataError(f"{where}: the table has no rows: give at least one row below the header")
    return frames


def _align(frames: dict[str, pl.DataFrame], row_id: str, grid: Grid) -> dict[str, pl.DataFrame]:
    """Keep the rows whose id all tables of their block have, in the order of the first of them."""
    names = list(frames)
    aligned: dict[str, list[pl.DataFrame]] = {party: [] for party in names}
    for block in range(grid.blocks):
        members = [names[position] for position in grid.parties_of(block)]
        # The order of the party that has this block only, if there is one.
        members.sort(key=lambda party: grid.block_of[names.index(party)] is None)
        common = frames[members[0]][row_id]
        for party in members[1:]:
            common = common.filter(common.is_in(frames[party][row_id].to_list()))
        if len(common) == 0:
            raise DataError(
                f"the tables of {', '.join(members)} have no id of column '{row_id}' in common: "
                "check that they use the same ids"
            )
        order = common.to_frame(row_id)
        for party in members:
            aligned[party].append(order.join(frames[party], on=row_id, how="left", maintain_order="left").drop(row_id))
    return {party: pl.concat(parts) for party, parts in aligned.items()}


def _ids(frame: pl.DataFrame, row_id: str, party: str) -> pl.Series:
    """The ids of a table as text, each there and there once, by the rules of matching in private."""
    where = f"table of {party}"
    if row_id not in frame.columns:
        raise DataError(f"{where}: there is no id column '{row_id}': add it, or leave id out if the rows are aligned")
    return pl.Series(row_id, read_ids(frame[row_id], where), dtype=pl.String)

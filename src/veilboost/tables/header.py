"""Where columns are in a table, by their names."""

from collections.abc import Sequence

from veilboost.errors import DataError


def find_columns(header: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """Position of every name; never prints the header, which may be a row of data when a file has none."""
    stripped = [column.strip() for column in header]
    positions: dict[str, int] = {}
    twice: set[str] = set()
    for at, column in enumerate(stripped):
        if column in positions:
            twice.add(column)
        positions.setdefault(column, at)
    folded = {column.casefold() for column in stripped}
    for name in names:
        if name in twice:
            raise DataError(f"{where}: column '{name}' is there twice: rename or delete one of them")
        if name not in positions:
            if name.casefold() in folded:
                hint = "it is there in other capitals, use the same ones"
            elif len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
                hint = "cells seem not to be separated by commas, save the table as comma-separated CSV"
            else:
                hint = "add it, or check its name"
            raise DataError(f"{where}: there is no column '{name}': {hint}")
    return [positions[name] for name in names]

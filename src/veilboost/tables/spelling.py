"""One spelling for what different programs write differently."""

from typing import Final

import polars as pl

_WHOLE_NUMBER: Final = r"^(-?\d+)\.0+$"


def one_spelling(text: pl.Series) -> pl.Series:
    """Whole numbers without ".0", truth values in lower case."""
    return text.str.replace(_WHOLE_NUMBER, "$1").replace({"True": "true", "False": "false"})

"""Checked access to the fields of a decoded model file, which may come from anywhere.

The decoded object is what `json.loads` gives, or the same with one-dimensional arrays of numbers in place of lists, as
`veilboost.trees.ubjson` gives.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError


def get(holder: object, key: str) -> Any:
    """A field that must be there."""
    if not isinstance(holder, dict) or key not in holder:
        raise ModelError(f"damaged, or not an XGBoost model: there is no {key}")
    return holder[key]


def table(value: object, name: str) -> dict[str, Any]:
    """A value that must be an object."""
    if not isinstance(value, dict):
        raise ModelError(f"damaged: {name} is not an object")
    return value


def list_of(value: object, name: str) -> list[Any]:
    """A value that must be a list."""
    if isinstance(value, np.ndarray):
        return list(value.tolist())
    if not isinstance(value, list):
        raise ModelError(f"damaged: {name} is not a list")
    return value


def numbers(holder: object, key: str, dtype: type[np.number[Any]], length: int | None) -> npt.NDArray[Any]:
    """A list of numbers as an array of `dtype`, shape (length,) if given; integers must be integers and fit."""
    found = get(holder, key)
    values = found if isinstance(found, np.ndarray) else list_of(found, key)
    try:
        given = np.array(values, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            array = given.astype(dtype) if np.issubdtype(dtype, np.floating) else np.array(values).astype(np.int64)
        if given.ndim != 1 or (length is not None and len(given) != length):
            raise ValueError
        if np.issubdtype(dtype, np.integer):
            bounds = np.iinfo(np.dtype(dtype))
            if np.any(given != array) or np.any(given < bounds.min) or np.any(given > bounds.max):
                raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise ModelError(f"damaged: {key}") from None
    return array.astype(dtype)


def whole(holder: object, key: str) -> int:
    """A count, which XGBoost writes as a string."""
    text = get(holder, key)
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,9}", text):
        raise ModelError(f"damaged: {key} is not a whole number")
    return int(text)


def not_supported(what: str, name: object) -> ModelError:
    """The refusal of something by its name."""
    return ModelError(f"{what} {str(name)[:40]!r} is not supported")

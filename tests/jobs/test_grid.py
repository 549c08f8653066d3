"""Who holds which rows of which columns, from what the parties list."""

from collections.abc import Mapping, Sequence

import pytest

from veilboost.errors import JobError
from veilboost.jobs.grid import Grid

HOSPITALS = {"north": ["age", "ill"], "south": ["ill", "age"], "west": ["age", "ill"]}


def grid(columns: Mapping[str, Sequence[str]]) -> Grid:
    return Grid.of(columns, "job.toml", lambda name: f"job.toml: {name}")


def test_columns_alone() -> None:
    made = grid({"north": ["age", "ill"], "insurer": ["drugs"]})
    assert (made.blocks, made.block_of) == (1, (None, None))
    assert made.holders == {"age": (0,), "ill": (0,), "drugs": (1,)}
    assert made.parties_of(0) == (0, 1)


def test_rows_alone() -> None:
    made = grid(HOSPITALS)
    assert (made.blocks, made.block_of) == (3, (0, 1, 2))
    assert made.holders == {"age": (0, 1, 2), "ill": (0, 1, 2)}
    assert made.parties_of(1) == (1,)


def test_rows_and_columns() -> None:
    made = grid({"laboratory": ["tsh"], **HOSPITALS})
    assert (made.blocks, made.block_of) == (3, (None, 0, 1, 2))
    assert made.holders["tsh"] == (0,)
    assert made.parties_of(2) == (0, 3)


def test_several_parties_of_the_same_rows() -> None:
    made = grid({"a": ["age"], "lab a": ["tsh"], "b": ["age"], "lab b": ["tsh"], "registry": ["ill"]})
    assert (made.blocks, made.block_of) == (2, (0, 0, 1, 1, None))
    assert made.parties_of(1) == (2, 3, 4)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({**HOSPITALS, "south": ["ill"]}, "'age' lies with 2 parties and 'ill' with 3|'ill' lies with 3"),
        (
            {**HOSPITALS, "west": ["age", "ill", "tsh"]},
            "west: 'ill' is also at north and south, so each has different",
        ),
        ({"a": ["x"], "b": ["x", "y"], "c": ["y"]}, "b: it is number 1 of those that hold 'y' but another number"),
    ],
)
def test_what_makes_no_grid(columns: Mapping[str, Sequence[str]], expected: str) -> None:
    with pytest.raises(JobError) as refused:
        grid(columns)
    message = str(refused.value)
    assert message.startswith("job.toml: ") and "\n" not in message
    assert any(part in message for part in expected.split("|")), message

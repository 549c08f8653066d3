"""Ids, points, matches and the order of rows; known answers in tests/vectors/alignment.json."""

import json
from io import BytesIO
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_from_uniform
from tests.strategies import FEW, QUICK
from tests.tables import edwards

from veilboost.errors import DataError
from veilboost.tables import alignment
from veilboost.tables.alignment import (
    POINT_BYTES,
    are_different,
    arrange,
    check_points,
    choose_rows,
    fresh_scalar,
    hash_to_group,
    in_order,
    is_in_order,
    match,
    raise_to,
    read_ids,
)
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import LabelSpec, Table, load_table

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "alignment.json").read_text(encoding="utf-8"))
SCALARS = [bytes.fromhex(scalar) for scalar in VECTORS["scalars"]]
JOB_HASH, KEY = bytes(range(32)), b"k" * 32

AGE = Feature("age", Kind.CONTINUOUS, missing=True)
WARD = Feature("ward", Kind.CATEGORICAL, ("a", "b"), missing=True)
SMOKER = Feature("smoker", Kind.FLAG, missing=True)

some_ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=12, unique=True)


def points_of(*encoded: str) -> alignment.Points:
    return np.frombuffer(bytes.fromhex("".join(encoded)), dtype=np.uint8).reshape(-1, POINT_BYTES)


def rows_of_hex(points: alignment.Points) -> list[str]:
    return [row.tobytes().hex() for row in points]


def ids_of(source: Any, **others: Any) -> list[str]:
    ids = load_table(source, features=[], id_column="id", **others).ids
    assert ids is not None
    return ids


def as_csv(*cells: str) -> BytesIO:
    return BytesIO("\n".join(["id,x", *(f"{cell},1" for cell in cells)]).encode())


def test_version() -> None:
    assert VECTORS["version"] == 1
    assert VECTORS["domain"].encode() == alignment._DOMAIN


@pytest.mark.parametrize("case", VECTORS["maps"])
def test_libsodiums_map_is_elligator_2(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["input"])
    assert crypto_core_ed25519_from_uniform(data).hex() == case["point"]
    assert edwards.encode(edwards.elligator(data)).hex() == case["point"]


@pytest.mark.parametrize("case", VECTORS["hashes"])
def test_ids_hash_to_the_points_of_the_vectors(case: dict[str, Any]) -> None:
    hashed = hash_to_group([case["id"]], bytes.fromhex(case["job_hash"]))
    assert rows_of_hex(hashed) == [case["point"]]
    assert [rows_of_hex(raise_to(hashed, scalar))[0] for scalar in SCALARS] == case["raised"]
    for first, second in (SCALARS, SCALARS[::-1]):
        assert rows_of_hex(raise_to(raise_to(hashed, first), second)) == [case["raised_twice"]]


@pytest.mark.parametrize("case", VECTORS["hashes"][:2])
def test_the_vectors_are_those_of_plain_integers(case: dict[str, Any]) -> None:
    parts = [VECTORS["domain"].encode(), bytes.fromhex(case["job_hash"]), case["id"].encode()]
    point = edwards.hash_to_group(parts)
    assert edwards.encode(point).hex() == case["point"]
    assert edwards.multiply(edwards.ORDER, point) == edwards.NEUTRAL
    numbers = [int.from_bytes(scalar, "little") for scalar in SCALARS]
    assert [edwards.encode(edwards.multiply(number, point)).hex() for number in numbers] == case["raised"]


@FEW
@given(data=st.binary(min_size=32, max_size=32))
def test_any_input_is_mapped_as_plain_integers_map_it(data: bytes) -> None:
    assert crypto_core_ed25519_from_uniform(data) == edwards.encode(edwards.elligator(data))


@pytest.mark.parametrize("data", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80", (edwards.P + 1).to_bytes(32, "little")])
def test_edges_are_mapped_as_plain_integers_map_them(data: bytes) -> None:
    assert crypto_core_ed25519_from_uniform(data) == edwards.encode(edwards.elligator(data))


@pytest.mark.parametrize("case", VECTORS["bad_points"], ids=lambda case: case["what"])
def test_what_is_no_point_of_the_group_is_refused(case: dict[str, str]) -> None:
    good = rows_of_hex(hash_to_group([str(number) for number in range(600)], JOB_HASH))
    for points in (points_of(case["point"]), points_of(*good[:-1], case["point"], good[-1])):
        with pytest.raises(ValueError, match="no point of the group"):
            raise_to(points, SCALARS[0])
        with pytest.raises(ValueError, match="no point of the group"):
            check_points(points)
    check_points(points_of(*good))


def test_points_of_another_job_are_others() -> None:
    ids = ["1", "2", "3"]
    assert not set(rows_of_hex(hash_to_group(ids, JOB_HASH))) & set(rows_of_hex(hash_to_group(ids, bytes(32))))


def test_scalars_are_fresh_and_below_the_order() -> None:
    scalars = [fresh_scalar() for _ in range(200)]
    assert len(set(scalars)) == len(scalars)
    numbers = [int.from_bytes(scalar, "little") for scalar in scalars]
    assert min(numbers) > 0 and max(numbers) < edwards.ORDER
    assert max(numbers) > edwards.ORDER // 2  # uniform: all below with probability 2^-200


def test_the_scalar_0_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([bytes(64), b"\x01" + bytes(63)])
    monkeypatch.setattr(alignment, "token_bytes", lambda size: next(draws))
    assert fresh_scalar() == b"\x01" + bytes(31)


@QUICK
@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20))
def test_points_are_ordered_as_bytes_are(encoded: list[bytes]) -> None:
    points = np.frombuffer(b"".join(encoded), dtype=np.uint8).reshape(-1, POINT_BYTES)
    ordered = points[in_order(points)]
    assert [row.tobytes() for row in ordered] == sorted(encoded)
    assert is_in_order(ordered) == are_different(points) == (len(set(encoded)) == len(encoded))
    assert is_in_order(points) == (sorted(set(encoded)) == encoded)


def test_points_that_differ_in_one_byte_are_ordered_too() -> None:
    points = np.zeros((64, POINT_BYTES), dtype=np.uint8)
    points[np.arange(32), np.arange(32)] = 1
    points[np.arange(32, 64), np.arange(32)] = 255
    encoded = [row.tobytes() for row in points]
    assert [row.tobytes() for row in points[in_order(points)]] == sorted(encoded)
    assert is_in_order(points[in_order(points)])
    assert not is_in_order(points)


def test_what_is_sent_depends_on_the_set_of_ids_alone() -> None:
    sent = set()
    for ids in permutations(["1", "2", "3", "4"]):
        blinded = raise_to(hash_to_group(ids, JOB_HASH), SCALARS[0])
        sent.add(blinded[in_order(blinded)].tobytes())
    assert len(sent) == 1


@FEW
@given(own=some_ids, other=some_ids)
def test_matching_is_the_plain_intersection(own: list[str], other: list[str]) -> None:
    a, b = fresh_scalar(), fresh_scalar()
    mine = raise_to(raise_to(hash_to_group(own, JOB_HASH), a), b)
    theirs = raise_to(raise_to(hash_to_group(other, JOB_HASH), b), a)
    expected = [other.index(id_) if id_ in other else -1 for id_ in own]
    assert match(mine, theirs).tolist() == expected


def chosen(found: dict[str, str], blocks: list[list[str]], ids: str, join: Any) -> list[str]:
    positions = {owner: np.array([table.find(id_) for id_ in ids], dtype=np.int64) for owner, table in found.items()}
    return ["".join(ids[row] for row in rows) for rows in choose_rows(positions, blocks, len(ids), join)]


@pytest.mark.parametrize(
    ("join", "found", "blocks", "expected"),
    [
        ("inner", {"b": "dcbx"}, [["b"]], ["bcd"]),
        ("inner", {"b": "abc", "c": "bcd"}, [["b", "c"]], ["bc"]),
        ("inner", {"b": "abc", "c": "bcd"}, [["b"], ["c"]], ["abc", "bcd"]),
        ("inner", {"b": "abc", "c": "xyz"}, [["b"], ["c"], []], ["abc", "", "abcdef"]),
        ("left", {"b": "dcbx"}, [["b"]], ["abcdef"]),
        ("left", {"b": "xyz", "c": "a"}, [["b", "c"]], ["abcdef"]),
        ("left", {}, [[]], ["abcdef"]),
        # b holds block 1 only, c block 2 only; nobody has f.
        ("left", {"b": "abc", "c": "cde"}, [["b"], ["c"]], ["abcf", "cde"]),
        # d holds all blocks: what only it has goes to the first.
        ("left", {"b": "ab", "c": "cd", "d": "abcdef"}, [["b", "d"], ["c", "d"]], ["abef", "cd"]),
        # d holds blocks 2 and 3, but not block 1.
        ("left", {"b": "a", "c": "b", "d": "abce"}, [["b"], ["c", "d"], ["d"]], ["adf", "bce", ""]),
    ],
)
def test_rows_of_blocks(join: str, found: dict[str, str], blocks: list[list[str]], expected: list[str]) -> None:
    assert chosen(found, blocks, "abcdef", join) == expected


@QUICK
@given(has=st.lists(st.sets(st.integers(0, 5)), min_size=3, max_size=3), join=st.sampled_from(["inner", "left"]))
def test_a_single_block_is_a_plain_join(has: list[set[int]], join: Any) -> None:
    found = {
        f"p{at}": np.array([row if row in rows else -1 for row in range(6)], dtype=np.int64)
        for at, rows in enumerate(has)
    }
    expected = set.intersection(*has) if join == "inner" else set(range(6))
    (rows,) = choose_rows(found, [list(found)], 6, join)
    assert rows.tolist() == sorted(expected)


@QUICK
@given(ids=some_ids, order=st.randoms(use_true_random=False))
def test_the_order_of_rows_depends_on_ids_and_key_alone(ids: list[str], order: Any) -> None:
    other = list(ids)
    order.shuffle(other)
    ordered = [ids[row] for row in arrange(np.arange(len(ids)), ids, KEY, JOB_HASH, 0)]
    assert sorted(ordered) == sorted(ids)
    assert [other[row] for row in arrange(np.arange(len(ids)), other, KEY, JOB_HASH, 0)] == ordered
    # Rows that are left out do not change the order of the others.
    assert [ids[row] for row in arrange(np.arange(1, len(ids)), ids, KEY, JOB_HASH, 0)] == [
        id_ for id_ in ordered if id_ != ids[0]
    ]


def test_another_key_job_or_block_has_another_order() -> None:
    ids = [str(number) for number in range(50)]
    ways = [(KEY, JOB_HASH, 0), (bytes(32), JOB_HASH, 0), (KEY, bytes(32), 0), (KEY, JOB_HASH, 1)]
    orders = {arrange(np.arange(50), ids, key, job_hash, block).tobytes() for key, job_hash, block in ways}
    assert len(orders) == len(ways)


@pytest.mark.parametrize(
    "source",
    [
        as_csv("17", " 18 ", "019", "x y", "-3.0", "1.5"),
        pl.DataFrame({"id": ["17.0", "18", "019", "x y", "-3", "1.5"]}),
        pd.DataFrame({"id": ["17", 18, "019", "x y ", -3.0, 1.5]}),
    ],
)
def test_ids_have_one_spelling(source: Any) -> None:
    assert ids_of(source) == ["17", "18", "019", "x y", "-3", "1.5"]


@pytest.mark.parametrize(
    "source",
    [
        as_csv("17", "10000000000000001", "-0", "30"),
        pl.DataFrame({"id": [17, 10000000000000001, 0, 30]}),
        pd.DataFrame({"id": [17, 10000000000000001, 0, 30]}),
        pd.DataFrame({"id": np.array([17, 10000000000000001, 0, 30], dtype=np.uint64)}),
        pd.DataFrame({"id": pd.array([17, 10000000000000001, 0, 30], dtype="Int64")}),
    ],
)
def test_whole_numbers_are_exact_however_large(source: Any) -> None:
    assert [id_ for id_ in ids_of(source) if id_ not in ("0", "-0")] == ["17", "10000000000000001", "30"]


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_floats_that_are_whole_numbers_are_spelled_as_such(dtype: Any) -> None:
    assert ids_of(pl.DataFrame({"id": pl.Series([17.0, -0.0, 16777215.0, 2.5], dtype=dtype)})) == [
        "17",
        "0",
        "16777215",
        "2.5",
    ]


@pytest.mark.parametrize(
    ("value", "dtype"), [(2.0**53, pl.Float64), (2.0**24, pl.Float32), (float("inf"), pl.Float64), (-1e300, pl.Float64)]
)
def test_floats_that_cannot_tell_ids_apart_are_refused(value: float, dtype: Any) -> None:
    with pytest.raises(DataError, match="row 2, column 'id': the id is a number too large to be exact"):
        ids_of(pl.DataFrame({"id": pl.Series([1.0, value], dtype=dtype)}))


@pytest.mark.parametrize("empty", ["", "  ", "NaN"])
def test_empty_ids_are_refused_with_their_rows(empty: str) -> None:
    with pytest.raises(DataError) as caught:
        ids_of(as_csv("1", empty, "secret", empty), name_for_errors="north.csv")
    assert str(caught.value) == (
        "north.csv: rows 2 and 4, column 'id': the id is empty: give every row its id, or remove the row"
    )


@pytest.mark.parametrize(
    "source", [pl.DataFrame({"id": ["1", None]}), pl.DataFrame({"id": [1.0, np.nan]}), pd.DataFrame({"id": [1, None]})]
)
def test_missing_ids_are_refused(source: Any) -> None:
    with pytest.raises(DataError, match="row 2, column 'id': the id is empty"):
        ids_of(source)


@pytest.mark.parametrize(
    ("cells", "rows", "others"),
    [
        (["7", "secret", "8", "secret"], "rows 2 and 4", ""),
        (["17", "17.0", " 17"], "rows 1, 2 and 3", ""),
        (["x", "y", "y", "z", "z", "y", "q", "q"], "rows 2, 3 and 6", r" \(and so it is with 2 other ids\)"),
        (["a", *["secret"] * 12], "rows 2, 3, 4, 5, 6 and 7 more", ""),
    ],
)
def test_duplicates_are_refused_with_their_rows_and_never_the_id(cells: list[str], rows: str, others: str) -> None:
    with pytest.raises(DataError, match=f"^table: {rows}, column 'id': have the same id{others}: keep one") as caught:
        ids_of(as_csv(*cells))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="'id'"):
        ids_of(pl.DataFrame({"other": [1]}))


def test_an_id_column_that_is_neither_text_nor_number_is_refused() -> None:
    with pytest.raises(DataError, match="column 'id' holds List"):
        ids_of(pl.DataFrame({"id": [[1], [2]]}))


def test_truth_values_are_no_ids_twice() -> None:
    with pytest.raises(DataError, match="have the same id"):
        read_ids(pl.Series(["True", "true"]), "table", "id")


def make_table() -> Table:
    frame = pl.DataFrame({"id": ["x", "y", "z"], "age": [1.5, 2.5, None], "ward": ["a", "b", "a"], "ms": [0, 1, 1]})
    return load_table(frame, features=[AGE, WARD], label=LabelSpec("ms", "binary:logistic"), id_column="id")


def test_ids_are_no_feature_and_not_shown() -> None:
    table = make_table()
    assert table.ids == ["x", "y", "z"]
    assert set(table.columns) == {"age", "ward"}
    assert repr(table) == "Table(3 rows x 2 features, with label)"


def test_without_an_id_column_there_are_no_ids() -> None:
    assert load_table(pl.DataFrame({"age": [1.0]}), features=[AGE]).ids is None


def test_rows_at_gives_rows_in_the_order_asked_for() -> None:
    table = make_table()
    taken = table.rows_at(np.array([2, 0, 0]))
    assert taken.rows == 3
    assert taken.ids is None
    assert taken.features == table.features
    assert taken.label is not None and taken.label.tolist() == [1.0, 0.0, 0.0]
    assert np.array_equal(taken.values("age"), np.array([np.nan, 1.5, 1.5], dtype=np.float32), equal_nan=True)
    assert taken.values("ward").tolist() == [0.0, 0.0, 0.0]
    assert table.values("ward").tolist() == [0.0, 1.0, 0.0]
    assert taken.values("ward").dtype == np.float32


def test_rows_at_minus_1_are_missing() -> None:
    frame = pl.DataFrame({"age": [1.5, 2.5], "smoker": ["yes", "no"]})
    taken = load_table(frame, features=[AGE, SMOKER]).rows_at(np.array([-1, 1, -1]))
    assert taken.rows == 3
    assert np.array_equal(taken.values("age"), np.array([np.nan, 2.5, np.nan], dtype=np.float32), equal_nan=True)
    assert np.array_equal(taken.values("smoker"), np.array([np.nan, 0.0, np.nan], dtype=np.float32), equal_nan=True)


@pytest.mark.parametrize("rows", [[3], [-2], [0, -1]])
def test_rows_at_refuses_what_is_no_row(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="positions in the table"):
        make_table().rows_at(np.array(rows))

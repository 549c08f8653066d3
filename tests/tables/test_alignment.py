"""Ids, and their way to the group and through it; known answers in tests/vectors/alignment.json."""

import hashlib
import json
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_from_uniform
from tests.strategies import FEW
from tests.tables import edwards

from veilboost.errors import DataError
from veilboost.tables.alignment import (
    blind,
    draw_scalar,
    from_octets,
    hash_to_group,
    private_order,
    read_ids,
    to_octets,
)
from veilboost.tables.table import load_table

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "alignment.json").read_text(encoding="utf-8"))
SCALARS = [bytes.fromhex(scalar) for scalar in VECTORS["scalars"]]


def test_version() -> None:
    assert VECTORS["version"] == 1


@pytest.mark.parametrize("case", VECTORS["maps"])
def test_libsodiums_map_is_elligator_2(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["input"])
    assert crypto_core_ed25519_from_uniform(data).hex() == case["point"]
    assert edwards.encode(edwards.elligator(data)).hex() == case["point"]


@pytest.mark.parametrize("data", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80", (edwards.P + 1).to_bytes(32, "little")])
def test_edges_of_the_map_are_elligator_2(data: bytes) -> None:
    assert crypto_core_ed25519_from_uniform(data) == edwards.encode(edwards.elligator(data))


@pytest.mark.parametrize("case", VECTORS["hashes"])
def test_known_answers(case: dict[str, Any]) -> None:
    """So that no release maps ids otherwise than the one before."""
    points = hash_to_group([case["id"]], bytes.fromhex(case["job_hash"]))
    assert [point.hex() for point in points] == [case["point"]]
    assert [blind(points, scalar)[0].hex() for scalar in SCALARS] == case["multiples"]
    for first, second in (SCALARS, SCALARS[::-1]):
        assert blind(blind(points, first), second)[0].hex() == case["multiple_of_both"]


@pytest.mark.parametrize("case", VECTORS["hashes"][:2])
def test_known_answers_are_those_of_plain_integers(case: dict[str, Any]) -> None:
    context = hashlib.sha256(bytes.fromhex(case["job_hash"])).digest()
    point = edwards.hash_to_group([VECTORS["domain"].encode(), context, case["id"].encode()])
    assert edwards.encode(point).hex() == case["point"]
    assert edwards.multiply(edwards.ORDER, point) == edwards.NEUTRAL
    numbers = [int.from_bytes(scalar, "little") for scalar in SCALARS]
    assert [edwards.encode(edwards.multiply(number, point)).hex() for number in numbers] == case["multiples"]


@FEW
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), context=st.binary(max_size=40))
def test_hash_is_two_maps_added(text: str, context: bytes) -> None:
    """Against an implementation in plain integers."""
    (found,) = hash_to_group([text], context)
    parts = [VECTORS["domain"].encode(), hashlib.sha256(context).digest(), text.encode()]
    assert found == edwards.encode(edwards.hash_to_group(parts))


@pytest.mark.parametrize("case", VECTORS["bad_points"], ids=lambda case: case["what"])
def test_what_is_no_point_of_the_group_is_refused(case: dict[str, str]) -> None:
    good = hash_to_group([f"{n}" for n in range(1100)], b"job")  # more than a thread takes at once
    bad = bytes.fromhex(case["point"])
    for points in ([bad], [*good[:-1], bad, good[-1]]):
        with pytest.raises(ValueError, match="not in the group"):
            blind(points, SCALARS[0])


def test_scalars_are_uniform_below_the_order() -> None:
    numbers = [int.from_bytes(draw_scalar(), "little") for _ in range(200)]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < edwards.ORDER
    assert max(numbers) > edwards.ORDER // 2  # else 1 in 2^200


@FEW
@given(own=st.sets(st.text("abc", max_size=3)), other=st.sets(st.text("abc", max_size=3)))
def test_points_meet_where_ids_do(own: set[str], other: set[str]) -> None:
    a, b = draw_scalar(), draw_scalar()
    mine = dict(zip(blind(blind(hash_to_group(sorted(own), b"job"), a), b), sorted(own), strict=True))
    theirs = blind(blind(hash_to_group(sorted(other), b"job"), b), a)
    assert {mine[point] for point in theirs if point in mine} == own & other


def test_blinding_commutes_and_hides() -> None:
    points = hash_to_group([f"{n}" for n in range(20)], b"job")
    a, b = draw_scalar(), draw_scalar()
    assert blind(blind(points, a), b) == blind(blind(points, b), a)
    assert not set(blind(points, a)) & set(points)
    assert from_octets(to_octets(points)) == points
    assert set(hash_to_group(["1"], b"another job")).isdisjoint(points)


def test_order_depends_on_the_key_alone() -> None:
    ids = [f"{n}" for n in range(50)]
    order = private_order(ids, b"k" * 32, b"job")
    assert sorted(order) == list(range(50))
    back = private_order(ids[::-1], b"k" * 32, b"job")
    assert [ids[n] for n in order] == [ids[::-1][n] for n in back]
    assert list(private_order(ids, b"l" * 32, b"job")) != list(order)


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_floats_that_are_whole_numbers_are_written_as_such(dtype: Any) -> None:
    assert read_ids(pl.Series("id", [17.0, -0.0, 16777215.0, 2.5], dtype=dtype), "t") == ("17", "0", "16777215", "2.5")
    if dtype == pl.Float32:
        with pytest.raises(DataError, match="too large to be exact"):
            read_ids(pl.Series("id", [2.0**24], dtype=dtype), "t")


@pytest.mark.parametrize(
    "source",
    [
        BytesIO(b"id\n17\n10000000000000001\n10000000000000000\n"),
        pl.DataFrame({"id": [17, 10000000000000001, 10000000000000000]}),
        pd.DataFrame({"id": [17, 10000000000000001, 10000000000000000]}),
        pd.DataFrame({"id": np.array([17, 10000000000000001, 10000000000000000], dtype=np.uint64)}),
        pd.DataFrame({"id": pd.array([17, 10000000000000001, 10000000000000000], dtype="Int64")}),
        pd.DataFrame({"id": ["17.0", 10000000000000001, " 10000000000000000 "]}),
    ],
)
def test_whole_numbers_are_exact_however_large(source: Any) -> None:
    """Two patients must not become one because a number was rounded."""
    table = load_table(source, features=[], row_id="id")
    assert table.ids == ("17", "10000000000000001", "10000000000000000")


def test_ids_are_read_alike() -> None:
    assert read_ids(pl.Series("id", [" 17 ", "17.5", "a b"]), "t") == ("17", "17.5", "a b")
    assert read_ids(pl.Series("id", [17.0, 18.0]), "t") == read_ids(pl.Series("id", [17, 18]), "t") == ("17", "18")


def test_letters_are_composed_alike() -> None:
    """A Mac's file names and a Windows export may write the same name in different code points."""
    names = ("José", "Ångström", "Ωmega", "한글")
    for form in ("NFC", "NFD"):
        assert read_ids(pl.Series("id", [unicodedata.normalize(form, name) for name in names]), "t") == names


def test_what_is_written_differently_stays_different() -> None:
    ids = ("017", "17", "P17", "p17", "1e3", "\uff11\uff17")
    assert read_ids(pl.Series("id", ids), "t") == ids


@pytest.mark.parametrize("dtype", [np.float32, "Float32"])
def test_single_precision_of_pandas_is_not_taken_for_exact(dtype: Any) -> None:
    """16777217 is 16777216 there, and both would be one patient."""
    exact = pd.DataFrame({"id": pd.array([1.0, 2.0**24 - 1], dtype=dtype)})
    assert load_table(exact, features=[], row_id="id").ids == ("1", "16777215")
    with pytest.raises(DataError, match="row 2, column 'id': the id is a floating-point number too large to be exact"):
        load_table(pd.DataFrame({"id": pd.array([1.0, 2.0**24 + 2], dtype=dtype)}), features=[], row_id="id")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a", "", "b"], "t.csv: row 2, column 'id': the id is empty: every row needs one"),
        (["a", None, "b"], "t.csv: row 2, column 'id': the id is empty"),
        ([1.0, float("nan")], "t.csv: row 2, column 'id': the id is empty"),
        (
            ["a", "secret", "c", " secret"],
            "t.csv: rows 2 and 4, column 'id': have the same id: keep one row per id",
        ),
        (["17", "17.0", " 17"], "t.csv: rows 1, 2 and 3, column 'id': have the same id"),
        (
            ["x", "y", "y", "z", "z", "y", "q", "q"],
            "rows 2, 3 and 6, column 'id': have the same id; 2 more ids are there twice: keep one",
        ),
        (["a", *["secret"] * 12], "rows 2, 3, 4, 5, 6 and 7 more, column 'id': have the same id"),
        (["", "a", "NaN", " "], "t.csv: rows 1, 3 and 4, column 'id': the id is empty"),
        ([1.0, 2.0**53], "t.csv: row 2, column 'id': the id is a floating-point number too large to be exact"),
        ([1.0, float("inf"), -1e300], "t.csv: rows 2 and 3, column 'id': the id is a floating-point number too large"),
        (["a", "sec\u200bret"], "t.csv: row 2, column 'id': the id holds a character that cannot be seen"),
        (["\ufeff17", "17", "1\t7", "1\u20287"], "t.csv: rows 1, 3 and 4, column 'id': the id holds a character"),
        (["Jos\u00e9", "Jose\u0301"], "t.csv: rows 1 and 2, column 'id': have the same id"),
        ([True, False], "t.csv: the id column 'id' holds neither text nor numbers"),
    ],
)
def test_bad_ids_are_refused_without_showing_them(cells: list[Any], expected: str) -> None:
    with pytest.raises(DataError) as refused:
        read_ids(pl.Series("id", cells, strict=False), "t.csv")
    assert expected in str(refused.value)
    assert "secret" not in str(refused.value)

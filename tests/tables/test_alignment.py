"""Ids, and their way to the group and through it."""

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

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

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)


def decode(octets: bytes) -> tuple[int, int]:
    """A point of edwards25519 (RFC 8032, section 5.1.3), in plain integers."""
    y = int.from_bytes(octets, "little") & (1 << 255) - 1
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * SQRT_MINUS_1 % P
    assert (v * x * x - u) % P == 0
    return (P - x if x & 1 != octets[31] >> 7 else x), y


def encode(point: tuple[int, int]) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    (a, b), (c, d) = left, right
    t = D * a * b * c * d % P
    return (a * d + b * c) * pow(1 + t, -1, P) % P, (b * d + a * c) * pow(1 - t, -1, P) % P


def multiply(scalar: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    while scalar:
        total = add(total, point) if scalar & 1 else total
        point, scalar = add(point, point), scalar >> 1
    return total


def elligator(octets: bytes) -> tuple[int, int]:
    """libsodium's map of 32 uniform bytes to the subgroup: Elligator 2 on curve25519, times the cofactor."""
    r = int.from_bytes(octets, "little") & (1 << 255) - 1
    a = 486662
    v = -a * pow(1 + 2 * r * r, -1, P) % P
    square = pow(v * (v * v + a * v + 1), (P - 1) // 2, P) in (0, 1)
    u = v if square else (-v - a) % P
    y = (u - 1) * pow(u + 1, -1, P) % P
    return multiply(8, decode((y | (octets[31] >> 7) << 255).to_bytes(32, "little")))


@pytest.mark.parametrize("text", ["a", "patient 17", "9182736450", "\u00fc"])
def test_hash_is_two_maps_added(text: str) -> None:
    """Against an implementation in plain integers."""
    context = b"job"
    prefix = hashlib.sha512(b"veilboost row alignment 1\x00" + hashlib.sha256(context).digest())
    prefix.update(text.encode())
    digest = prefix.digest()
    (found,) = hash_to_group([text], context)
    assert found == encode(add(elligator(digest[:32]), elligator(digest[32:])))
    assert multiply(ORDER, decode(found)) == (0, 1)


KNOWN = [
    "dcacd8ade52976639ba173b3eb30cdb97946844b16a8603a9a47c4406a85d2e7",
    "f03d0d1a89687e37bb4ced35c086e02364084461cc312c825adcd0d7bbefd609",
    "1104b15516b6e6a21d48d2a5c7db7b54b44d12126ba1a01fe52fcbad08f6ced8",
]


def test_known_answers() -> None:
    """So that no release maps ids otherwise than the one before."""
    points = hash_to_group(["1", "17", "abc"], b"vector")
    assert [point.hex() for point in points] == KNOWN
    scalar = (7).to_bytes(32, "little")
    assert blind(points, scalar) == [encode(multiply(7, decode(point))) for point in points]


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
        ([True, False], "t.csv: the id column 'id' holds neither text nor numbers"),
    ],
)
def test_bad_ids_are_refused_without_showing_them(cells: list[Any], expected: str) -> None:
    with pytest.raises(DataError) as refused:
        read_ids(pl.Series("id", cells, strict=False), "t.csv")
    assert expected in str(refused.value)
    assert "secret" not in str(refused.value)

"""Order-revealing encryption: comparisons, what tables show, known answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.ppxgboost import ore
from veilboost.ppxgboost.order_codes import to_codes

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "ore.json"
CODES = st.integers(0, 2**32 - 1)
KEY = bytes(range(32))


def entries(table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The 256 entries of a table, masked."""
    return np.stack([table >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1).ravel()


def compare(left: ore.LeftCiphertexts, right: ore.RightCiphertexts, row: int, column: int, at: int) -> tuple[int, int]:
    """The outcome, and the number of the block that told it, as the paper's algorithm; BLOCKS if all are equal."""
    for block in range(ore.BLOCKS):
        key = left.keys[row, column, block]
        mask = int(ore.hashes(ore.permuted(key), right.nonces[at]) % np.uint64(3))
        entry = int(entries(right.tables[at, block])[left.places[row, column, block]])
        outcome = (entry - mask) % 3
        if outcome != ore.EQUAL:
            return outcome, block
    return ore.EQUAL, ore.BLOCKS


def compared(
    x: int, y: int, key: bytes = KEY, other: bytes | None = None, columns: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    left = ore.OrderRevealing(key).left(np.array([columns[0]], dtype=np.uint32), np.array([[x]], dtype=np.uint32))
    right = ore.OrderRevealing(other or key).right(
        np.array([columns[1]], dtype=np.uint32), np.array([y], dtype=np.uint32)
    )
    return compare(left, right, 0, 0, 0)


def expected(x: int, y: int) -> tuple[int, int]:
    differing = [block for block in range(4) if (x ^ y) >> (24 - 8 * block) & 255]
    return (ore.EQUAL if x == y else ore.SMALLER if x < y else ore.LARGER), (differing[0] if differing else 4)


@given(CODES, CODES)
@settings(max_examples=60)
def test_order_is_revealed(x: int, y: int) -> None:
    assert compared(x, y) == expected(x, y)
    assert compared(x, x) == (ore.EQUAL, ore.BLOCKS)


@given(CODES, st.integers(0, 31), st.integers(-3, 3))
@settings(max_examples=60)
def test_order_of_close_values_is_revealed(x: int, bit: int, step: int) -> None:
    y = (x ^ (1 << bit)) + step
    if 0 <= y < 2**32:
        assert compared(x, y) == expected(x, y)


def test_order_of_float32_is_revealed() -> None:
    special = [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, np.inf, -np.inf, 1.0, -1.0]
    values = np.array(special, dtype=np.float32)
    codes = to_codes(values)
    scheme = ore.OrderRevealing(KEY)
    left = scheme.left(np.zeros(1, dtype=np.uint32), codes[:, np.newaxis])
    right = scheme.right(np.zeros(len(codes), dtype=np.uint32), codes)
    for row, x in enumerate(values):
        for at, y in enumerate(values):
            outcome = ore.EQUAL if x == y else ore.SMALLER if x < y else ore.LARGER
            assert compare(left, right, row, 0, at)[0] == outcome


def test_another_key_or_column_reveals_nothing_true() -> None:
    """Outcomes under a wrong key are independent of the order: of 300 about a third are right."""
    pairs = [(int(x), int(y)) for x, y in np.random.default_rng(0).integers(0, 2**32, (300, 2))]
    for wrong in ({"other": bytes(32)}, {"columns": (0, 1)}):
        right = sum(compared(x, y, **wrong)[0] == expected(x, y)[0] for x, y in pairs)  # type: ignore[arg-type]
        assert 60 < right < 190  # a half, minus entries that happen to say "equal"; 8 deviations off either side


def test_places_are_a_permutation_under_every_prefix() -> None:
    scheme = ore.OrderRevealing(KEY)
    for prefix in (0, 0x3F80, 0xFFFFFF):
        values = (np.uint32(prefix) << np.uint32(8)) + np.arange(256, dtype=np.uint32)
        left = scheme.left(np.zeros(1, dtype=np.uint32), values[:, np.newaxis])
        assert sorted(left.places[:, 0, 3]) == list(range(256))
        assert len({bytes(key) for key in left.keys[:, 0, 3]}) == 256
        assert len({bytes(key) for key in left.keys[:, 0, 0]}) == 1


def test_thresholds_at_rest_look_uniform() -> None:
    """Equal thresholds have tables that agree in a third of their entries, as independent ones do."""
    count = 200
    right = ore.OrderRevealing(KEY).right(np.zeros(count, dtype=np.uint32), np.full(count, 0x3F800000, dtype=np.uint32))
    tables = np.array([[entries(table) for table in tables] for tables in right.tables])
    shares = np.bincount(tables.ravel(), minlength=4) / tables.size
    assert shares[3] == 0 and np.all(np.abs(shares[:3] - 1 / 3) < 0.006)  # deviation 0.001
    agreeing = np.mean(tables[:-1] == tables[1:])
    assert abs(agreeing - 1 / 3) < 0.006
    assert len({bytes(nonce) for nonce in right.nonces}) == count


def test_batches_give_what_single_values_give() -> None:
    scheme = ore.OrderRevealing(KEY)
    values = np.random.default_rng(1).integers(0, 2**32, (700, 3)).astype(np.uint32)
    columns = np.array([5, 0, 9], dtype=np.uint32)
    together = scheme.left(columns, values)
    for row in (0, 250, 699):
        alone = scheme.left(columns, values[row : row + 1])
        np.testing.assert_array_equal(together.keys[row], alone.keys[0])
        np.testing.assert_array_equal(together.places[row], alone.places[0])


def test_many_thresholds_of_many_columns() -> None:
    scheme = ore.OrderRevealing(KEY)
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 4, 3000).astype(np.uint32)
    values = to_codes(rng.normal(size=3000).astype(np.float32).round(1))
    right = scheme.right(columns, values)
    asked = to_codes(rng.normal(size=(1, 4)).astype(np.float32).round(1))
    left = scheme.left(np.arange(4, dtype=np.uint32), asked)
    for at in range(0, 3000, 7):
        column = int(columns[at])
        assert compare(left, right, 0, column, at) == expected(int(asked[0, column]), int(values[at]))


@pytest.mark.parametrize("domain", [2, 4, 64, 1024])
def test_membership(domain: int) -> None:
    scheme = ore.OrderRevealing(KEY)
    members = np.random.default_rng(domain).random((20, domain)) < 0.3
    nonces, tables = scheme.membership_right(1, members)
    codes = np.arange(domain, dtype=np.uint32)
    keys, places = scheme.membership_left(1, codes, domain)
    assert sorted(places) == list(range(domain))
    for node in range(20):
        masks = (ore.hashes(ore.permuted(keys), nonces[node]) & np.uint64(1)).astype(np.bool_)
        bits = np.unpackbits(tables[node], bitorder="little")[places].astype(np.bool_)
        np.testing.assert_array_equal(bits ^ masks, members[node])


def test_secrets_are_not_shown() -> None:
    assert repr(ore.OrderRevealing(KEY)) == "OrderRevealing(redacted)"


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["left"], ids=lambda case: case["value"])
def test_known_left_ciphertexts(case: dict[str, Any]) -> None:
    scheme = ore.OrderRevealing(bytes.fromhex(case["key"]))
    value = np.array([[int(case["value"], 16)]], dtype=np.uint32)
    left = scheme.left(np.array([case["column"]], dtype=np.uint32), value)
    assert left.keys.tobytes().hex() == case["keys"]
    assert left.places.tobytes().hex() == case["places"]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["comparisons"], ids=lambda case: case["name"])
def test_known_right_ciphertexts(case: dict[str, Any]) -> None:
    """Made by the slow program of the page docs/protocols/ore.md, block by block."""
    scheme = ore.OrderRevealing(bytes.fromhex(case["key"]))
    x = np.array([[int(case["x"], 16)]], dtype=np.uint32)
    left = scheme.left(np.array([case["column"]], dtype=np.uint32), x)
    nonce = np.frombuffer(bytes.fromhex(case["nonce"]), dtype=np.uint8)[np.newaxis]
    tables = np.frombuffer(bytes.fromhex(case["tables"]), dtype=np.uint8).reshape(1, ore.BLOCKS, ore.TABLE_BYTES)
    assert compare(left, ore.RightCiphertexts(nonce, tables), 0, 0, 0)[0] == case["outcome"]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["invalid"], ids=lambda case: case["name"])
def test_known_bad_right_ciphertexts(case: dict[str, str]) -> None:
    nonce = np.frombuffer(bytes.fromhex(case["nonce"]), dtype=np.uint8)[np.newaxis]
    tables = np.frombuffer(bytes.fromhex(case["tables"]), dtype=np.uint8).reshape(1, ore.BLOCKS, ore.TABLE_BYTES)
    assert not ore.RightCiphertexts(nonce, tables).valid
    good = ore.OrderRevealing(KEY).right(np.zeros(300, dtype=np.uint32), np.arange(300, dtype=np.uint32))
    assert good.valid

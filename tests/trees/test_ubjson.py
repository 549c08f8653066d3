import base64
import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilboost.errors import ModelError
from veilboost.trees.scoring_file import read_scoring_model
from veilboost.trees.ubjson import MOST_DEPTH, decode

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "xgboost_models.json").read_text(encoding="utf-8"))
FILES = [base64.b64decode(model["ubj"]) for model in VECTORS["models"] if "ubj" in model]


def size(count: int) -> bytes:
    return b"L" + struct.pack(">q", count)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"Z", None),
        (b"T", True),
        (b"F", False),
        (b"i\xff", -1),
        (b"U\xff", 255),
        (b"I\xff\x00", -256),
        (b"l\x7f\xff\xff\xff", 2**31 - 1),
        (b"L" + b"\x80" + bytes(7), -(2**63)),
        (b"d" + struct.pack(">f", 0.5), 0.5),
        (b"D" + struct.pack(">d", 0.1), 0.1),
        (b"Ca", "a"),
        (b"Hi\x032.5", 2.5),
        (b"Si\x00", ""),
        (b"S" + size(3) + "aé".encode(), "aé"),
        (b"NNTN", True),
        (b"[]", []),
        (b"[TNi\x05[]]", [True, 5, []]),
        (b"[#i\x02TF", [True, False]),
        (b"[#i\x00", []),
        (b"[$S#i\x02i\x01ai\x01b", ["a", "b"]),
        (b"[$[#i\x02]]", [[], []]),
        (b"{}", {}),
        (b"{i\x01aT" + size(1) + b"bZ}", {"a": True, "b": None}),
        (b"{#i\x01i\x01a{}", {"a": {}}),
        (b"{$U#i\x02i\x01a\x01i\x01b\x02", {"a": 1, "b": 2}),
    ],
)
def test_values_of_every_kind(data: bytes, value: object) -> None:
    assert decode(data) == value


@pytest.mark.parametrize("letter", "iUIlLdD")
def test_typed_arrays_are_of_the_native_type(letter: str) -> None:
    code = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d"}[letter]
    data = f"[${letter}#".encode() + size(3) + struct.pack(f">3{code}", 1, 2, 3)
    array = decode(data)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.dtype(code) and array.dtype.isnative
    assert array.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b"x",
        b"l\x00",
        b"TT",
        b"[",
        b"[T",
        b"[}",
        b"{i\x01a",
        b"{i\x01aT",
        b"{i\x01aTi\x01aT}",  # which of two fields counts
        b"{T}",
        b"{]",
        b"Si\xffa",
        b"S" + size(2**62) + b"a",
        b"Si\x01\xff",
        b"C\xff",
        b"Hi\x01x",
        b"[#" + size(2**62),
        b"[$d#" + size(2**62) + bytes(8),
        b"[$d#" + size(-1) + bytes(8),
        b"[$d#i\x03" + bytes(11),
        b"[$dT",
        b"[$x#i\x01T",
        b"[$Z#" + size(2**40),  # items of no bytes, more than memory holds
        b"[#D" + bytes(8),
        b"{#i\x02i\x01aT",
        b"[" * (MOST_DEPTH + 1),
        b"[" * 100_000,
        b"{i\x01a" * 100_000,
        b"[$[#i\x01" * 100_000,
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def plain(value: Any) -> Any:
    """Arrays as lists."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_files_of_xgboost_hold_what_they_do_as_json() -> None:
    assert len(FILES) >= 9
    for data in FILES:
        model = plain(decode(data))
        assert json.loads(json.dumps(model)) == model
        assert model["learner"]["gradient_booster"]["name"] in ("gbtree", "dart")


@given(st.sampled_from(FILES), st.data())
def test_every_cut_is_refused(data: bytes, draw: st.DataObject) -> None:
    with pytest.raises(ModelError):
        decode(data[: draw.draw(st.integers(0, len(data) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    for start in (b"", b"{", b"[", b"[$l#", b"{i\x01a"):
        with contextlib.suppress(ModelError):
            decode(start + data)


@given(st.sampled_from(FILES), st.data())
def test_a_file_with_other_bytes_is_a_model_or_an_error(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        changed[at : at + 1] = draw.draw(st.binary(max_size=3))
    try:
        model = read_scoring_model(changed)
    except ModelError as error:
        assert "\n" not in str(error)
        return
    values = np.array(VECTORS["rows"], dtype=np.float32)
    if values.shape[1] == len(model.features):
        with np.errstate(all="ignore"):
            model.predict(values)
        assert model.leaf_index(values).shape == (len(values), len(model.trees))

"""Streams and derived keys against known answers, tests/vectors/prg.json."""

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import QUICK

from veilboost.mpc import prg
from veilboost.mpc.prg import KEY_BYTES, Stream, derive_key

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "prg.json").read_text(encoding="utf-8"))
KEY = bytes.fromhex(VECTORS["streams"]["cases"][0]["key"])


def test_version() -> None:
    assert VECTORS["version"] == 1


def test_aes_in_counter_mode_is_nists() -> None:
    vector = VECTORS["aes_256_ctr"]
    counter_block = bytes.fromhex(vector["counter_block"])
    key = bytes.fromhex(vector["key"])
    plaintext = bytes.fromhex("".join(vector["plaintext"]))
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter_block)).encryptor()
    assert encryptor.update(plaintext).hex() == "".join(vector["ciphertext"])


def test_a_streams_blocks_are_nists_output_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector's first counter block lies in the middle of a stream: its left half is the number."""
    vector = VECTORS["aes_256_ctr"]
    counter_block = bytes.fromhex(vector["counter_block"])
    begin = modes.CTR
    monkeypatch.setattr(prg.modes, "CTR", lambda first: begin(first[:8] + counter_block[8:]))
    stream = Stream(bytes.fromhex(vector["key"]), int.from_bytes(counter_block[:8], "big"))
    assert stream.octets(64).tobytes().hex() == "".join(vector["output_blocks"])


@pytest.mark.parametrize("case", VECTORS["streams"]["cases"])
def test_streams(case: dict) -> None:
    key = bytes.fromhex(case["key"])
    octets = bytes.fromhex(case["octets"])
    assert Stream(key, case["number"]).octets(len(octets)).tobytes() == octets
    assert Stream(key, case["number"]).words(2, 4).ravel().tolist() == case["words"]


@pytest.mark.parametrize("case", VECTORS["derived_keys"]["cases"])
def test_derived_keys(case: dict) -> None:
    assert derive_key(bytes.fromhex(case["secret"]), bytes.fromhex(case["context"])).hex() == case["key"]


@QUICK
@given(secret=st.binary(min_size=1, max_size=80), context=st.binary(max_size=80))
def test_derived_keys_are_hkdf(secret: bytes, context: bytes) -> None:
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    assert derive_key(secret, context) == hmac.digest(extracted, b"veilboost " + context + b"\x01", hashlib.sha256)
    assert len(derive_key(secret, context)) == KEY_BYTES


@QUICK
@given(sizes=st.lists(st.integers(0, 70), max_size=6))
def test_a_stream_goes_on_where_it_stopped(sizes: list[int]) -> None:
    stream, whole = Stream(KEY, 7), Stream(KEY, 7).octets(sum(sizes))
    drawn = [stream.octets(size) for size in sizes]
    assert np.array_equal(np.concatenate([np.empty(0, np.uint8), *drawn]), whole)


def test_long_streams_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Stream(KEY, 3).octets(3 * (1 << 20) + 5)
    monkeypatch.setattr(prg, "_CHUNK", 1000)
    assert np.array_equal(Stream(KEY, 3).octets(long.size), long)


def test_streams_of_different_numbers_and_keys_differ() -> None:
    streams = [Stream(key, number).octets(64).tobytes() for key in (KEY, bytes(32)) for number in (0, 1, 2, 2**32)]
    blocks = [stream[start : start + 16] for stream in streams for start in range(0, 64, 16)]
    assert len(set(blocks)) == len(blocks)

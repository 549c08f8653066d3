"""Every decoder meets bytes that nobody wrote: our own error or a valid value, never anything else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ppxgboost.models import issued

from veilboost.errors import CiphertextError, InputError, VeilboostError
from veilboost.ppxgboost import EncryptedModel, UserKeys, keys, wire

PASSPHRASE = "correct horse"


def decoders() -> dict[str, tuple[bytes, Callable[[bytes], Any]]]:
    """What each decoder reads, and the decoder."""
    found: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {}
    for scheme in ("ore", "ope"):
        case = issued(scheme)
        query = case.keys.encrypt_query(case.rows[:3])
        found[f"{scheme} model"] = case.encrypted.to_bytes(), EncryptedModel.from_bytes
        found[f"{scheme} query"] = query, case.encrypted.evaluate
        found[f"{scheme} result"] = case.encrypted.evaluate(query), case.keys.decrypt
    found["keys"] = issued().keys.to_bytes(PASSPHRASE), lambda data: UserKeys.from_bytes(data, PASSPHRASE)
    return found


@pytest.fixture(scope="module", autouse=True)
def cheap_passphrases() -> Any:
    """Hundreds of key files: scrypt at its least."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veilboost.ppxgboost.passphrase._COST", 1)
        patch.setattr("veilboost.ppxgboost.passphrase._MOST_COST", 4)
        yield


NAMES = ["ore model", "ore query", "ore result", "ope model", "ope query", "ope result", "keys"]
_DECODERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {}


def decoder(name: str) -> tuple[bytes, Callable[[bytes], Any]]:
    if not _DECODERS:
        _DECODERS.update(decoders())
    return _DECODERS[name]


def survives(decode: Callable[[bytes], Any], data: bytes) -> bool:
    try:
        decode(data)
    except VeilboostError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    good, decode = decoder(name)
    damaged = bytearray(good)
    at = st.one_of(st.integers(0, min(200, len(good) - 1)), st.integers(0, len(good) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(at)
        damaged[position : position + data.draw(st.integers(1, 8))] = data.draw(st.binary(min_size=1, max_size=8))
    survives(decode, bytes(damaged))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cut_off_and_longer_bytes(name: str, data: st.DataObject) -> None:
    good, decode = decoder(name)
    length = data.draw(st.one_of(st.integers(0, min(400, len(good) - 1)), st.integers(0, len(good) - 1)))
    assert not survives(decode, good[:length])
    assert not survives(decode, good + data.draw(st.binary(min_size=1, max_size=30)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), head=st.sampled_from([0, 8, 9, 25, 33]))
def test_made_up_bytes(name: str, content: bytes, head: int) -> None:
    good, decode = decoder(name)
    assert not survives(decode, good[:head] + content)


@pytest.mark.parametrize("name", NAMES)
def test_absurd_lengths_reserve_no_memory(name: str) -> None:
    good, decode = decoder(name)
    for at in range(9, min(len(good) - 8, 200)):
        survives(decode, good[:at] + b"\xff" * 7 + b"\x00" + good[at + 8 :])
        survives(decode, good[:at] + (1 << 27).to_bytes(8, "little") + good[at + 8 :])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("thing", ["text", None, 5, [1]])
def test_what_is_no_bytes(name: str, thing: Any) -> None:
    with pytest.raises(CiphertextError, match="is bytes, not"):
        decoder(name)[1](thing)


def test_one_thing_for_another() -> None:
    for name in NAMES:
        for other in NAMES:
            if name.split()[-1] != other.split()[-1]:
                assert not survives(decoder(name)[1], decoder(other)[0])


def test_key_files_need_their_passphrase() -> None:
    data = decoder("keys")[0]
    for wrong in ("", "Correct horse", b"correct hors"):
        with pytest.raises(CiphertextError, match="the passphrase is wrong, or the keys are damaged"):
            UserKeys.from_bytes(data, wrong)
    with pytest.raises(InputError, match="passphrase is empty"):
        issued().keys.to_bytes("")
    for wrong in (1234, True, None, [1, 2], "\ud800"):
        with pytest.raises(InputError, match="passphrase is text or bytes"):
            issued().keys.to_bytes(wrong)  # type: ignore[arg-type]
    accent = issued().keys.to_bytes("caf\u00e9")
    assert UserKeys.from_bytes(accent, "cafe\u0301").private == issued().keys.private
    again = UserKeys.from_bytes(data, PASSPHRASE.encode())
    assert again.private == issued().keys.private and again.features == issued().keys.features
    assert issued().keys.to_bytes(PASSPHRASE) != data  # a fresh salt


def test_key_files_hold_nothing_in_plaintext() -> None:
    case = issued()
    data = decoder("keys")[0]
    secrets = [
        case.keys.comparisons.secret,
        case.keys.comparisons.secret.hex().encode(),
        f"{case.keys.private.p:x}".encode(),
    ]
    for secret in [*secrets, b"cholesterol", b"smoker", b"zurich", b"binary:logistic"]:
        assert secret not in data


CHANGES: list[dict[str, Any]] = [
    {"p": "7"},
    {"p": "x"},
    {"features": 3},
    {"numeric": [[99, True, 1, 2]] * 8},
    {"numeric": [[0, True]] * 8},
    {"sets": [[0, -5]]},
    {"exponent": "e"},
    {"exponent": 5000},
    {"objective": "made:up"},
    {"exponent": float("inf")},
    {"comparisons": "zz"},
    {"comparisons": "00"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_keys_of_another_form(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that the passphrase opens and that this version did not write."""
    dumps = keys.json.dumps
    monkeypatch.setattr(keys.json, "dumps", lambda content: dumps(content | change))
    data = issued().keys.to_bytes(PASSPHRASE)
    monkeypatch.undo()
    with pytest.raises(InputError):
        UserKeys.from_bytes(data, PASSPHRASE)


def test_impossible_entries_of_tables_are_refused() -> None:
    case = issued()
    data, tables = case.encrypted.to_bytes(), case.encrypted.thresholds.tables.tobytes()
    at = data.index(tables)
    with pytest.raises(CiphertextError, match="impossible entry"):
        EncryptedModel.from_bytes(data[: at + 7] + b"\xff" + data[at + 8 :])


def test_versions() -> None:
    data = decoder("ore query")[0]
    assert data[:8] == wire.QUERY
    with pytest.raises(CiphertextError, match="another version"):
        decoder("ore query")[1](data[:8] + b"\x02" + data[9:])

"""Encrypted models: what they predict, what their bytes hold, and what they refuse."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gmpy2 import mpz
from tests.ppxgboost.models import KEY_BITS, SITES, issued, patients

from veilboost.errors import CiphertextError, ModelError, VeilboostError
from veilboost.ppxgboost import EncryptedModel, Proxy, comparisons, encrypted_model, workers
from veilboost.trees.scoring_file import read_scoring_model

SCHEMES = ["ore", "ope"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("objective", "classes"), [("binary:logistic", 2), ("reg:squarederror", 1), ("multi:softprob", 3)]
)
def test_predictions_are_those_of_the_plaintext_model(scheme: str, objective: str, classes: int) -> None:
    case = issued(scheme, objective, classes)
    found = case.ask(case.rows[:60])
    expected = case.predict(case.rows[:60])
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    margins = case.ask(case.rows[:60], output_margin=True)
    np.testing.assert_allclose(margins, case.predict(case.rows[:60], output_margin=True), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_on_thresholds_and_missing_ones_take_the_same_path(scheme: str) -> None:
    """Every threshold, its neighbours and a missing value, in every numeric feature, one at a time."""
    case = issued(scheme)
    plain = read_scoring_model(case.booster)
    base = {name: value for name, value in case.rows.iloc[0].items()} | {"site of care": SITES[0]}
    rows = []
    for number, feature in enumerate(plain.features):
        if feature.categorical:
            rows += [{**base, feature.name: level} for level in [*SITES, "nowhere", None]]
            continue
        thresholds = {
            float(t.threshold[n]) for t in plain.trees for n in np.flatnonzero(~t.leaf & (t.feature == number))
        }
        for threshold in sorted(thresholds)[:12]:
            at = np.float32(threshold)
            around = (at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf)))
            rows += [{**base, feature.name: float(value)} for value in around]
        rows += [{**base, feature.name: value} for value in (None, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38)]
    with pytest.warns(UserWarning, match="'site of care' has categories in 1 of"):
        query = case.keys.encrypt_query(rows)
    reached = case.encrypted._leaves_reached(case.encrypted.layout.read_query(query))
    values = np.array([[_plain(row[feature.name], feature.levels) for feature in plain.features] for row in rows])
    leaf_number = np.cumsum(np.concatenate([tree.leaf for tree in plain.trees])) - 1
    starts = np.cumsum([0, *(tree.n_nodes for tree in plain.trees)])[:-1]
    expected = leaf_number[plain.leaf_index(values.astype(np.float32)) + starts]
    np.testing.assert_array_equal(reached, expected)


def _plain(value: Any, levels: tuple[str, ...]) -> float:
    if value is None or value != value:
        return np.nan
    return float(levels.index(value) if value in levels else -1) if levels else float(value)


def test_one_row_has_one_ciphertext_and_the_shape_of_one_row() -> None:
    for case in (issued(), issued(objective="multi:softprob", classes=3)):
        row = case.rows.iloc[0].to_dict()
        result = case.encrypted.evaluate(case.keys.encrypt_query(row))
        assert len(case.encrypted.layout.read_result(result, case.encrypted.key)[1]) == 1
        np.testing.assert_allclose(case.keys.decrypt(result), case.predict(case.rows[:1]), rtol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_missing_values_look_like_other_values(scheme: str) -> None:
    """Queries have the same length, and a missing value has no ciphertext of its own."""
    case = issued(scheme)
    row = {**case.rows.iloc[0].to_dict(), "age": None}
    queries = [case.encrypted.layout.read_query(case.keys.encrypt_query(row)) for _ in range(12)]
    assert len({len(case.keys.encrypt_query({**row, "age": age})) for age in (None, 41.0, -3e38)}) == 1
    age = [
        number for number, column in enumerate(case.keys.numeric) if case.keys.features[column.feature].name == "age"
    ]
    for number in age:
        if scheme == "ope":
            assert len({int(query.values[0, number]) for query in queries}) > 1
        else:
            assert len({bytes(query.left.places[0, number]) for query in queries}) > 1


def test_more_classes_than_a_ciphertext_has_slots() -> None:
    case = issued("ore", "multi:softprob", 40, 1)
    assert case.encrypted.layout.parts(case.encrypted.key) == 2
    np.testing.assert_allclose(case.ask(case.rows[:9]), case.predict(case.rows[:9]), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(case.ask(case.rows[:1]), case.predict(case.rows[:1]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2, 30, 31, 32, 62, 95])
def test_rows_share_ciphertexts(count: int) -> None:
    case = issued()
    assert case.encrypted.layout.rows_together(case.encrypted.key) == 31
    result = case.encrypted.evaluate(case.keys.encrypt_query(case.rows[:count]))
    assert len(case.encrypted.layout.read_result(result, case.encrypted.key)[1]) == -(-count // 31)
    np.testing.assert_allclose(case.keys.decrypt(result), case.predict(case.rows[:count]), rtol=1e-6)


def test_processes_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    case = issued()
    query = case.keys.encrypt_query(case.rows[:150])
    alone = case.encrypted.evaluate(query, processes=1)
    monkeypatch.setattr(encrypted_model, "_WORTH_PROCESSES", 1)
    assert case.encrypted.evaluate(query, processes=2) == alone


@pytest.mark.slow
@pytest.mark.parametrize("processes", [3, 9])
def test_more_processes_than_cores_or_ciphertexts(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = issued()
    query = case.keys.encrypt_query(case.rows[:150])
    alone = case.encrypted.evaluate(query, processes=1)
    monkeypatch.setattr(encrypted_model, "_WORTH_PROCESSES", 1)
    assert case.encrypted.evaluate(query, processes=processes) == alone


@pytest.mark.parametrize("scheme", SCHEMES)
def test_many_rows_are_encrypted_on_all_cores(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = issued(scheme)
    rows = case.rows.dropna()  # missing cells are encrypted differently every time
    alone = case.keys.encrypt_query(rows)
    monkeypatch.setattr(comparisons, "_WORTH_THREADS", 1)
    monkeypatch.setattr(comparisons, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert case.keys.encrypt_query(rows) == alone


def test_blocks_of_rows_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    case = issued()
    query = case.keys.encrypt_query(case.rows)
    whole = case.encrypted.evaluate(query, processes=1)
    monkeypatch.setattr(encrypted_model, "_GROUPS_AT_ONCE", 2)
    assert case.encrypted.evaluate(query, processes=1) == whole


def test_servers_bound_the_rows_of_a_query() -> None:
    case = issued()
    query = case.keys.encrypt_query(case.rows[:11])
    with pytest.raises(CiphertextError, match="has 11 rows, and at most 10 are answered"):
        case.encrypted.evaluate(query, most_rows=10)
    assert len(case.keys.decrypt(case.encrypted.evaluate(query, most_rows=11))) == 11


def test_workers_take_no_modules_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker holds the key of comparisons."""
    (tmp_path / "secrets.py").write_text("raise SystemExit('taken from the working directory')")
    monkeypatch.chdir(tmp_path)
    assert workers.preserve(bytes(32), [[(0, np.array([1, 2], dtype=np.uint32))]])[0][0].shape == (2,)


def test_a_worker_that_dies_says_why() -> None:
    with pytest.raises(VeilboostError, match=r"status 1 .*CiphertextError.*this is not an encrypted model"):
        workers.evaluate(b"nonsense and more", [b"query"])


def test_weights_of_too_different_sizes_are_refused() -> None:
    booster = issued(objective="reg:squarederror", classes=1).booster
    content = json.loads(booster.save_raw("json"))
    tree = content["learner"]["gradient_booster"]["model"]["trees"][3]
    tree["split_conditions"][tree["left_children"].index(-1)] = 1e30
    with pytest.raises(ModelError, match="differ so much in size"):
        Proxy(key_bits=KEY_BITS).personalise(json.dumps(content).encode())


def test_names_that_are_no_text_in_utf8() -> None:
    content = json.loads(issued().booster.save_raw("json"))
    content["learner"]["feature_names"][0] = "\ud800"
    _, keys = Proxy(key_bits=KEY_BITS).personalise(json.dumps(content).encode())
    assert any(feature.name == "\ud800" for feature in keys.features)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bytes_come_back(scheme: str) -> None:
    case = issued(scheme)
    data = case.encrypted.to_bytes()
    again = EncryptedModel.from_bytes(data)
    assert again.to_bytes() == data
    query = case.keys.encrypt_query(case.rows[:3])
    assert again.evaluate(query) == case.encrypted.evaluate(query)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_model_holds_nothing_in_plaintext(scheme: str) -> None:
    """No name, category, threshold, code of a threshold, leaf weight or base score, in any usual form."""
    case = issued(scheme)
    plain = read_scoring_model(case.booster)
    data = case.encrypted.to_bytes()
    texts = [feature.name for feature in plain.features] + [level for f in plain.features for level in f.levels]
    for text in texts:
        for encoding in ("utf-8", "utf-16-le", "latin-1"):
            assert text.encode(encoding) not in data
    thresholds = {float(tree.threshold[node]) for tree in plain.trees for node in np.flatnonzero(~tree.leaf)} - {0.0}
    weights = {float(weight) for tree in plain.trees for weight in tree.weight[tree.leaf]}
    weights |= {float(margin) for margin in plain.base_margins}
    assert len(thresholds) > 20 and len(weights) > 30
    long, short = [], []
    for number in thresholds | weights - {0.0}:
        bits = struct.pack(">f", number)
        code = bytes(byte ^ 255 for byte in bits) if number < 0 else bytes([bits[0] | 128]) + bits[1:]
        short += [bits, bits[::-1], code, code[::-1]]
        long += [struct.pack("<d", number), struct.pack(">d", number), repr(number).encode()]
    fixed = [round(weight * 2.0**case.keys.exponent) for weight in weights - {0.0}]
    long += [struct.pack(order, number) for number in fixed for order in ("<q", ">q")]
    assert not [pattern for pattern in long if pattern in data]
    # So many patterns of 4 bytes are in as many random bytes by chance, now and then.
    by_chance = len(short) * len(data) / 2**32
    assert sum(pattern in data for pattern in short) <= 3 + 10 * by_chance


def test_two_users_have_nothing_in_common() -> None:
    first, second = (Proxy(key_bits=KEY_BITS).personalise(issued().booster)[0] for _ in range(2))
    assert not set(first.pseudonyms) & set(second.pseudonyms)
    assert not set(first.leaves) & set(second.leaves)
    assert first.layout.key_id != second.layout.key_id and first.key.n != second.key.n


def test_a_pseudonym_for_each_direction_of_missing_values() -> None:
    case = issued()
    plain = read_scoring_model(case.booster)
    used = {
        (int(tree.feature[node]), None if tree.categories.given[node] else bool(tree.default_left[node]))
        for tree in plain.trees
        for node in np.flatnonzero(~tree.leaf)
    }
    assert len(case.encrypted.pseudonyms) == len(used)
    assert len(set(case.encrypted.pseudonyms)) == len(used)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_queries_for_others_are_refused(scheme: str) -> None:
    case = issued(scheme)
    other = Proxy(scheme=scheme, key_bits=KEY_BITS).personalise(case.booster)  # type: ignore[arg-type]
    query = other[1].encrypt_query(case.rows[:2])
    with pytest.raises(CiphertextError, match="encrypted with keys of another model"):
        case.encrypted.evaluate(query)
    result = other[0].evaluate(query)
    with pytest.raises(CiphertextError, match="model for other keys"):
        case.keys.decrypt(result)
    forged = result[:9] + case.encrypted.layout.key_id + result[25:]  # the other key's ciphertext under this key's name
    with pytest.raises(CiphertextError):
        case.keys.decrypt(forged)


def test_ciphertexts_without_an_inverse_are_refused() -> None:
    case = issued()
    key, layout = case.encrypted.key, case.encrypted.layout
    for bad in (mpz(0), key.n, key.n * 5, case.keys.private.p, key.n_squared - key.n):
        with pytest.raises(CiphertextError):
            case.keys.decrypt(layout.write_result(1, [bad], key))
    data = case.encrypted.to_bytes()
    size = key.ciphertext_bytes
    with pytest.raises(CiphertextError, match="no inverse"):
        EncryptedModel.from_bytes(data[:-size] + int(key.n).to_bytes(size, "big"))
    with pytest.raises(CiphertextError, match="out of range"):
        EncryptedModel.from_bytes(data[:-size] + b"\xff" * size)


def test_reprs_hold_no_keys() -> None:
    case = issued()
    shown = repr(case.encrypted) + repr(case.keys) + repr(case.keys.comparisons) + repr(case.keys.private)
    assert str(case.keys.private.p) not in shown and case.keys.comparisons.secret.hex() not in shown
    assert len(shown) < 400


def test_rows_in_every_form() -> None:
    case = issued()
    frame, _ = patients(5, seed=7)
    records = [{name: value for name, value in row.items()} for row in frame.to_dict("records")]
    np.testing.assert_array_equal(case.ask(records), case.ask(frame))

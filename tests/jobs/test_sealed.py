"""Encrypted arrays on disk: the right key and purpose give them back, anything else is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from veilboost.errors import InputError
from veilboost.jobs import sealed
from veilboost.jobs.sealed import Arrays, seal, unseal

KEY = bytes(range(32))
PURPOSE = b"for the test"


def looks_random(data: bytes) -> bool:
    """Chi-square over the values of a byte, 255 degrees of freedom: true of random bytes but with probability 1e-10."""
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    return bool(((counts - len(data) / 256) ** 2).sum() / (len(data) / 256) < 420)


def arrays() -> Arrays:
    return {"zeros": np.zeros(2000, dtype=np.uint64), "numbers": np.arange(24, dtype=np.uint64).reshape(2, 3, 4)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.sealed"
    seal(path, arrays(), KEY, PURPOSE)
    return path


def refused(path: Path, key: bytes = KEY, purpose: bytes = PURPOSE) -> str:
    with pytest.raises(InputError) as caught:
        unseal(path, key, purpose)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


def test_arrays_come_back(path: Path) -> None:
    found = unseal(path, KEY, PURPOSE)
    assert set(found) == {"zeros", "numbers"}
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.uint64
    assert path.stat().st_mode & 0o077 == 0
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in {*range(40), *range(40, len(data), 97), *range(len(data) - 20, len(data))}:
        path.write_bytes(data[:length])
        assert "is damaged" in refused(path)


def test_every_edit_is_refused(path: Path) -> None:
    """Of the version, the nonce, the ciphertext and the tag."""
    data = path.read_bytes()
    for place in {*range(40), *range(40, len(data), 97), *range(len(data) - 20, len(data))}:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert "is damaged" in refused(path)
    for changed in (data + b"\0", b"\0" + data, data + data, data[::-1]):
        path.write_bytes(changed)
        assert "is damaged" in refused(path)


def test_another_key_or_purpose_is_refused(path: Path) -> None:
    assert "belongs to another job, owner, table or key" in refused(path, key=bytes(32))
    assert "belongs to another job, owner, table or key" in refused(path, purpose=PURPOSE + b"!")


def test_what_is_no_archive_of_arrays_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypted under the right key by something else: no pickle is loaded, nothing but arrays comes out."""

    def write(plain: bytes) -> None:
        monkeypatch.setattr(sealed.np, "savez", lambda file, **arrays: file.write(plain))
        seal(path, {}, KEY, PURPOSE)
        monkeypatch.undo()

    write(b"not an archive")
    refused(path)
    harmful = np.array([object()])
    seal(path, {"objects": harmful}, KEY, PURPOSE)
    refused(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "none")
    assert "cannot be read" in refused(tmp_path)


def test_nothing_shows_through(path: Path) -> None:
    """Two thousand zeros leave no trace, nor do names, and the same arrays look different every time."""
    first = path.read_bytes()
    assert looks_random(first[1:])
    for plain in (bytes(16), b"numbers", b"zeros", b"NUMPY", b"PK\x03\x04", KEY, PURPOSE):
        assert plain not in first
    seal(path, arrays(), KEY, PURPOSE)
    second = path.read_bytes()
    assert len(first) == len(second)
    same = np.frombuffer(first, dtype=np.uint8)[1:] == np.frombuffer(second, dtype=np.uint8)[1:]
    assert same.mean() < 0.02


def test_nonces_do_not_repeat(path: Path) -> None:
    nonces = set()
    for _ in range(200):
        seal(path, {}, KEY, PURPOSE)
        nonces.add(path.read_bytes()[1:13])
    assert len(nonces) == 200


def test_who_is_killed_while_writing_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        seal(path, arrays(), KEY, PURPOSE)
    assert path.read_bytes() == old
    monkeypatch.undo()
    seal(path, arrays(), KEY, PURPOSE)  # over what the killed one left behind
    assert unseal(path, KEY, PURPOSE)["numbers"].size == 24
    assert [one.name for one in path.parent.iterdir()] == [path.name]

"""Arrays of shares on disk, encrypted under their owner's own key.

File: one version byte, a nonce of 12 bytes, and AES-256-GCM ciphertext of an npz archive (no pickle). What the file is,
and of which job and owner, is bound to it as associated data, so that no file passes for another.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilboost.errors import InputError

_VERSION = b"\x01"
_NONCE_BYTES = 12

Arrays = dict[str, npt.NDArray[Any]]


def seal(path: Path, arrays: Mapping[str, npt.NDArray[Any]], key: bytes, bound_to: bytes) -> None:
    """Write arrays to a file that only its owner can read; who kills the process finds the old file or the new one.

    The file is not forced to the disk, which may take longer than a tree: after a power failure it may be damaged, and
    is refused then.
    """
    plain = BytesIO()
    np.savez(plain, **arrays)  # type: ignore[arg-type]
    nonce = token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, plain.getbuffer(), bound_to)
    partial = path.with_name(path.name + ".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_VERSION + nonce)
        file.write(sealed)
    partial.replace(path)


def unseal(path: Path, key: bytes, bound_to: bytes) -> Arrays:
    """Read what `seal` wrote.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another job or owner, or encrypted under another key.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None
    if data[:1] != _VERSION:
        raise InputError(f"{path}: is damaged, or was written by another version of veilboost: train the job again")
    nonce, sealed = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
    try:
        plain = AESGCM(key).decrypt(nonce, sealed, bound_to)
        with np.load(BytesIO(plain)) as archive:
            return {name: archive[name] for name in archive.files}
    except (InvalidTag, ValueError, zipfile.BadZipFile):
        raise InputError(
            f"{path}: is damaged, or belongs to another job, owner, table or key: "
            "remove it, or use what it was written with"
        ) from None

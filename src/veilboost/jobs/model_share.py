"""An owner's share of a trained model on disk, encrypted under the owner's own key.

File: one version byte, a nonce of 12 bytes, and AES-256-GCM ciphertext of an npz archive (no pickle), with the job's
hash and the owner's name as associated data.
"""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path
from secrets import token_bytes

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilboost.errors import InputError
from veilboost.mpc.ring import Words
from veilboost.xorboost.reveal import shared_values
from veilboost.xorboost.train import SharedForest, TrainingTask

_VERSION = b"\x01"
_NONCE_BYTES = 12

#: Name of the file in an owner's folder.
FILE_NAME = "model.share"


def save_share(
    directory: Path, task: TrainingTask, forest: SharedForest, key: bytes, job_hash: bytes, owner: str
) -> None:
    """Write this owner's share of a model to `directory`/model.share, readable by its owner only."""
    arrays = {name: value.words for name, value in shared_values(task, forest).items()}
    plain = BytesIO()
    np.savez(plain, **arrays)  # type: ignore[arg-type]
    nonce = token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, plain.getvalue(), _bound_to(job_hash, owner))
    path = directory / FILE_NAME
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_VERSION + nonce + sealed)
    partial.replace(path)


def load_share(directory: Path, key: bytes, job_hash: bytes, owner: str) -> dict[str, Words]:
    """Read what `save_share` wrote.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another job or owner, or encrypted under another key.
    """
    path = directory / FILE_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): train the job first") from None
    if data[:1] != _VERSION:
        raise InputError(f"{path}: was written by another version of veilboost: train the job again")
    nonce, sealed = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
    try:
        plain = AESGCM(key).decrypt(nonce, sealed, _bound_to(job_hash, owner))
        with np.load(BytesIO(plain)) as archive:
            return {name: archive[name] for name in archive.files}
    except (InvalidTag, ValueError, zipfile.BadZipFile):
        raise InputError(
            f"{path}: is damaged, or belongs to another job, owner or key: use the key it was written with"
        ) from None


def _bound_to(job_hash: bytes, owner: str) -> bytes:
    return b"veilboost model share " + job_hash + owner.encode()

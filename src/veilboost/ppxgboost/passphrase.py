"""Secrets at rest: AES-256-GCM under a key that scrypt [RFC7914] makes of a passphrase."""

import unicodedata
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from veilboost.errors import CiphertextError, InputError
from veilboost.ppxgboost import wire

_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32

#: Cost of scrypt for a new file: 2^17 blocks of 1 KiB, 128 MiB and about half a second. A file may say less or more.
_COST: Final = 17
_MOST_COST: Final = 20
_BLOCK_SIZE: Final = 8


def seal(to: wire.Writer, content: bytes, passphrase: str | bytes) -> None:
    """Write `content` encrypted, bound to all that `to` holds before.

    Raises
    ------
    InputError
        The passphrase is empty, or neither text nor bytes.
    """
    given = _as_bytes(passphrase)
    if not given:
        raise InputError("the passphrase is empty: choose one that nobody can guess")
    salt, nonce = token_bytes(_SALT_BYTES), token_bytes(_NONCE_BYTES)
    to.number(_COST)
    to.raw(salt + nonce)
    bound_to = to.done()
    to.octets(AESGCM(_key(given, salt, _COST)).encrypt(nonce, content, bound_to))


def unseal(source: wire.Reader, passphrase: str | bytes) -> bytes:
    """What `seal` wrote.

    Raises
    ------
    CiphertextError
        The passphrase is wrong, or something is damaged.
    """
    cost = source.number(_MOST_COST)
    salt, nonce = source.raw(_SALT_BYTES), source.raw(_NONCE_BYTES)
    bound_to = source.so_far()
    sealed = source.octets()
    source.done()
    if cost < 1:
        raise source.damaged("its cost is impossible")
    try:
        return AESGCM(_key(_as_bytes(passphrase), salt, cost)).decrypt(nonce, sealed, bound_to)
    except InvalidTag:
        raise CiphertextError("the passphrase is wrong, or the keys are damaged") from None


def _key(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=1 << cost, r=_BLOCK_SIZE, p=1).derive(passphrase)


def _as_bytes(passphrase: str | bytes) -> bytes:
    if isinstance(passphrase, bytes | bytearray):
        return bytes(passphrase)
    try:
        return unicodedata.normalize("NFC", passphrase).encode()  # keyboards differ in how they write accents
    except (TypeError, UnicodeEncodeError):
        raise InputError("a passphrase is text or bytes") from None

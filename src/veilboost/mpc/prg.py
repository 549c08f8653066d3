"""Pseudorandom streams: AES-256 in counter mode, one stream per (key, number).

The counter block is the stream's number (64 bits) followed by a block counter (64 bits), so that no two streams of one
key overlap. Keys come from `secrets` or from HKDF [RFC5869] over a key that did.

[RFC5869]: https://www.rfc-editor.org/rfc/rfc5869
"""

import math

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from veilboost.mpc.ring import WORD, Words

KEY_BYTES = 32
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


def derive_key(secret: bytes, context: bytes) -> bytes:
    """A key of 32 bytes bound to a public context."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"veilboost " + context).derive(secret)


class Stream:
    """Uniform words that everybody who holds the key can draw in the same order."""

    def __init__(self, key: bytes, number: int) -> None:
        counter_block = number.to_bytes(8, "big") + bytes(8)
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter_block)).encryptor()

    def __repr__(self) -> str:
        return "Stream(redacted)"

    def octets(self, count: int) -> npt.NDArray[np.uint8]:
        """The next `count` bytes."""
        out = np.empty(count, dtype=np.uint8)
        view = out.data
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            self._encryptor.update_into(memoryview(_ZEROS)[:size], view[start : start + size])
        return out

    def words(self, *shape: int) -> Words:
        """The next words, as an array of the given shape."""
        count = math.prod(shape)
        return self.octets(count * WORD.itemsize).view(WORD).reshape(shape)

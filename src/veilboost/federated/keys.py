"""Keys between clients and aggregators, and the boxes that only one aggregator opens.

docs/protocols/federated.md. An aggregator draws an X25519 key for every epoch and signs it with the key of its
certificate; a client seals a fresh seed for each aggregator (RFC 9180, hybrid public key encryption) and signs what it
sends. From a seed come the key of the streams that mask updates and, for the last aggregator, the key of the boxes that
carry what is left (RFC 8439). Whoever relays all this learns nothing, and cannot put its own keys in their place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.federated.messages import octets_of, text_of
from veilboost.mpc.prg import KEY_BYTES, Stream, derive_key
from veilboost.mpc.ring import WORD, Words
from veilboost.version import __version__

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_NONCE_BYTES = 32
_TAG_BYTES = 16

#: No client has more.
MOST_ROWS = 1 << 40


class Identity(Protocol):
    """A participant's certificate, and those of others; made from the files of `veilboost certs`."""

    @property
    def certificate(self) -> str:
        """The own certificate in PEM form."""

    def sign(self, data: bytes) -> bytes:
        """A signature under the own certificate's key."""

    def verify(self, name: str, certificate: str, data: bytes, signature: bytes) -> bool:
        """Whether a certificate of this job's authority for that name has signed the data."""


@dataclass(frozen=True)
class AggregatorKey:
    """An aggregator's key pair of one epoch."""

    private: X25519PrivateKey = field(repr=False)

    @classmethod
    def draw(cls) -> AggregatorKey:
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def introduce(self, identity: Identity, name: str, job_hash: bytes, nonce: bytes) -> dict[str, str]:
        """What clients need in order to seal boxes for this aggregator, for the question "hello"."""
        signature = identity.sign(_aggregator_statement(name, job_hash, nonce, self.public))
        return {"key": self.public.hex(), "certificate": identity.certificate, "signature": signature.hex()}


@dataclass(frozen=True)
class ClientKeys:
    """What an aggregator and a client have in common in one epoch.

    Attributes
    ----------
    context
        Public: what everything of this client in this epoch is bound to.
    stream_key, box_key
        For masks, and for boxes; the latter is used with the last aggregator only.
    """

    context: bytes
    stream_key: bytes = field(repr=False)
    box_key: bytes = field(repr=False)

    @classmethod
    def of(cls, seed: bytes, context: bytes) -> ClientKeys:
        return cls(context, derive_key(seed, b"federated streams " + context), derive_key(seed, b"boxes " + context))

    def mask(self, serial: int, size: int) -> Words:
        """The words that mask the update that answers a question; both sides expand a serial once."""
        return Stream(self.stream_key, serial).words(size)

    def seal(self, serial: int, question: bytes, words: Words) -> bytes:
        """The rest of an update. The key seals one box per serial number, so that no nonce comes twice."""
        return ChaCha20Poly1305(self.box_key).encrypt(_nonce(serial), words.tobytes(), self._bound_to(question))

    def open(self, serial: int, question: bytes, box: bytes, size: int) -> Words | None:
        """The words of a box; None where it was not sealed by this client for this question, or has another size."""
        if len(box) != size * WORD.itemsize + _TAG_BYTES:
            return None
        try:
            plain = ChaCha20Poly1305(self.box_key).decrypt(_nonce(serial), box, self._bound_to(question))
        except InvalidTag:
            return None
        return np.frombuffer(plain, dtype=WORD).copy()

    def _bound_to(self, question: bytes) -> bytes:
        return self.context + hashlib.sha256(question).digest()


class ClientRing:
    """A client's keys with all aggregators in one epoch.

    Parameters
    ----------
    identity
        The client's.
    job_hash
        Of the job file.
    name, rows
        Of this client.
    aggregators
        Names in job order.
    """

    def __init__(self, identity: Identity, job_hash: bytes, name: str, rows: int, aggregators: Sequence[str]) -> None:
        self._identity, self._job_hash, self._name, self._rows = identity, job_hash, name, rows
        self._aggregators = tuple(aggregators)
        self._nonce, self._certificates = b"", dict[str, str]()  # of the epoch and its aggregators
        self.keys: list[ClientKeys] = []

    def __repr__(self) -> str:
        return f"ClientRing({self._name!r}, redacted)"

    def begin(self, hello: Mapping[str, object]) -> dict[str, object]:
        """Begin an epoch: check who the aggregators are, draw seeds and seal them; the header of the answer.

        Raises
        ------
        PeerMismatch
            The hello is of another job, or an aggregator's key is not signed by that aggregator.
        """
        nonce = octets_of(hello, "nonce", _NONCE_BYTES)
        introduced = hello.get("aggregators")
        if nonce is None or not isinstance(introduced, dict) or tuple(introduced) != tuple(sorted(self._aggregators)):
            raise ProtocolError("the server's greeting cannot be read: is it on another version?")
        if hello.get("version") != __version__:
            raise PeerMismatch(f"the server runs another version than {__version__}: install the same one everywhere")
        if hello.get("job") != self._job_hash.hex():
            raise PeerMismatch("the server and this client have different job files: give both the same file")
        own_nonce = token_bytes(_NONCE_BYTES)
        context = context_of(self._job_hash, nonce, self._name, own_nonce)
        keys, boxes, certificates = [], {}, {}
        for aggregator in self._aggregators:
            public, certificates[aggregator] = self._public_key(aggregator, introduced[aggregator], nonce)
            seed = token_bytes(KEY_BYTES)
            boxes[aggregator] = _SUITE.encrypt(seed, public, _box_info(context, aggregator)).hex()
            keys.append(ClientKeys.of(seed, context))
        header: dict[str, object] = {
            "name": self._name,
            "nonce": own_nonce.hex(),
            "rows": self._rows,
            "boxes": boxes,
            "certificate": self._identity.certificate,
        }
        signature = self._identity.sign(_client_statement(header, self._job_hash, nonce)).hex()
        self._nonce, self._certificates = nonce, certificates
        self.keys = keys  # all at once: with fewer keys one aggregator would get what is meant for several
        return {**header, "signature": signature}

    def share(self, serial: int, question: bytes, words: Words) -> bytes:
        """Split an update: all aggregators but the last expand their part, the last one's is returned, sealed."""
        rest = words.copy()
        for keys in self.keys[:-1]:
            rest -= keys.mask(serial, words.size)
        return self.keys[-1].seal(serial, question, rest)

    def check_end(self, digest: bytes, signatures: object) -> None:
        """Check that every aggregator has signed, in this epoch, what this client has been told when all is over.

        Raises
        ------
        PeerMismatch
            One of them has not, or has signed something else.
        """
        given = signatures if isinstance(signatures, dict) else {}
        statement = end_statement(self._job_hash, self._nonce, digest)
        for aggregator, certificate in self._certificates.items():
            signature = octets_of(given, aggregator)
            if signature is None or not self._identity.verify(aggregator, certificate, statement, signature):
                raise PeerMismatch(f"the model that the server sent was not signed by {aggregator}: do not use it")

    def _public_key(self, aggregator: str, entry: object, nonce: bytes) -> tuple[X25519PublicKey, str]:
        """An aggregator's key, and the certificate that vouches for it."""
        fields = entry if isinstance(entry, dict) else {}
        key, signature = octets_of(fields, "key", 32), octets_of(fields, "signature")
        certificate = text_of(fields, "certificate")
        if key is None or signature is None or certificate is None:
            raise ProtocolError("the server's greeting cannot be read: is it on another version?")
        statement = _aggregator_statement(aggregator, self._job_hash, nonce, key)
        if not self._identity.verify(aggregator, certificate, statement, signature):
            raise PeerMismatch(f"the key shown as that of {aggregator} was not signed by {aggregator}: do not go on")
        return X25519PublicKey.from_public_bytes(key), certificate


def accept_client(
    header: Mapping[str, object],
    client: str,
    identity: Identity,
    key: AggregatorKey,
    aggregator: str,
    job_hash: bytes,
    nonce: bytes,
) -> tuple[ClientKeys, int] | None:
    """An aggregator's part of a client's answer to "hello": keys, and the client's number of rows.

    None where the answer is not that client's, or cannot be read.
    """
    own_nonce, rows, boxes = octets_of(header, "nonce", _NONCE_BYTES), header.get("rows"), header.get("boxes")
    certificate, signature = text_of(header, "certificate"), octets_of(header, "signature")
    if own_nonce is None or certificate is None or signature is None or not isinstance(boxes, dict):
        return None
    if header.get("name") != client or type(rows) is not int or not 0 < rows < MOST_ROWS:
        return None
    signed = {name: value for name, value in header.items() if name != "signature"}
    if not identity.verify(client, certificate, _client_statement(signed, job_hash, nonce), signature):
        return None
    box = octets_of(boxes, aggregator)
    context = context_of(job_hash, nonce, client, own_nonce)
    try:
        seed = _SUITE.decrypt(box or b"", key.private, _box_info(context, aggregator))
    except (InvalidTag, ValueError):
        return None
    return (ClientKeys.of(seed, context), rows) if len(seed) == KEY_BYTES else None


def context_of(job_hash: bytes, nonce: bytes, client: str, client_nonce: bytes) -> bytes:
    """What a client's keys of an epoch are bound to: fresh bytes of all aggregators, and of the client."""
    return hashlib.sha256(b"veilboost client " + job_hash + nonce + client_nonce + client.encode()).digest()


def end_statement(job_hash: bytes, nonce: bytes, digest: bytes) -> bytes:
    """What every aggregator signs at the end of a training: `told.Told.at_the_end` in this epoch."""
    return b"veilboost federated end " + job_hash + nonce + digest


def _aggregator_statement(name: str, job_hash: bytes, nonce: bytes, key: bytes) -> bytes:
    return b"veilboost aggregator key " + job_hash + nonce + key + name.encode()


def _client_statement(header: Mapping[str, object], job_hash: bytes, nonce: bytes) -> bytes:
    return b"veilboost client hello " + job_hash + nonce + json.dumps(header, sort_keys=True).encode()


def _box_info(context: bytes, aggregator: str) -> bytes:
    return b"veilboost seed " + context + aggregator.encode()


def _nonce(serial: int) -> bytes:
    return serial.to_bytes(12, "big")

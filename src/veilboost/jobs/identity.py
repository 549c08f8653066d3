"""What a participant proves with its certificate beyond its connections: signatures that others pass on."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import NameOID

from veilboost.errors import InputError

_SIGNATURE = ec.ECDSA(hashes.SHA256())

#: What is shown may be anything at all.
_NOT_SIGNED = (InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion, ValueError, TypeError)


@dataclass(frozen=True)
class CertificateIdentity:
    """A role of a job, from its files of `veilboost certs`; see `federated.keys.Identity`."""

    certificate: str
    _key: ec.EllipticCurvePrivateKey = field(repr=False)
    _authority: x509.Certificate = field(repr=False)

    @classmethod
    def load(cls, directory: Path, role: str) -> CertificateIdentity:
        """Raises InputError when a file is missing or damaged; `certificates.load_tls` has checked the rest."""
        path = directory / f"{role}.key"
        try:
            authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
            certificate = (directory / f"{role}.pem").read_text(encoding="ascii")
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError):
            raise InputError(
                f"{path}: cannot be read: copy this role's files again from the same 'certs' run"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InputError(f"{path}: is not a key of 'veilboost certs': copy this role's files again")
        return cls(certificate, key, authority)

    def sign(self, data: bytes) -> bytes:
        """r and s one after the other (IEEE P1363): unlike in DER, of the same length every time."""
        width = _width(self._key)
        return b"".join(part.to_bytes(width, "big") for part in decode_dss_signature(self._key.sign(data, _SIGNATURE)))

    def verify(self, name: str, certificate: str, data: bytes, signature: bytes) -> bool:
        try:
            shown = x509.load_pem_x509_certificate(certificate.encode())
            shown.verify_directly_issued_by(self._authority)
            names = [attribute.value for attribute in shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            key = shown.public_key()
            now = datetime.datetime.now(datetime.UTC)
            if names != [name] or not shown.not_valid_before_utc <= now <= shown.not_valid_after_utc:
                return False
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return False
            width = _width(key)
            if len(signature) != 2 * width:
                return False
            r, s = (int.from_bytes(part, "big") for part in (signature[:width], signature[width:]))
            key.verify(encode_dss_signature(r, s), data, _SIGNATURE)
        except _NOT_SIGNED:
            return False
        return True


def _width(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> int:
    """Octets of a number of the curve."""
    return -(-key.key_size // 8)

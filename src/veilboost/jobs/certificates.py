"""Who is who: certificates for mutual TLS 1.3, and the keys under which owners store what they keep.

`write_certificates` fills a directory::

    ca.pem, ca.key        the certificate authority of this job; keep ca.key offline, whoever has it can be anybody
    NAME.pem, NAME.key    certificate of the role NAME and its private key
    NAME.storage.key      32 random bytes in hexadecimal; encrypts what NAME keeps on disk

Each role gets `ca.pem` and its own three files over a channel that nobody else reads, and nothing more. A role is
known by the common name of its certificate; host names play no part, so addresses may change.
"""

import contextlib
import datetime
import os
import secrets
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.entries import COURIER, DEALER, check_participant_name

_VALIDITY: Final = datetime.timedelta(days=5 * 365)
#: Certificates are valid from a day ago, so that a clock that is a little slow does no harm.
_CLOCK_SKEW: Final = datetime.timedelta(days=1)
#: Roles whose names no party, aggregator or analyst may have.
_OWN_NAMES: Final = (DEALER, COURIER)
_STORAGE_KEY_BYTES: Final = 32


def write_certificates(roles: Sequence[str], directory: str | Path) -> None:
    """Write a new certificate authority, and certificate, private key and storage key of every role.

    Parameters
    ----------
    roles
        Different names, such as `Job.roles`.
    directory
        Made with mode 0700 unless it is there. Files with secrets get mode 0600.

    Raises
    ------
    InputError
        Bad name, a file that is there already, or a directory that cannot be written. Nothing is left behind.
    """
    directory = Path(directory)
    _check_roles(roles)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _issue_authority(ca_key)
    files = {"ca.pem": _pem(ca), "ca.key": _private_pem(ca_key)}
    for role in roles:
        key = ec.generate_private_key(ec.SECP256R1())
        files[f"{role}.pem"] = _pem(_issue(role, key.public_key(), ca, ca_key))
        files[f"{role}.key"] = _private_pem(key)
        files[f"{role}.storage.key"] = f"{secrets.token_hex(_STORAGE_KEY_BYTES)}\n".encode()
    _write_new(files, directory)


def load_tls(directory: str | Path, role: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts with which a role listens and dials: TLS 1.3 only, both sides show a certificate of this authority.

    Host names are not checked; the caller compares `peer_name` with the role that it expects.

    Returns
    -------
    server_context, client_context

    Raises
    ------
    InputError
        A file is missing, damaged or expired, or the files do not belong together.
    """
    directory = Path(directory)
    authority, certificate, private_key = (directory / name for name in ("ca.pem", f"{role}.pem", f"{role}.key"))
    _check_certificate(authority, certificate, role)
    _read(private_key)
    contexts = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    for context in contexts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cafile=authority)
            # An encrypted key would ask for its passphrase on the terminal.
            context.load_cert_chain(certificate, private_key, password=b"")
        except (ssl.SSLError, ValueError):
            raise InputError(
                f"{private_key}: is not the private key of {certificate.name}: copy both from the same 'certs' run"
            ) from None
    server, client = contexts
    server.num_tickets = 0  # every connection proves both identities afresh
    return server, client


def peer_name(connection: ssl.SSLSocket | ssl.SSLObject) -> str:
    """Role of the participant at the other end, from the common name of its certificate.

    Raises
    ------
    PeerMismatch
        It has shown no certificate, or one without exactly one common name.
    """
    shown: Mapping[str, Any] = connection.getpeercert() or {}
    names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise PeerMismatch("a peer's certificate does not name one role: issue certificates with 'veilboost certs'")
    return str(names[0])


def load_storage_key(directory: str | Path, name: str) -> bytes:
    """The 32 bytes with which `name` encrypts what it keeps; raises InputError when there is no such key."""
    path = Path(directory) / f"{name}.storage.key"
    content = _read(path)
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _STORAGE_KEY_BYTES:
        raise InputError(f"{path}: must hold {_STORAGE_KEY_BYTES} bytes in hexadecimal: copy the file again")
    return key


def _check_roles(roles: Sequence[str]) -> None:
    seen: set[str] = set()
    for role in roles:
        if role not in _OWN_NAMES:
            try:
                check_participant_name(role)
            except ValueError as error:
                raise InputError(f"role {role!r}: {error}") from None
        if role.casefold() in seen:
            raise InputError(f"role '{role}' is there twice, maybe in other capitals: give each role its own name")
        seen.add(role.casefold())


def _issue_authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "veilboost certificate authority")])
    usage = _key_usage(certificate_authority=True)
    builder = _builder(name, name, key.public_key(), key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _issue(
    role: str, key: ec.EllipticCurvePublicKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = _builder(name, ca.subject, key, ca_key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(certificate_authority=False), critical=True)
    builder = builder.add_extension(both_ends, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, certificate_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_authority,
        key_cert_sign=certificate_authority,
        crl_sign=certificate_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_new(files: dict[str, bytes], directory: Path) -> None:
    """All files or none; never over a file that is there."""
    written: list[Path] = []
    path = directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        for name, content in files.items():
            path = directory / name
            mode = 0o644 if name.endswith(".pem") else 0o600
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except OSError as error:
        for done in written:
            done.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise InputError(f"{path}: is there already and is not overwritten: choose a new directory") from None
        raise InputError(f"{path}: cannot be written ({error.strerror}): choose another directory") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file: make it with 'veilboost certs', or check --certs") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check its permissions") from None


def _check_certificate(authority: Path, certificate: Path, role: str) -> None:
    """Refuse here, with the name of the file, what would else fail in the middle of a handshake."""
    ca, own = _load(authority), _load(certificate)
    try:
        own.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise InputError(
            f"{certificate}: was not issued by the authority in {authority.name}: copy both from the same 'certs' run"
        ) from None
    names = [attribute.value for attribute in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [role]:
        raise InputError(f"{certificate}: is the certificate of another role: do not rename the files of 'certs'")
    now = datetime.datetime.now(datetime.UTC)
    for path, loaded in ((authority, ca), (certificate, own)):
        if not loaded.not_valid_before_utc <= now <= loaded.not_valid_after_utc:
            raise InputError(f"{path}: has expired or is not valid yet: issue new certificates, or set the clock")


def _load(path: Path) -> x509.Certificate:
    content = _read(path)
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise InputError(f"{path}: is not a certificate in PEM form: copy the file again") from None

import datetime
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.certificates import load_storage_key, load_tls, peer_name, write_certificates

ROLES = ("north", "south_1", "dealer", "university")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("job") / "new" / "certs"
    write_certificates(ROLES, directory)
    return directory


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[socket.socket | Exception, ...]:
    """What server and client have after a handshake and one byte each way: a connection, or the error."""
    ends = socket.socketpair()
    results: list[socket.socket | Exception] = [RuntimeError(), RuntimeError()]

    def run(side: int, context: ssl.SSLContext) -> None:
        connection: socket.socket = ends[side]
        try:
            connection.settimeout(10)
            connection = context.wrap_socket(connection, server_side=side == 0)
            results[side] = connection
            connection.sendall(b"x")
            if connection.recv(1) != b"x":
                raise ConnectionError("closed")
        except OSError as error:
            results[side] = error
            connection.close()

    thread = threading.Thread(target=run, args=(0, server))
    thread.start()
    run(1, client)
    thread.join()
    return tuple(results)


def test_files_and_modes(certificates: Path) -> None:
    assert certificates.stat().st_mode & 0o777 == 0o700
    wanted = {"ca.pem", "ca.key"} | {f"{role}{end}" for role in ROLES for end in (".pem", ".key", ".storage.key")}
    assert {path.name for path in certificates.iterdir()} == wanted
    for path in certificates.glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_certificates_pass_a_strict_verifier(certificates: Path) -> None:
    ca = x509.load_pem_x509_certificate((certificates / "ca.pem").read_bytes())
    verifier = PolicyBuilder().store(Store([ca])).build_client_verifier()
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate((certificates / f"{role}.pem").read_bytes())
        verifier.verify(certificate, [])
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == role
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert alternatives.get_values_for_type(x509.DNSName) == [role]
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        years = (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days / 365
        assert 4.9 < years < 5.1


def test_peers_know_each_other(certificates: Path) -> None:
    server, _ = load_tls(certificates, "north")
    _, client = load_tls(certificates, "south_1")
    at_server, at_client = shake_hands(server, client)
    assert isinstance(at_server, ssl.SSLSocket) and isinstance(at_client, ssl.SSLSocket)
    assert peer_name(at_server) == "south_1"
    assert peer_name(at_client) == "north"
    assert at_server.version() == at_client.version() == "TLSv1.3"
    assert at_client.session is None or not at_client.session.has_ticket
    at_server.close()
    at_client.close()


def test_strangers_are_refused(certificates: Path, tmp_path: Path) -> None:
    write_certificates(ROLES, tmp_path / "other")
    server, client = load_tls(certificates, "north")
    _, stranger = load_tls(tmp_path / "other", "south_1")
    stranger.load_verify_locations(certificates / "ca.pem")
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    for dialling in (stranger, nobody):
        at_server, _ = shake_hands(server, dialling)
        assert isinstance(at_server, ssl.SSLError)
    impostor, _ = load_tls(tmp_path / "other", "south_1")
    impostor.verify_mode = ssl.CERT_NONE
    at_server, at_client = shake_hands(impostor, client)
    assert isinstance(at_client, ssl.SSLCertVerificationError)
    assert isinstance(at_server, OSError)


def test_older_tls_is_refused(certificates: Path) -> None:
    server, client = load_tls(certificates, "north")
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_3
    assert server.num_tickets == 0
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.load_verify_locations(certificates / "ca.pem")
    old.load_cert_chain(certificates / "south_1.pem", certificates / "south_1.key")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    at_server, _ = shake_hands(server, old)
    assert isinstance(at_server, ssl.SSLError)


def test_peer_without_certificate_has_no_name() -> None:
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection.check_hostname = False
    connection.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    class Unnamed(ssl.SSLObject):
        def getpeercert(self, binary_form: bool = False) -> None:
            return None

    connection.sslobject_class = Unnamed
    with pytest.raises(PeerMismatch, match="does not name one role"):
        peer_name(connection.wrap_bio(incoming, outgoing))


@pytest.mark.parametrize("there", ["ca.pem", "ca.key", "north.key", "university.storage.key"])
def test_nothing_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match="is not overwritten") as refused:
        write_certificates(ROLES, tmp_path)
    assert there in str(refused.value) and "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_roles_with_names_of_their_own(tmp_path: Path) -> None:
    """Those that nobody else may have."""
    write_certificates(["north", "dealer", "courier"], tmp_path)
    assert {"dealer.key", "courier.key"} < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("roles", [["ca"], ["CA"], ["../x"], [""], ["a b"], ["x" * 65], ["a", "a"], ["a", "A"]])
def test_bad_roles(roles: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^role "):
        write_certificates(roles, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError) as refused:
            write_certificates(ROLES, directory)
        assert "\n" not in str(refused.value)


def test_storage_keys(certificates: Path) -> None:
    keys = {load_storage_key(certificates, role) for role in ROLES}
    assert len(keys) == len(ROLES)
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("content", ["", "ab" * 31, "ab" * 33, "zz" * 32, "\N{BULLET}" * 64])
def test_bad_storage_key(content: str, tmp_path: Path) -> None:
    (tmp_path / "north.storage.key").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"north\.storage\.key: must hold 32 bytes in hexadecimal") as refused:
        load_storage_key(tmp_path, "north")
    assert not content or content not in str(refused.value)
    with pytest.raises(InputError, match="there is no such file"):
        load_storage_key(tmp_path, "south_1")


@pytest.mark.parametrize("name", ["ca.pem", "north.pem", "north.key"])
def test_missing_and_damaged_files(name: str, certificates: Path, tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    shutil.copytree(certificates, directory)
    (directory / name).write_text("damaged")
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as refused:
        load_tls(directory, "north")
    assert "\n" not in str(refused.value)
    (directory / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: there is no such file"):
        load_tls(directory, "north")


def test_files_that_do_not_belong_together(certificates: Path, tmp_path: Path) -> None:
    write_certificates(ROLES, tmp_path / "other")
    for name, why in (
        ("ca.pem", "was not issued by the authority"),
        ("north.pem", "was not issued by the authority"),
        ("north.key", "is not the private key of"),
    ):
        directory = tmp_path / name
        shutil.copytree(certificates, directory)
        shutil.copy(tmp_path / "other" / name, directory / name)
        with pytest.raises(InputError, match=why):
            load_tls(directory, "north")
    renamed = tmp_path / "renamed"
    shutil.copytree(certificates, renamed)
    for end in ("pem", "key"):
        shutil.copy(certificates / f"south_1.{end}", renamed / f"north.{end}")
    with pytest.raises(InputError, match="is the certificate of another role"):
        load_tls(renamed, "north")


def test_encrypted_key_is_refused_without_asking(certificates: Path, tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    shutil.copytree(certificates, directory)
    key = serialization.load_pem_private_key((directory / "north.key").read_bytes(), password=None)
    (directory / "north.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InputError, match="is not the private key of"):
        load_tls(directory, "north")


def test_expired_certificate_is_refused(certificates: Path, tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    shutil.copytree(certificates, directory)
    ca = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    own = x509.load_pem_x509_certificate((directory / "north.pem").read_bytes())
    builder = x509.CertificateBuilder(ca.subject, own.subject, own.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(
        now - datetime.timedelta(days=1)
    )
    expired = builder.sign(ca_key, hashes.SHA256())
    (directory / "north.pem").write_bytes(expired.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(InputError, match="has expired"):
        load_tls(directory, "north")

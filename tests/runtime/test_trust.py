import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.runtime.trust import verifying_context

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Issuer:
    """An authority whose certificates lack what `without` names; `ca_file` is what a client trusts, `leaf_file` what a server has."""

    def __init__(self, folder: Path, without: str = "", *, may_sign: bool = True, ends: datetime.datetime = NOW + DAY) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        authority = self._start(self._key, "Company CA", NOW + DAY)
        authority = authority.add_extension(x509.BasicConstraints(may_sign, None), critical=without != "critical constraints")
        if without != "subject key identifier":
            authority = authority.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        if without != "key usage":
            usage = x509.KeyUsage(True, False, False, False, False, may_sign, True, False, False)
            authority = authority.add_extension(usage, critical=True)
        leaf = self._start(self._leaf_key, "llm", ends).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        if without != "authority key identifier":
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            leaf = leaf.add_extension(identifier, critical=False)
        self.ca_file, self.leaf_file = folder / "ca.pem", folder / "leaf.pem"
        pem = serialization.Encoding.PEM
        self.ca_file.write_bytes(authority.sign(self._key, hashes.SHA256()).public_bytes(pem))
        key = self._leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.leaf_file.write_bytes(leaf.sign(self._key, hashes.SHA256()).public_bytes(pem) + key)

    def _start(self, key: ec.EllipticCurvePrivateKey, name: str, ends: datetime.datetime) -> x509.CertificateBuilder:
        """A certificate for this key, without extensions, signed later by us."""
        return x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company CA")]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=NOW - 2 * DAY,
            not_valid_after=ends,
        )

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.leaf_file)
        return context


def shake_hands(client_side: ssl.SSLContext, server_side: ssl.SSLContext, name: str = "127.0.0.1") -> None:
    """TLS between two contexts, in memory; raises what the client raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(back, there, server_hostname=name)
    server = server_side.wrap_bio(there, back, server_side=True)
    done: set[Callable[[], None]] = set()
    for _ in range(10):
        for step in (client.do_handshake, server.do_handshake):
            try:
                step()
                done.add(step)
            except ssl.SSLWantReadError:
                pass
    assert len(done) == 2


@pytest.mark.parametrize(
    "without", ["", "key usage", "critical constraints", "subject key identifier", "authority key identifier"]
)
def test_an_authority_that_neglects_formalities_is_believed_on_every_python(tmp_path: Path, without: str) -> None:
    issuer = Issuer(tmp_path, without)
    shake_hands(verifying_context(str(issuer.ca_file)), issuer.server())


def test_what_a_verified_certificate_means_is_still_checked(tmp_path: Path) -> None:
    good = Issuer(tmp_path)
    context = verifying_context(str(good.ca_file))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(context, good.server(), "127.0.0.2")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        shake_hands(verifying_context(None), good.server())
    old = Issuer(tmp_path, ends=NOW - DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(verifying_context(str(old.ca_file)), old.server())


def test_a_certificate_that_may_not_sign_vouches_for_nobody(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path, may_sign=False)
    with pytest.raises(ssl.SSLCertVerificationError, match="invalid CA"):
        shake_hands(verifying_context(str(issuer.ca_file)), issuer.server())


def test_an_authority_need_not_be_a_root(tmp_path: Path) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    between.cert_pem.write_to_path(str(tmp_path / "between.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    between.issue_cert("127.0.0.1").configure_cert(server)
    shake_hands(verifying_context(str(tmp_path / "between.pem")), server)


@pytest.mark.parametrize("ca_file", [None, ""])
def test_without_a_file_the_authorities_of_the_system_count_and_old_versions_do_not(ca_file: str | None) -> None:
    context = verifying_context(ca_file)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2

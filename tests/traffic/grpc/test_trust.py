from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.traffic.grpc.trust import ServerTlsSpec, channel_credentials, check, server_credentials, system_authorities
from sidecar.traffic.tls import TlsSpec


def pair(authority: Any, folder: Path) -> tuple[str, str]:
    issued = authority._ca.issue_cert("localhost")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.parametrize("settings", [{"key_file": "k"}, {"client_ca_file": "a"}], ids=["key", "clients"])
def test_a_key_without_a_certificate_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="need cert_file"):
        ServerTlsSpec(**settings)


@pytest.mark.parametrize("tls", [TlsSpec(insecure_skip_verify=True), TlsSpec(min_version="1.3")], ids=["unverified", "1.3"])
def test_what_the_library_does_not_have_is_refused(tls: TlsSpec) -> None:
    check(TlsSpec(ca_file="x", server_name="y"))
    with pytest.raises(ValueError, match="gRPC"):
        check(tls)


def test_the_authorities_of_the_system_are_those_that_python_finds(
    authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = Path(authority.ca_file).read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    assert system_authorities() == pem
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert system_authorities() is None
    (tmp_path / "0a1b2c3d.0").write_bytes(pem)
    (tmp_path / "README").write_text("no certificate")
    assert system_authorities() == pem


def test_credentials_are_made_of_good_files_only(authority: Any, tmp_path: Path) -> None:
    cert_file, key_file = pair(authority, tmp_path)
    assert channel_credentials(grpc, TlsSpec(ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file))
    assert channel_credentials(grpc, TlsSpec(ca_file=authority.ca_file))
    assert server_credentials(grpc, ServerTlsSpec(cert_file=cert_file, key_file=key_file, client_ca_file=authority.ca_file))
    (tmp_path / "key.pem").write_text("nothing")
    with pytest.raises(OSError):
        server_credentials(grpc, ServerTlsSpec(cert_file=cert_file, key_file=key_file))
    with pytest.raises(OSError):
        channel_credentials(grpc, TlsSpec(cert_file=cert_file, key_file=key_file))
    with pytest.raises(OSError):
        channel_credentials(grpc, TlsSpec(ca_file=str(tmp_path / "none")))

"""
TLS of gRPC: whose certificates count, and which one is shown.

The library has a TLS of its own (BoringSSL), which takes PEM bytes instead of Python's contexts. So the system's authorities
are read from where Python's are: without that it would believe a list that came with the library. It always verifies.
"""

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.model.spec import Spec
from sidecar.traffic.tls import TlsSpec

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""Names of the files in a folder of authorities (openssl-rehash)."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTlsSpec(Spec):
    """TLS towards agents; without `cert_file` the port speaks plain HTTP/2 (h2c)."""

    cert_file: str | None = None
    """PEM file of our certificate, with the chain behind it."""
    key_file: str | None = None
    """PEM file of our key; default: in `cert_file`."""
    client_ca_file: str | None = None
    """PEM file of the authorities for the certificates that clients then have to show (mutual TLS)."""

    def __post_init__(self) -> None:
        if (self.key_file or self.client_ca_file) and not self.cert_file:
            raise ValueError("key_file and client_ca_file need cert_file beside them")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named."""
        return tuple(file for file in (self.cert_file, self.key_file, self.client_ca_file) if file)


def check(tls: TlsSpec) -> None:
    """Raise ValueError for settings towards an upstream that gRPC does not have."""
    if tls.insecure_skip_verify:
        raise ValueError("gRPC always verifies certificates; name the authority in tls.ca_file")
    if tls.min_version != "1.2":
        raise ValueError("gRPC takes TLS 1.3 where the upstream has it, and 1.2 else: tls.min_version cannot be set")


def channel_credentials(grpc: Any, tls: TlsSpec) -> Any:
    """Credentials towards an upstream. Reads files: call it in a thread; raises OSError for bad ones."""
    roots = _read(tls.ca_file) if tls.ca_file else system_authorities()
    if not tls.cert_file:
        return grpc.ssl_channel_credentials(roots)
    _check_pair(tls.cert_file, tls.key_file)
    return grpc.ssl_channel_credentials(roots, _read(tls.key_file or tls.cert_file), _read(tls.cert_file))


def server_credentials(grpc: Any, tls: ServerTlsSpec) -> Any:
    """
    Credentials towards agents; where files change, the next handshake shows what is in them then. Raises OSError for bad ones.
    """
    stamps = _stamps(tls.files)
    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(grpc, tls), _newest(grpc, tls, stamps), require_client_authentication=bool(tls.client_ca_file)
    )


def _newest(grpc: Any, tls: ServerTlsSpec, stamps: tuple[_Stamp | None, ...]) -> Callable[[], Any]:
    """What the library asks, in a thread of its own, at each handshake; None means that nothing has changed."""

    def newest() -> Any:
        nonlocal stamps
        now = _stamps(tls.files)
        if now == stamps:
            return None
        try:
            configuration = _server_configuration(grpc, tls)
        except OSError:
            return None  # certificate and key are seldom replaced in the same moment: the last good ones stay
        stamps = now
        return configuration

    return newest


def _server_configuration(grpc: Any, tls: ServerTlsSpec) -> Any:
    assert tls.cert_file is not None
    _check_pair(tls.cert_file, tls.key_file)
    pair = (_read(tls.key_file or tls.cert_file), _read(tls.cert_file))
    return grpc.ssl_server_certificate_configuration([pair], _read(tls.client_ca_file) if tls.client_ca_file else None)


def _check_pair(cert_file: str, key_file: str | None) -> None:
    """Have Python read certificate and key first: its errors say what is wrong, where the library only refuses to connect."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file or None)


def system_authorities() -> bytes | None:
    """The authorities that Python takes for the system's (SSL_CERT_FILE, SSL_CERT_DIR), as PEM; None where it finds none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return _read(paths.cafile)
    folder = Path(paths.capath) if paths.capath else None
    if folder is None:
        return None
    return b"\n".join(_read(str(file)) for file in sorted(folder.iterdir()) if _HASHED.fullmatch(file.name)) or None


def _read(file: str) -> bytes:
    return Path(file).read_bytes()


def _stamps(files: tuple[str, ...]) -> tuple[_Stamp | None, ...]:
    return tuple(map(_stamp, files))


def _stamp(file: str) -> _Stamp | None:
    try:
        seen = os.stat(file)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino

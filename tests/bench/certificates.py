"""A throw-away certificate authority and a server certificate for `localhost`, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAME = "localhost"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority to trust, the server's chain and key."""

    authority: Path
    chain: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make both, EC P-256, valid for a week, for DNS:localhost and IP:127.0.0.1."""
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    chain, key, request, extensions = folder / "server.pem", folder / "server.key", folder / "server.csr", folder / "server.ext"
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    extensions.write_text(f"subjectAltName=DNS:{NAME},IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    _openssl(
        f"req -x509 {new_key} -days 7 -subj /CN=bench-authority -addext keyUsage=critical,keyCertSign,cRLSign",
        ("-keyout", authority_key, "-out", authority),
    )
    _openssl(f"req {new_key} -subj /CN={NAME}", ("-keyout", key, "-out", request))
    _openssl(
        "x509 -req -days 7 -CAcreateserial",
        ("-in", request, "-CA", authority, "-CAkey", authority_key, "-extfile", extensions, "-out", chain),
    )
    return Certificates(authority, chain, key)


def _openssl(options: str, files: tuple[str | Path, ...]) -> None:
    subprocess.run(["openssl", *options.split(), *map(str, files)], check=True, capture_output=True)

"""A certificate authority for one test session (trustme), and TLS contexts of servers that it vouches for."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """`ca_file` is what a client has to trust; `server` and `client_files` issue certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, wants_client: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for these names or addresses; `wants_client` demands mutual TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def client_files(self) -> tuple[str, str]:
        """Paths of a client's certificate chain and key."""
        certificate = self._ca.issue_cert("client@agents.example")
        cert_file, key_file = self._folder / "client.pem", self._folder / "client.key"
        for place, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(cert_file), append=place > 0)
        certificate.private_key_pem.write_to_path(str(key_file))
        return str(cert_file), str(key_file)

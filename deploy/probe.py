"""
Ask a sidecar how it is: `probe.py [path [host:port]]`, by default `/readyz` on 127.0.0.1:4141; exits 0 when the answer is 200.

For health checks that run inside the container, because the admin port listens on loopback only and so cannot be reached by a
kubelet. It uses nothing but sockets: run as `python -IS probe.py` it costs what starting a Python costs.
"""

import socket
import sys

TIMEOUT_S = 2.0


def status(path: str, host: str, port: int) -> int:
    """The HTTP status of GET `path`; raises OSError when nobody answers, ValueError when it is not HTTP."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        line = connection.makefile("rb").readline(1024).decode("latin-1")
    version, code, *_ = line.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not HTTP: {line!r}")
    return int(code)


def main(arguments: list[str]) -> int:
    """Print why a sidecar is not well; the orchestrator shows it beside the failed probe."""
    path, address = (arguments + ["/readyz", "127.0.0.1:4141"][len(arguments) :])[:2]
    host, _, port = address.rpartition(":")
    try:
        answer = status(path, host, int(port))
    except (OSError, ValueError) as error:
        print(f"{address}{path}: {error}")
        return 1
    if answer != 200:
        print(f"{address}{path}: {answer}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

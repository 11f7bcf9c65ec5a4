"""Host and port as people and URLs write them: an IPv6 address stands in brackets (RFC 3986 section 3.2.2)."""


def bracketed(host: str) -> str:
    """Return the host as it stands in a URL: `::1` as `[::1]`, all others as they are, brackets of its own included."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def authority(host: str, port: int) -> str:
    """Return `host:port`, or `[v6]:port`."""
    return f"{bracketed(host)}:{port}"


def read_endpoint(endpoint: str) -> tuple[str, int]:
    """Return (host, port) of `host:port` or `[v6]:port`, without brackets; raises ValueError."""
    host, colon, port = endpoint.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isdigit() or int(port) > 65535 or not host:
        raise ValueError(f"endpoint has to look like 127.0.0.1:4140 or [::1]:4140, not {endpoint!r}")
    return host, int(port)

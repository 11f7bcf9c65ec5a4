"""What a command is told so that its calls and its telemetry come to the sidecar: nothing but environment variables."""

from collections.abc import Mapping
from urllib.parse import urlsplit

METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "metadata.google.internal")
"""Where clouds hand out credentials: SDKs ask there directly. Local servers are not exempt, because they are to be seen."""

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
"""Both cases of letters: curl reads only the lower ones, some programs only the upper ones."""
FALLBACKS = ("ALL_PROXY", "all_proxy")
"""What counts for other schemes, and where none of those is set; replaced where it is set, so that nothing leads past."""


def pointed_at(environ: Mapping[str, str], *, proxy: str, traceparent: str, otlp: str = "") -> dict[str, str]:
    """
    The environment of a command behind the proxy at the URL `proxy`.

    `otlp` is the base URL of an OTLP/HTTP receiver, or "" to leave the command's telemetry as it is. Its name has to be
    `localhost`: exporters that obey HTTP_PROXY must not come through the proxy with it, and more of them understand an exception
    for `localhost:PORT` than one for an IP address with a port.
    """
    changed = dict(environ)
    changed.update(dict.fromkeys((*PROXIES, *(name for name in FALLBACKS if environ.get(name))), proxy))
    exempt = _exempt(environ)
    if otlp:
        changed["OTEL_EXPORTER_OTLP_ENDPOINT"] = otlp
        changed["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"  # some SDKs would speak gRPC to any endpoint
        exempt.append(urlsplit(otlp).netloc)
    changed.update(dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(exempt)))
    changed["NODE_USE_ENV_PROXY"] = "1"
    if environ.get("TRACEPARENT") != traceparent:  # a new trace, to which the old state does not belong
        changed.pop("TRACESTATE", None)
    changed["TRACEPARENT"] = traceparent
    return changed


def corporate(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that name a proxy which the user's calls had to pass until now."""
    return tuple(name for name in (*PROXIES, *FALLBACKS) if environ.get(name))


def as_read(environ: Mapping[str, str]) -> dict[str, str]:
    """
    The environment as the sidecar around a command reads it.

    HTTP_PROXY counts as http_proxy does, because it is the user who has set it: no client of a web server could have.
    """
    read = dict(environ)
    if environ.get("HTTP_PROXY") and not environ.get("http_proxy"):
        read["http_proxy"] = environ["HTTP_PROXY"]
    return read


def _exempt(environ: Mapping[str, str]) -> list[str]:
    """What the user exempts, in either case of letters, and the metadata addresses; each once."""
    theirs = [part.strip() for name in ("NO_PROXY", "no_proxy") for part in environ.get(name, "").split(",")]
    return list(dict.fromkeys([part for part in theirs if part] + list(METADATA)))

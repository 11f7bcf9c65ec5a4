"""
Corporate proxies: which of them leads to a destination, if any.

One comes from the config, or from the environment (`HTTPS_PROXY` and its kin); either way it is chosen once for each
destination, not for each call. What `no_proxy` exempts is reached directly.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sidecar.model.authority import authority
from sidecar.model.spec import Secret
from sidecar.traffic.hosts import is_loopback
from sidecar.traffic.wire.no_proxy import NoProxy

ENVIRONMENT = "environment"
"""In the place of a proxy's URL: as the environment says."""
DIRECT = "direct"
"""In the place of a proxy's URL: none at all."""

VARIABLES: Mapping[str, tuple[str, ...]] = {
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
"""
Where the environment names the proxy for a scheme; the first that is not empty counts, as with curl.

HTTP_PROXY is not among them: where CGI is spoken, a client writes it, with a header field `Proxy` (CVE-2016-5385, "httpoxy").
"""
EXEMPTING = ("no_proxy", "NO_PROXY")
"""Where it names what needs no proxy."""

_HTTP_PORT = 80
_SHAPE = "has to look like http://user:password@host:port, with the password percent-encoded (no https://, no socks://)"


@dataclass(frozen=True, slots=True)
class Via:
    """A corporate proxy to go through; `authorization` is a ready Basic credential, empty where there is none."""

    host: str
    port: int
    authorization: Secret = Secret("")

    @classmethod
    def through(cls, host: str, port: int, user: str = "", password: str = "") -> "Via":
        """Make the credential once, where the config is read."""
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        return cls(host, port, Secret(f"Basic {token}" if user or password else ""))

    @property
    def shown(self) -> str:
        """Where it stands, without its credentials."""
        return authority(self.host, self.port)


def read_proxy(proxy: Secret) -> Via:
    """Return where a corporate proxy stands; raises ValueError (without its password) where the URL makes no sense."""
    return _read(proxy.reveal(), f"proxy {_SHAPE}, or be `{ENVIRONMENT}` or `{DIRECT}`", default_port=None)


def check_proxy(proxy: Secret | None) -> None:
    """Raise ValueError where a setting is neither a proxy's URL nor one of the words that may stand in its place."""
    if proxy is not None and proxy.reveal() not in (ENVIRONMENT, DIRECT):
        read_proxy(proxy)


class Proxies:
    """The proxies of one setting: `to` says which of them leads to a destination."""

    def __init__(self, by_scheme: Mapping[str, Via], no_proxy: Iterable[str] = ()) -> None:
        self._by_scheme = by_scheme
        self._exempt = NoProxy(no_proxy)

    def to(self, scheme: str, host: str, port: int) -> Via | None:
        """
        Return the proxy that leads to a destination, None where it is reached directly.

        What is on loopback here is something else on the proxy's machine: it goes through a proxy on loopback only.
        """
        via = self._by_scheme.get(scheme)
        if via is None:
            return None
        if is_loopback(host) and not is_loopback(via.host):
            return None
        return None if self._exempt.exempts(host, port) else via


NO_PROXIES = Proxies({})


def proxies_of(setting: Secret | None, environ: Mapping[str, str], no_proxy: Iterable[str] = ()) -> Proxies:
    """Return what a setting means; raises ValueError where the environment is asked, and names a proxy that makes no sense."""
    if setting is None or setting.reveal() == DIRECT:
        return NO_PROXIES
    if setting.reveal() != ENVIRONMENT:
        return Proxies(dict.fromkeys(VARIABLES, read_proxy(setting)), no_proxy)
    chosen = {scheme: name for scheme, names in VARIABLES.items() if (name := _first(names, environ))}
    exempt = re.split(r"[,\s]+", environ.get(_first(EXEMPTING, environ), ""))
    return Proxies({scheme: _of_environ(name, environ[name]) for scheme, name in chosen.items()}, [*no_proxy, *exempt])


def _first(names: Iterable[str], environ: Mapping[str, str]) -> str:
    return next((name for name in names if environ.get(name)), "")


def _of_environ(name: str, value: str) -> Via:
    """A variable may leave scheme and port out, as people write them."""
    value = value.strip()
    return _read(value if "://" in value else f"http://{value}", f"{name} of the environment {_SHAPE}", default_port=_HTTP_PORT)


def _read(url: str, fault: str, *, default_port: int | None) -> Via:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port if parts.port is not None else default_port
    except ValueError:
        raise ValueError(fault) from None  # the original tells the part of the URL, often of the password, that is no port
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(fault)
    return Via.through(host, port, unquote(parts.username or ""), unquote(parts.password or ""))

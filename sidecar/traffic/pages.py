"""
Which pages of a browser may call the gateway: those of this machine.

An upstream on loopback protects itself against DNS rebinding by its own Host, and the gateway writes that Host for whoever
calls; so it has to ask instead. Where a proxy is meant (absolute-form, CONNECT) there is nothing to ask: no page can send that.
"""

from collections.abc import Collection

from sidecar.model.errors import Refused
from sidecar.model.own_hosts import OwnHosts, address, is_loopback
from sidecar.traffic.wire.request_head import RequestHead

_OF_PAGES = frozenset(("http", "https"))


class Pages:
    """Judges Host and Origin of gateway calls to a listener bound to `host`; `allow_hosts` are further names of ours."""

    def __init__(self, host: str, allow_hosts: Collection[str] = ()) -> None:
        bound = address(host)
        self._own = OwnHosts((host, *allow_hosts), any_address=bound is not None and bound.is_unspecified)

    def judge(self, request: RequestHead) -> None:
        """Raise `Refused` where the request is of a page that has no business here; without a Host it is of none."""
        host = request.host.decode("latin-1")
        if host and not self._own.know(host):
            raise Refused("host_refused", f"this listener is not {host[:100]!r}")
        if request.origin and not self._may_call(request.origin.decode("latin-1")):
            raise Refused("origin_refused", f"the origin is {request.origin[:100].decode('latin-1')!r}")

    def _may_call(self, origin: str) -> bool:
        """An origin that is no web page's (`vscode-webview://…`, `app://…`) is of a program; `null` may be of any page."""
        scheme, separator, host = origin.partition("://")
        return bool(separator) and (scheme.lower() not in _OF_PAGES or self._own.know(host))


def pages_of(endpoint_host: str, allow_hosts: Collection[str]) -> Pages | None:
    """None where nothing is to be judged: beyond loopback others than this machine's browsers call, and `users` keep them out."""
    return Pages(endpoint_host, allow_hosts) if allow_hosts or is_loopback(endpoint_host) else None

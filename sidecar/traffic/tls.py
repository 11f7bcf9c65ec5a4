"""
TLS towards upstreams: its settings, and the contexts that are made of them.

A context holds all authorities of the system, nearly a megabyte, and takes 10-20 ms to make. So upstreams of equal settings
share one, which lives as long as one of them does, and it is made in a thread. Where its files have changed, the next
connection gets a new one.
"""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakValueDictionary

from sidecar.model.spec import Spec
from sidecar.runtime.runtime import Runtime
from sidecar.runtime.trust import client_context

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec(Spec):
    """TLS towards the upstream; the certificate is verified unless told otherwise."""

    ca_file: str | None = None
    """PEM file of the only authorities to trust, instead of the system's."""
    cert_file: str | None = None
    """PEM file of our certificate, for mutual TLS."""
    key_file: str | None = None
    """PEM file of our key; default: in `cert_file`."""
    server_name: str | None = None
    """Name for SNI and verification; default: the url's host."""
    insecure_skip_verify: bool = False
    """Accept any certificate; for tests only."""
    min_version: str = "1.2"
    """Lowest TLS version: `1.2` or `1.3`."""

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file beside it")
        if self.min_version not in ("1.2", "1.3"):
            raise ValueError(f"min_version is '1.2' or '1.3', not {self.min_version!r}")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named."""
        return tuple(file for file in (self.ca_file, self.cert_file, self.key_file) if file)


class Made(NamedTuple):
    """A context, and what its files looked like before it was made of them."""

    context: ssl.SSLContext
    stamps: tuple[_Stamp | None, ...]


class Contexts:
    """The contexts that some upstream uses; there are never more than upstreams of different settings."""

    def __init__(self) -> None:
        self._standing: WeakValueDictionary[tuple[TlsSpec, tuple[_Stamp | None, ...]], ssl.SSLContext] = WeakValueDictionary()
        self._turn = asyncio.Lock()  # so that a thousand new destinations do not make a thousand at once

    async def newest(self, tls: TlsSpec, last: Made | None) -> Made:
        """
        Return the context for a connection; the caller keeps it, and brings it as `last` the next time.

        Raises OSError (ssl.SSLError is one) for bad files. Where there was a good one before, that one stays: certificate and
        key are seldom replaced in the same moment.
        """
        files = tls.files
        if last is not None and not files:
            return last
        stamps = await asyncio.to_thread(_stamps, files) if files else ()
        if last is not None and last.stamps == stamps:
            return last
        key = (replace(tls, server_name=None), stamps)  # the name belongs to a connection
        async with self._turn:
            context = self._standing.get(key)
            if context is None:
                try:
                    context = await asyncio.to_thread(make_context, tls)
                except OSError as error:
                    if last is None:
                        raise
                    _log.warning("the changed TLS files %s cannot be used, the last good ones stay: %s", ", ".join(files), error)
                    return Made(last.context, stamps)
                self._standing[key] = context
        return Made(context, stamps)


def contexts_of(runtime: Runtime) -> Contexts:
    """The ones of this runtime."""
    contexts = runtime.services.setdefault("traffic.tls", Contexts())
    assert isinstance(contexts, Contexts)
    return contexts


def make_context(spec: TlsSpec) -> ssl.SSLContext:
    """Build the client side's TLS context: HTTP/1.1 by ALPN, verification on; raises OSError or ssl.SSLError for bad files."""
    context = client_context(spec.ca_file, spec.cert_file, spec.key_file, insecure_skip_verify=spec.insecure_skip_verify)
    context.set_alpn_protocols(["http/1.1"])
    if spec.min_version == "1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _stamps(files: tuple[str, ...]) -> tuple[_Stamp | None, ...]:
    return tuple(map(_stamp, files))


def _stamp(file: str) -> _Stamp | None:
    try:
        seen = os.stat(file)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino

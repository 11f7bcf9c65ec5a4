"""
The system's resolver, asked in threads of its own: getaddrinfo(3) blocks, and a name whose servers are silent blocks for long.

The event loop's own threads are four in all (uvloop), for files too: a few names that hang would hold up everything. So each
look-up has a thread, a name at most one, and their number is bounded. A thread cannot be interrupted: one that hangs counts
until the system gives up on its name, and whatever waits for it stops waiting long before. They are daemons, so nobody's end
waits for them.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterable

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.runtime.descriptors import ran_out
from sidecar.runtime.metrics import Metrics

MAX_LOOK_UPS = 64
"""Names under way at once, those included that hang and that nobody waits for any more."""

LookUp = Callable[[str], Iterable[str]]


def system_look_up(host: str) -> list[str]:
    """Return the addresses of `host` in the system's order; blocks, and raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(info[4][0]) for info in found]


class LookUps:
    """Look-ups under way in one process, for however many resolvers there are; `look_up` blocks, in a thread."""

    def __init__(self, metrics: Metrics | None = None, *, look_up: LookUp = system_look_up) -> None:
        metrics = metrics if metrics is not None else Metrics()
        self._look_up = look_up
        self._under_way: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._refused = metrics.counter("traffic.wire.look_ups.refused", "Names refused as too many were under way.")
        metrics.gauge("traffic.wire.look_ups.under_way", "Names that are being resolved.", read=lambda: len(self._under_way))

    def ask(self, host: str) -> "asyncio.Future[tuple[str, ...]]":
        """
        Return the answer to come, the same for everybody who asks meanwhile: do not cancel it.

        It fails with `UpstreamFailed("dns_failed")`, which is also raised here where there is no room for a further look-up.
        """
        answer = self._under_way.get(host)
        if answer is not None:
            return answer
        if len(self._under_way) >= MAX_LOOK_UPS:
            self._refused.value += 1
            raise UpstreamFailed("dns_failed", f"{MAX_LOOK_UPS} other names are being resolved, and that is the most")
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        thread = threading.Thread(target=self._run, args=(loop, host), name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as fault:  # the system has no further thread for us
            self._refused.value += 1
            raise UpstreamFailed("dns_failed", str(fault)) from None
        self._under_way[host] = answer
        return answer

    def _run(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        """In the thread: ask, and bring the answer to the loop, if it is still there."""
        found: tuple[str, ...] = ()
        fault: Refused | None = None
        try:
            found = tuple(self._look_up(host))
        except Exception as raised:  # noqa: BLE001 - a thread has nobody else to tell, and somebody waits
            fault = _meaning(host, raised)
        try:
            loop.call_soon_threadsafe(self._ended, host, found, fault)
        except RuntimeError:
            return  # the loop was closed meanwhile

    def _ended(self, host: str, found: tuple[str, ...], fault: Refused | None) -> None:
        answer = self._under_way.pop(host)
        if answer.done():
            return
        if found:
            answer.set_result(found)
            return
        answer.set_exception(fault or UpstreamFailed("dns_failed", f"{host} has no address"))
        answer.exception()  # whoever waits gets it; nobody may be left to


def _meaning(host: str, raised: Exception) -> Refused:
    """Where no descriptor is left, the resolver may say so or, as it cannot open its files, that it knows no such name."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as lacking:
        raised = lacking if ran_out(lacking) else raised
    detail = f"{host}: {str(raised) or type(raised).__name__}"
    return Refused("no_descriptors", detail, retry_after_s=1.0) if ran_out(raised) else UpstreamFailed("dns_failed", detail)

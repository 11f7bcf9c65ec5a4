"""
What the wire asks of the listener whose connections it serves; whoever accepts connections of agents can stand here.

One object is shared by all connections of a port, so what it holds is read anew for each request: a reload swaps the graph.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.model.exchange import Exchange
from sidecar.model.facts import Passage
from sidecar.model.sampling import Sampler
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.wire.outbox import Outbox
from sidecar.traffic.wire.reply import Signature
from sidecar.traffic.wire.request_head import RequestHead
from sidecar.traffic.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from sidecar.traffic.upstreams.http import HttpUpstream
    from sidecar.traffic.wire.call import Call
    from sidecar.traffic.wire.inbound import Inbound
    from sidecar.traffic.wire.request import Ready


class Sampled(Protocol):
    """A graph, as far as the wire looks into it; which one it is tells whether a judgement still holds."""

    @property
    def sampler(self) -> Sampler:
        """Says which traces are recorded."""


class Listener(Protocol):
    """Bounds and deadlines (bytes, seconds), where a request goes, and who has to know of what."""

    runtime: Runtime
    outbox: Outbox
    signature: Signature
    is_draining: bool
    max_header_bytes: int
    max_header_count: int
    max_url_bytes: int
    max_body_bytes: int
    max_pipelined_bytes: int
    header_timeout_s: float
    idle_timeout_s: float
    keep_alive_timeout_s: float
    tunnel_idle_timeout_s: float

    @property
    def graph(self) -> Sampled:
        """The graph that new exchanges take."""

    def now(self) -> float:
        """Monotonic seconds."""

    def opened(self, inbound: "Inbound") -> None:
        """A client has connected."""

    def closed(self, inbound: "Inbound") -> None:
        """A client's connection is gone, or a tunnel's."""

    def make_ready(self, request: RequestHead, client: str) -> "Ready | None":
        """Find where a request goes, None for nowhere; raises `Refused`."""

    def nowhere(self, request: RequestHead, client: str) -> Passage:
        """Describe a request that goes nowhere."""

    def count_refused(self, code: str) -> None:
        """Count an error of ours."""

    def own(self, call: "Call", work: Coroutine[Any, Any, None]) -> None:
        """Run what a call has to wait for."""

    def cancel_work_of(self, call: "Call") -> None:
        """End that, because the call is over."""

    def dial_tunnel(self, call: "Call", upstream: "HttpUpstream") -> None:
        """Connect to the destination of a CONNECT, and tell the call."""

    def tunnel_opened(self, tunnel: Tunnel, exchange: Exchange) -> None:
        """Watch over a tunnel from now on."""

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """Forget it."""

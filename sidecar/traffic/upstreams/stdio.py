"""
An MCP server that its client starts through `sidecar mcp --name NAME -- COMMAND …`, for a route to name.

    stdio/files: {}

The part behind the slash is the NAME; the route of this upstream has the policies for it. Nothing listens and nothing is
started by naming it, and no call over HTTP can reach it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sidecar.model.errors import Refused
from sidecar.model.spec import Spec
from sidecar.runtime.runtime import Runtime

if TYPE_CHECKING:
    from sidecar.traffic.wire.dial import Dialer

SCHEME = "stdio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    """There is nothing to set: the client has the command, and the route has the policies."""

    dialect: ClassVar[str] = "plain"
    provider: ClassVar[str] = ""


class _NoPool:
    """No connection is ever made: a call over HTTP that comes here is refused (wire.pool.Pool, as far as calls use it)."""

    open_count = idle_count = waiting_count = 0

    def take(self) -> None:
        return None

    def wait(self, waiter: object) -> None:
        raise Refused("destination_denied", "this server speaks through `sidecar mcp` only")

    def leave(self, waiter: object) -> None:
        """Nobody waits."""

    def tick(self, now: float) -> None:
        """Nothing becomes old."""


class StdioUpstream:
    """A name in the router, as an HTTP upstream is one; `host` is the server's name."""

    base = b""
    scheme = SCHEME
    port = 0
    asks = None
    named_by_config = True
    first_byte_timeout_s = idle_timeout_s = 0.0

    def __init__(self, name: str, config: Config, runtime: Runtime) -> None:
        self.name = name
        self.config = config
        self.host = name.partition("/")[2] or name
        self.authority = self.host.encode()
        self.pool = _NoPool()

    def reach_by(self, dialer: "Dialer") -> None:
        """Nothing is dialled."""

    async def stop(self) -> None:
        """Nothing is open."""


def build(name: str, config: Config, runtime: Runtime) -> StdioUpstream:
    """Make the name known."""
    return StdioUpstream(name, config, runtime)

"""A channel to one address of an upstream: made when calls need it, and closed when the last call on it has ended."""

import asyncio
from collections.abc import Callable
from typing import Any

import sidecar
from sidecar.model.errors import UpstreamFailed

_READY, _FAILED = "READY", "TRANSIENT_FAILURE"
_SHUT = "SHUTDOWN"
_LONGER_MS = 100
MOST_READ_BYTES = 256 * 1024
"""Most that is read from a socket at once. By default the library takes 4 MiB for that, and a peer that sends nothing but tiny
frames (PRIORITY, say) then has it hold hundreds of MiB."""

Options = list[tuple[str, str | int]]


def options_of(
    *,
    max_message_bytes: int,
    max_metadata_bytes: int,
    connect_timeout_ms: int,
    keep_alive_ms: int,
    keep_alive_timeout_ms: int,
    authority: str,
) -> Options:
    """The settings of a channel: bounds, signs of life, and nothing that the library would look up by itself."""
    return [
        ("grpc.default_authority", authority),
        ("grpc.primary_user_agent", f"agent-sre-sidecar/{sidecar.__version__}"),
        ("grpc.enable_http_proxy", 0),  # the proxy of the environment may well be this sidecar
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),  # connections of other settings are not ours
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the listener has judged it
        ("grpc.max_metadata_size", max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", max_metadata_bytes),
        # How long one try may take; a little longer than we wait, so that a peer that says nothing is told from one that says no.
        ("grpc.min_reconnect_backoff_ms", connect_timeout_ms + _LONGER_MS),
        ("grpc.experimental.tcp_max_read_chunk_size", MOST_READ_BYTES),
        ("grpc.keepalive_time_ms", keep_alive_ms),
        ("grpc.keepalive_timeout_ms", keep_alive_timeout_ms),
    ]


async def write(call: Any, message: bytes) -> None:
    """
    Send one message of a request; raises what the library raises where the call has ended meanwhile.

    `call.write` would then put an INTERNAL of its own in the place of the status that ended the call, and messages that are not
    read yet would be lost with it (grpc/aio/_call.py, `_StreamRequestMixin._write`). An upstream may answer before it has heard
    everything; so the message takes the way below that.
    """
    inner = getattr(call, "_cython_call", None)
    if inner is None:
        await call.write(message)
        return
    await call.wait_for_connection()
    await inner.send_serialized_message(message)


class Connection:
    """
    One channel; `address` is where it leads, `calls` how many are on it.

    The library would connect again by itself, without our look at the address: so a channel that has lost its connection is
    given no further calls.
    """

    __slots__ = ("_closing", "_is_leaving", "_tell", "address", "calls", "channel", "is_encrypted")

    def __init__(self, channel: Any, address: str, *, is_encrypted: bool) -> None:
        self.channel = channel
        self.address = address
        self.is_encrypted = is_encrypted
        self.calls = 0
        self._is_leaving = False
        self._tell: Callable[[Connection], None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def is_ready(self) -> bool:
        """Whether a call would be sent at once."""
        return self.channel.get_state().name == _READY  # type: ignore[no-any-return]  # the channel is the library's, untyped here

    async def reached(self) -> None:
        """Wait until calls can be sent; raises `UpstreamFailed` where what listens there is not what it should be."""
        state = self.channel.get_state(try_to_connect=True)
        while state.name != _READY:
            if state.name in (_FAILED, _SHUT):
                if self.is_encrypted:
                    raise UpstreamFailed("tls_failed", f"{self.address}: no TLS connection for HTTP/2 came about")
                raise UpstreamFailed("upstream_malformed", f"{self.address}: what listens there does not speak HTTP/2")
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)

    def took(self) -> None:
        """A call has been put on it."""
        self.calls += 1

    def let_go(self) -> None:
        """A call on it has ended."""
        self.calls -= 1
        if self._is_leaving and not self.calls:
            self.close_soon()

    def leave(self, tell: Callable[["Connection"], None]) -> None:
        """Take no further calls; `tell` hears when it is closed."""
        self._is_leaving = True
        self._tell = tell
        if not self.calls:
            self.close_soon()

    def close_soon(self) -> None:
        """Close it in a task of its own."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"close the channel to {self.address}")

    async def close(self) -> None:
        """Close it now; calls on it are cancelled."""
        self.close_soon()
        assert self._closing is not None
        await self._closing

    async def _close(self) -> None:
        await self.channel.close()
        if self._tell is not None:
            self._tell(self)

"""
One gRPC call under way: an exchange, the attempt that is made for it, and the messages in both directions.

Two loops pass messages on, one for each direction, and each waits until its message has been taken before it asks for the next:
so a slow reader slows the writer down, and no more than one message a direction is held here. The status of the upstream is
the status of the call. However it ends, attempt and exchange are told of exactly once.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from sidecar.model.asked import Asked
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.model.exchange import Attempt, Exchange
from sidecar.traffic.chain import ask as ask_guard
from sidecar.traffic.grpc.connection import Connection, write
from sidecar.traffic.grpc.metadata import CallHead, coming_back, going_on, read_head
from sidecar.traffic.grpc.reading import NAME, Reader, ask, plainly, reader_of
from sidecar.traffic.grpc.status import ERROR_KEY, Status, name_of, status_of
from sidecar.traffic.meter import attempt_finished, begin_attempt, begin_exchange, exchange_finished
from sidecar.traffic.router import Route
from sidecar.traffic.upstreams.grpc import GrpcUpstream

if TYPE_CHECKING:
    from sidecar.traffic.listeners.grpc import GrpcListener, Way
    from sidecar.traffic.wire.listener import Listener

_log = logging.getLogger(__name__)

_DETAILS_KEY = "grpc-status-details-bin"
_STATE_S = 0.005
_AT_ONCE_S = 0.001
_SETTLE_S = 0.002
_OK, _CANCELLED, _DEADLINE_EXCEEDED, _UNAVAILABLE = 0, 1, 4, 14


class GrpcCall:
    """An exchange under way; `run` is its whole life, inside of the task that the library makes for it."""

    __slots__ = (
        "_attempt", "_call", "_connection", "_context", "_fault", "_first", "_held_bytes", "_is_answered", "_is_over", "_is_sent",
        "_listener", "_path", "_pump", "_quiet_since", "_reader", "_task", "_way", "_writes_since", "exchange", "head",
    )  # fmt: skip

    def __init__(self, listener: "GrpcListener", path: str, context: Any) -> None:
        self._listener = listener
        self._path = path
        self._context = context
        self._way: Way | None = None
        self._task = asyncio.current_task()
        self._attempt: Attempt | None = None
        self._connection: Connection | None = None
        self._call: Any = None
        self._pump: asyncio.Task[None] | None = None
        self._reader: Reader | None = None
        self._first: Any = None
        self._fault: Refused | None = None
        self._is_answered = self._is_sent = self._is_over = False
        self._quiet_since = listener.now()
        self._writes_since = 0.0
        self._held_bytes = 0
        self.head: CallHead = read_head(path, context.invocation_metadata())
        self.exchange: Exchange

    async def run(self) -> None:
        """Pass the call on, and end it with a status; raises CancelledError where the client has gone."""
        try:
            status = await self._status()
            context = self._context
            if status.trailers:
                context.set_trailing_metadata(status.trailers)
            if status.code:
                context.set_code(self._listener.codes[status.code])
                context.set_details(status.details)
            self.exchange.status = 200  # whatever the status of gRPC, that of HTTP is 200
        finally:
            self._end()

    async def _status(self) -> Status:
        try:
            self._begin()
            return await self._pass_on()
        except Refused as refused:
            return self._refused(refused)
        except asyncio.CancelledError:
            if self._fault is not None and self._task is not None:
                self._task.uncancel()
                return self._refused(self._fault)
            if self._task is not None and not self._task.cancelling():
                return self._refused(Refused("draining", "the upstream has been stopped"))
            self._client_gone()
            raise
        except self._listener.broken as fault:  # nothing more can be read from the client, or written to it
            self._client_gone()
            raise asyncio.CancelledError from fault
        except Exception:  # noqa: BLE001 - whatever it is, the client gets a status and the exchange an end
            _log.exception("a gRPC call failed inside the sidecar")
            return self._refused(Refused("internal"))

    # the way there

    def _begin(self) -> None:
        """Begin the exchange, of a call that may go nowhere as well."""
        listener, head = self._listener, self.head
        fault: Refused | None = None
        try:
            self._way = way = listener.way(head, self._path, self._context.peer())
            passage = way.passage
        except Refused as refused:
            fault = refused
            passage = listener.nowhere(head, self._context.peer())
        self.exchange = begin_exchange(cast("Listener", listener), passage, head)
        listener.opened(self)
        if fault is not None:
            raise fault

    async def _pass_on(self) -> Status:
        way, exchange = self._way, self.exchange
        assert way is not None
        asked, unread = await self._asked(way)
        exchange.asked = asked
        upstream = self._begin_attempt(way.route)
        attempt = self._attempt
        assert attempt is not None
        exchange.dialogue = attempt.dialogue = Dialogue(asked, unread=unread)
        connection = upstream.ready()
        if connection is None:
            connection = await upstream.reach()
            attempt.connected_at = time.monotonic_ns()
        attempt.address = connection.address
        self._reader = reader_of(asked)
        self._connection = connection
        connection.took()
        self._call = call = self._send(connection, attempt, way.route)
        return await self._pass_responses(call)

    async def _asked(self, way: "Way") -> tuple[Asked, str]:
        """What is asked for. A method of A2A has one request message, which the guards are to know: it is waited for."""
        if not way.operation:
            return plainly(self._path), ""
        self._first = await self._read(0.0)
        if self._first is self._listener.eof:
            return plainly(self._path), "unreadable"
        return ask(way.operation, self._path, self._first)

    def _begin_attempt(self, route: Route) -> GrpcUpstream:
        exchange, chain = self.exchange, route.chain
        if chain.admit is not None:
            ask_guard(chain.admit, exchange)
        attempt = self._attempt = begin_attempt(exchange, self._listener.runtime.rng)
        if chain.take is not None:
            ask_guard(chain.take, attempt)
        if exchange.stopped:
            raise Refused("stopped", exchange.stopped)
        exchange.when_stopped(self._stop)
        return cast("GrpcUpstream", route.upstream)

    def _send(self, connection: Connection, attempt: Attempt, route: Route) -> Any:
        """
        Begin the call at the upstream, with what is left of the client's deadline.

        A request that has one message, which is here, goes in one piece; of any other more may come.
        """
        metadata = going_on(
            self.head, self.exchange, attempt, self._listener.via,
            has_baggage=route.baggage, takes_part=not self._listener.graph.sampler.is_disabled,
        )  # fmt: skip
        timeout_s, message = self._context.time_remaining(), self._first
        if message is None or message is self._listener.eof:
            call = connection.channel.stream_stream(self._path)(metadata=metadata, timeout=timeout_s)
            self._pump = asyncio.create_task(self._pass_requests(call))
            return call
        self.exchange.request_bytes = attempt.sent_bytes = len(message)
        self._hold(len(message))
        self._is_sent = True
        return connection.channel.unary_stream(self._path)(message, metadata=metadata, timeout=timeout_s)

    # messages

    async def _pass_requests(self, call: Any) -> None:
        """Pass on what the client sends; what goes wrong here is heard of in the other direction."""
        exchange, attempt, eof = self.exchange, self._attempt, self._listener.eof
        assert attempt is not None
        message = self._first
        try:
            if message is None:
                message = await self._read(0.0)
            while message is not eof:
                exchange.request_bytes += len(message)
                self._hold(len(message))
                await write(call, message)
                self._let_go(len(message))
                attempt.sent_bytes += len(message)
                self._quiet_since = now = self._listener.now()
                message = await self._read(now)
            await call.done_writing()
            self._is_sent = True
            self._quiet_since = self._listener.now()
        except Refused as refused:
            self.cut(refused)
        except Exception as fault:  # noqa: BLE001 - the library raises several for a call that has ended meanwhile
            _log.debug("a request was not passed on to its end: %s", fault)

    def _hold(self, count: int) -> None:
        """Take room for a message until it is on its way; raises `Refused` where those of all calls have too much."""
        room = self._listener.room
        if not room.take(count):
            held = f"{room.taken_bytes >> 20} MiB of messages are waiting to be taken"
            raise Refused("too_many_connections", held, retry_after_s=1.0)
        self._held_bytes += count

    def _let_go(self, count: int) -> None:
        self._listener.room.give_back(count)
        self._held_bytes -= count

    async def _read(self, since: float) -> Any:
        """
        The next message of the client, which has been waited for `since` then; the library's EOF where there is no more.

        To the library a client that has gone has no more to say, too, and a moment later it cancels the call. What was cut must
        not look whole to the upstream: so the end of a request is not believed before that moment has passed. It is believed at
        once where it came with the message before it, as in every call with one request message.
        """
        message = await self._context.read()
        if message is self._listener.eof and self._listener.now() - since > _AT_ONCE_S:
            await asyncio.sleep(_SETTLE_S)
        return message

    async def _pass_responses(self, call: Any) -> Status:
        context, eof, attempt, exchange = self._context, self._listener.eof, self._attempt, self.exchange
        assert attempt is not None
        initial = coming_back(await call.initial_metadata())
        if initial or not call.done():
            self._answer()
            if initial or exchange.asked is None or exchange.asked.streams or exchange.asked.dialect == NAME:
                await context.send_initial_metadata(initial)  # else it goes with the one message, which follows at once
        try:
            while (message := await call.read()) is not eof:
                self._took(message)
                self._writes_since = self._quiet_since = self._listener.now()
                self._hold(len(message))
                await context.write(message)
                self._let_go(len(message))
                self._writes_since = 0.0
                exchange.response_bytes += len(message)
        except self._listener.rpc_error:
            pass  # the status says so
        code, details, trailers = await call.code(), await call.details(), await call.trailing_metadata()
        status = Status(code.value[0], details or "", coming_back(trailers))
        if status.code == _UNAVAILABLE and not status.trailers:
            await asyncio.sleep(_STATE_S)  # for the library to have noticed, where it was the connection that was lost
        return self._judge(status)

    def _answer(self) -> None:
        """The upstream has begun to answer."""
        attempt, exchange = self._attempt, self.exchange
        assert attempt is not None
        assert attempt.dialogue is not None
        assert self._reader is not None
        self._is_answered = True
        self._quiet_since = self._listener.now()
        attempt.status = 200
        attempt.first_byte_at = exchange.first_byte_at = time.monotonic_ns()
        attempt.dialogue.answered = self._reader.answered

    def _took(self, message: bytes) -> None:
        attempt, reader = self._attempt, self._reader
        assert attempt is not None
        assert reader is not None
        attempt.received_bytes += len(message)
        reader.feed(message)
        dialogue = attempt.dialogue
        if dialogue is not None and not dialogue.first_content_s and reader.answered.content_bytes:
            dialogue.first_content_s = (time.monotonic_ns() - attempt.started_at) / 1e9

    # endings

    def _judge(self, status: Status) -> Status:
        """What the upstream's status means; one that the library made because the connection was lost is told as ours."""
        reader, attempt, connection = self._reader, self._attempt, self._connection
        assert reader is not None
        assert attempt is not None
        assert connection is not None
        if status.code == _UNAVAILABLE and not status.trailers and not connection.is_ready():
            fault = UpstreamFailed("upstream_cut" if self._is_answered else "upstream_closed", status.details)
            return self._refused(fault, status._replace(trailers=((ERROR_KEY, fault.code),)))
        if status.code == _DEADLINE_EXCEEDED and self._is_late():
            self._client_gone()  # it did not want to wait longer, whoever was the first to notice
            return status
        if not self._is_answered:
            self._answer()
        if status.code == _OK:
            reader.end()
            return status
        details = next((value for key, value in status.trailers if key == _DETAILS_KEY and isinstance(value, bytes)), b"")
        reader.fail(status.code, status.name, status.details, details)
        return status

    def _refused(self, refused: Refused, status: Status | None = None) -> Status:
        """End the call with an error of ours."""
        self._listener.count_refused(refused.code)
        self._failed(refused.code)
        status = status or status_of(refused)
        if self._is_answered and self._reader is not None:
            self._reader.fail(status.code, status.name, status.details, b"")
        return status

    def _client_gone(self) -> None:
        self._failed("client_gone")
        code = _DEADLINE_EXCEEDED if self._is_late() else _CANCELLED
        if self._is_answered and self._reader is not None:
            self._reader.fail(code, name_of(code), "", b"")

    def _is_late(self) -> bool:
        """Whether the client's deadline has passed."""
        left_s = self._context.time_remaining()
        return left_s is not None and left_s <= _AT_ONCE_S

    def _failed(self, error: str) -> None:
        self.exchange.error = error
        if self._attempt is not None:
            self._attempt.error = error

    def _stop(self, reason: str) -> None:
        """Somebody stopped the exchange (an operator, a policy)."""
        self.cut(Refused("stopped", reason))

    def cut(self, refused: Refused) -> None:
        """End the call with an error of ours, whatever it waits for."""
        if self._fault is None and not self._is_over and self._task is not None:
            self._fault = refused
            self._task.cancel()

    def _end(self) -> None:
        """Leave the upstream, and tell of attempt and exchange."""
        self._is_over = True
        if self._pump is not None:
            self._pump.cancel()
        if self._call is not None and not self._call.done():
            self._call.cancel()
        if self._connection is not None:
            self._connection.let_go()
        self._let_go(self._held_bytes)
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt_finished(self._listener.runtime, attempt, self.exchange)
        exchange_finished(self._listener.runtime, self.exchange)
        self._listener.closed(self)
        self._task = self._pump = self._call = self._context = None  # they lead back here: a cycle for the garbage collector

    # time

    def tick(self, now: float) -> None:
        """Look at the deadlines: whoever keeps silent for too long, or takes nothing, ends the call."""
        way, attempt, listener = self._way, self._attempt, self._listener
        if way is None or self._is_over:
            return
        client_s = listener.idle_timeout_s
        if self._writes_since:
            if now - self._writes_since > client_s:
                self.cut(Refused("client_stalled", f"the client took nothing for {client_s:g} s"))
            return
        quiet_s = now - self._quiet_since
        if attempt is None:
            if quiet_s > client_s:
                self.cut(Refused("body_timeout", f"no message came for {client_s:g} s"))
            return
        if self._call is None:
            return  # a connection is being made, which has a deadline of its own
        upstream = way.route.upstream
        if self._is_answered:
            idle_s = attempt.idle_timeout_s or upstream.idle_timeout_s
            if idle_s and quiet_s > idle_s:
                self.cut(UpstreamFailed("idle_timeout", f"nothing came for {idle_s:g} s"))
            return
        first_s = attempt.first_byte_timeout_s or upstream.first_byte_timeout_s
        is_standing = self.exchange.asked is not None and self.exchange.asked.is_standing
        if self._is_sent and not is_standing and quiet_s > first_s:
            self.cut(UpstreamFailed("first_byte_timeout", f"nothing came for {first_s:g} s"))

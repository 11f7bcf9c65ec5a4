"""The paths of the admin API: what each of them says or does, and what it takes to be let in."""

import asyncio
import importlib
import logging
import platform
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

import sidecar
from sidecar.admin import events
from sidecar.admin.accept import preferred
from sidecar.admin.access import Access, Kind
from sidecar.admin.exchanges import Exchanges, Forms
from sidecar.admin.filter import Filter
from sidecar.admin.messages import EVENT_STREAM, JSON, PROTOBUF, Answer, Call, told
from sidecar.admin.refusals import ADMIN_CODES, AdminRefused
from sidecar.admin.showing import shown_live
from sidecar.control.operations import Busy, ExchangeUnknown, Operations
from sidecar.model.errors import CODES, ConfigInvalid
from sidecar.model.exchange import Exchange
from sidecar.runtime.runtime import Health, Runtime
from sidecar.telemetry.metrics import Form, exposition
from sidecar.telemetry.process import process_figures

MOST_BODY_BYTES = 16 * 1024
_STOP = re.compile(r"/api/v1/exchanges/(?P<span_id>[^/]*)/stop")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_VARY = {"Vary": "Accept"}
_log = logging.getLogger("sidecar.admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """
    What only the app knows: the effective config with its secrets redacted, how every component is, and who is in flight.

    While the app starts or drains, one of `components` is not ready and says so.
    """

    config: Callable[[], dict[str, Any]]
    components: Callable[[], dict[str, Health]]
    in_flight: Callable[[], Iterable[Exchange]]


@dataclass(frozen=True, slots=True)
class _Path:
    """One path: `method` is GET (and with it HEAD) or POST."""

    method: str
    kind: Kind
    answer: Callable[[Call], Awaitable[Answer]]

    @property
    def allow(self) -> str:
        return "GET, HEAD" if self.method == "GET" else self.method


class Api:
    """The admin API without the network: `answer` takes any `Call` and never raises."""

    def __init__(self, runtime: Runtime, operations: Operations, views: Views, exchanges: Exchanges, access: Access) -> None:
        self._runtime = runtime
        self._operations = operations
        self._views = views
        self._exchanges = exchanges
        self.slow_clients = exchanges.slow_clients
        self._access = access
        self._paths = {
            "/healthz": _Path("GET", Kind.PROBE, self._healthz),
            "/readyz": _Path("GET", Kind.PROBE, self._readyz),
            "/metrics": _Path("GET", Kind.PROBE, self._metrics),
            "/api/v1/version": _Path("GET", Kind.READ, self._version),
            "/api/v1/config": _Path("GET", Kind.READ, self._config),
            "/api/v1/errors": _Path("GET", Kind.READ, self._errors),
            "/api/v1/exchanges": _Path("GET", Kind.READ, self._latest),
            "/api/v1/exchanges/stream": _Path("GET", Kind.READ, self._stream),
            "/api/v1/reload": _Path("POST", Kind.CHANGE, self._reload),
            "/api/v1/drain": _Path("POST", Kind.CHANGE, self._drain),
        }
        self._stop_path = _Path("POST", Kind.CHANGE, self._stop)
        text = "Exchanges in flight, tunnels included."
        runtime.metrics.gauge("http.server.active_requests", text, read=lambda: sum(1 for _ in views.in_flight()))

    async def answer(self, call: Call) -> Answer:
        """Check the caller and do what the call says; every error is an answer too."""
        try:
            self._access.check_source(call)
            path = self._path(call)
            if call.method != path.method and not (call.method == "HEAD" and path.method == "GET"):
                detail = f"{call.path} knows {path.allow}, not {call.method}"
                raise AdminRefused("method_not_allowed", detail, headers={"Allow": path.allow})
            self._access.check_right(call, path.kind)
            return await path.answer(call)
        except AdminRefused as refused:
            return self._refused(refused)
        except Exception:  # noqa: BLE001 - the last resort of a server: the caller gets an answer, the log the rest
            _log.exception("the admin API failed at %s", call.path)
            return self._refused(AdminRefused("failed", "an error that nobody thought of"))

    def _refused(self, refused: AdminRefused) -> Answer:
        self._runtime.metrics.counter("admin.refused", "Calls to admin that got an error, by code.", code=refused.code).value += 1
        return refused.answer()

    def _path(self, call: Call) -> _Path:
        if not call.target.startswith("/"):
            raise AdminRefused("bad_request", "the target has to be a path")
        found = self._paths.get(call.path) or (self._stop_path if _STOP.fullmatch(call.path) else None)
        if found is None:
            raise AdminRefused("path_unknown", f"the paths are {', '.join(self._paths)} and /api/v1/exchanges/{{span_id}}/stop")
        return found

    async def _healthz(self, call: Call) -> Answer:
        return told({"status": "ok"})

    async def _readyz(self, call: Call) -> Answer:
        components = self._views.components()
        is_ready = bool(components) and all(health.ready for health in components.values())
        shown = {
            name: {"ready": health.ready, "state": health.state, "reason": health.reason} for name, health in components.items()
        }
        return told({"ready": is_ready, "components": shown}, status=200 if is_ready else 503)

    async def _metrics(self, call: Call) -> Answer:
        chosen = _negotiated(call, *(form.value for form in Form))
        pieces = exposition(self._runtime.metrics, Form(chosen), figures=process_figures())
        return Answer(pieces=pieces, content_type=chosen, headers=_VARY)

    async def _version(self, call: Call) -> Answer:
        return told({"version": sidecar.__version__, "python": platform.python_version(), "platform": platform.platform()})

    async def _config(self, call: Call) -> Answer:
        return told(self._views.config())

    async def _errors(self, call: Call) -> Answer:
        return told({
            "calls": {code: asdict(meaning) for code, meaning in CODES.items()},
            "admin": {code: asdict(meaning) for code, meaning in ADMIN_CODES.items()},
        })  # fmt: skip

    async def _latest(self, call: Call) -> Answer:
        form = _negotiated(call, JSON, PROTOBUF)
        typed = await _typed() if form == PROTOBUF else None
        wanted = Filter.read(call.query, limit=100)
        live = [] if wanted.state == "finished" else self._live(wanted)
        finished = [] if wanted.state == "live" else self._exchanges.latest(wanted)
        shown = [*live, *finished][: wanted.limit]
        if typed is not None:
            return Answer(body=typed.listed(shown), content_type=PROTOBUF, headers=_VARY)
        return told({"exchanges": shown}, headers=_VARY)

    def _live(self, wanted: Filter) -> list[dict[str, Any]]:
        now_ns = self._runtime.clock.wall_ns()
        found = sorted((exchange for exchange in self._views.in_flight() if wanted.matches(exchange)), key=_age, reverse=True)
        return [shown_live(exchange, now_ns) for exchange in found[: wanted.limit]]

    async def _stream(self, call: Call) -> Answer:
        form = _negotiated(call, EVENT_STREAM, PROTOBUF)
        if call.method == "HEAD":
            return Answer(content_type=form, headers=_VARY)
        forms: Forms = await _typed() if form == PROTOBUF else events
        follower = self._exchanges.follow(Filter.read(call.query, limit=0), forms)
        return Answer(content_type=form, headers=_VARY, events=follower)

    async def _reload(self, call: Call) -> Answer:
        try:
            changes = await self._operations.reload(who=call.caller, why=_reason(call))
        except ConfigInvalid as invalid:
            faults = [asdict(fault) for fault in invalid.faults]
            raise AdminRefused("config_invalid", f"{len(faults)} fault(s)", more={"faults": faults}) from invalid
        except (Busy, TimeoutError) as error:
            raise _not_now(error) from error
        return told({"changes": list(changes)})

    async def _drain(self, call: Call) -> Answer:
        try:
            await self._operations.drain(who=call.caller, why=_reason(call))
        except (Busy, TimeoutError) as error:
            raise _not_now(error) from error
        return told({"draining": True}, status=202)

    async def _stop(self, call: Call) -> Answer:
        span_id = call.path.split("/")[4]
        if not _SPAN_ID.fullmatch(span_id):
            raise AdminRefused("exchange_unknown", "a span id is 16 digits of lower-case hex")
        try:
            await self._operations.stop_exchange(bytes.fromhex(span_id), who=call.caller, why=_reason(call))
        except ExchangeUnknown as unknown:
            raise AdminRefused("exchange_unknown", str(unknown)) from unknown
        except (Busy, TimeoutError) as error:
            raise _not_now(error) from error
        return told({"stopped": span_id})


def _negotiated(call: Call, *offers: str) -> str:
    """The media type that the caller likes best, the first of equals; raises `AdminRefused` where it accepts none."""
    chosen = preferred(call.value("accept"), offers)
    if chosen is None:
        raise AdminRefused("not_acceptable", f"this is {' or '.join(offers)}")
    return chosen


async def _typed() -> Any:
    """The module that writes protobuf, which loads protobuf (4 MiB, 30 ms): in a thread, and only when somebody asks for it."""
    return await asyncio.to_thread(importlib.import_module, "sidecar.admin.typed")


def _age(exchange: Exchange) -> int:
    return exchange.started_ns


def _not_now(error: Busy | TimeoutError) -> AdminRefused:
    if isinstance(error, Busy):
        return AdminRefused("busy", str(error))
    return AdminRefused("timed_out", "the operation took too long")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """What a change may bring with it."""

    reason: str = ""


_body = msgspec.json.Decoder(_Body)


def _reason(call: Call) -> str:
    """The operator's words from the body, which may be empty."""
    if not call.body:
        return ""
    if call.value("content-type").partition(";")[0].strip().lower() != JSON:  # what a form of a browser cannot send unasked
        raise AdminRefused("bad_body", f"the body is not {JSON}")
    try:
        return _body.decode(call.body).reason
    except (ValueError, RecursionError) as error:  # msgspec's errors say what was expected where, as in `$.reason`
        raise AdminRefused("bad_body", f"the body cannot be used: {error}") from error

"""How exchanges are shown: ids in hex, times as ISO 8601, durations in seconds, and no credential of a query string."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sidecar.model.exchange import Exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.telemetry.redaction import redacted_target


def shown_exchange(fact: ExchangeFinished, attempts: Iterable[AttemptFinished]) -> dict[str, Any]:
    """A finished exchange with those of its attempts that are still remembered."""
    return {
        "state": "finished",
        "trace_id": fact.trace_id.hex(),
        "span_id": fact.span_id.hex(),
        "parent_id": fact.parent_id.hex(),
        "sampled": bool(fact.flags & 1),
        "started_at": iso_time(fact.started_ns),
        "ended_at": iso_time(fact.ended_ns),
        "duration_s": _seconds(fact.started_ns, fact.ended_ns),
        "first_byte_s": round(fact.first_byte_s, 6),
        "agent": fact.agent,
        "task": fact.task,
        "purpose": fact.purpose,
        "mode": fact.mode,
        "listener": fact.listener,
        "client": fact.client,
        "method": fact.method,
        "scheme": fact.scheme,
        "host": fact.host,
        "port": fact.port,
        "path": redacted_target(fact.path),
        "route": fact.route,
        "upstream": fact.upstream,
        "status": fact.status,
        "error": fact.error,
        "request_bytes": fact.request_bytes,
        "response_bytes": fact.response_bytes,
        "attempts": [_shown_attempt(attempt) for attempt in sorted(attempts, key=lambda attempt: attempt.resends)],
    }


def shown_live(exchange: Exchange, now_ns: int) -> dict[str, Any]:
    """An exchange in flight: the same members, as far as they are known; `duration_s` is its age, bytes are those so far."""
    return {
        "state": "live",
        "trace_id": exchange.trace_id.hex(),
        "span_id": exchange.span_id.hex(),
        "parent_id": exchange.parent_id.hex(),
        "sampled": bool(exchange.flags & 1),
        "started_at": iso_time(exchange.started_ns),
        "duration_s": _seconds(exchange.started_ns, now_ns),
        "agent": exchange.agent,
        "task": exchange.task,
        "purpose": exchange.purpose,
        "mode": exchange.mode,
        "listener": exchange.listener,
        "client": exchange.client,
        "method": exchange.method,
        "scheme": exchange.scheme,
        "host": exchange.host,
        "port": exchange.port,
        "path": redacted_target(exchange.passage.path),
        "route": exchange.route,
        "upstream": exchange.upstream,
        "status": exchange.status,
        "error": exchange.error,
        "request_bytes": exchange.request_bytes,
        "response_bytes": exchange.response_bytes,
        "tries": exchange.attempts,
    }


def _shown_attempt(fact: AttemptFinished) -> dict[str, Any]:
    return {
        "span_id": fact.span_id.hex(),
        "started_at": iso_time(fact.started_ns),
        "duration_s": _seconds(fact.started_ns, fact.ended_ns),
        "connect_s": round(fact.connect_s, 6),
        "first_byte_s": round(fact.first_byte_s, 6),
        "method": fact.method,
        "scheme": fact.scheme,
        "host": fact.host,
        "port": fact.port,
        "path": redacted_target(fact.path),
        "address": fact.address,
        "upstream": fact.upstream,
        "status": fact.status,
        "error": fact.error,
        "sent_bytes": fact.sent_bytes,
        "received_bytes": fact.received_bytes,
        "resends": fact.resends,
    }


def iso_time(time_ns: int) -> str:
    """A time since the epoch as ISO 8601 in UTC with microseconds, "" where it is none (0)."""
    if time_ns <= 0:
        return ""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def _seconds(started_ns: int, ended_ns: int) -> float:
    return round(max(ended_ns - started_ns, 0) / 1e9, 6)

"""Exchanges and attempts for the admin API to show, made from a number."""

from dataclasses import fields
from typing import Any

from sidecar.model.exchange import Exchange
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Passage, Purpose

PASSAGE = Passage(
    listener="http", client="127.0.0.1:5000", mode=Mode.FORWARD, method="POST", scheme="https", host="api.openai.com",
    port=443, path="/v1/chat", target="/v1/chat", upstream="http/openai", route="openai", agent="bot", task="t1",
    purpose=Purpose.LIVE,
)  # fmt: skip
OF_PASSAGE = {field.name for field in fields(Passage)}


def passage(changes: dict[str, Any]) -> Passage:
    """`PASSAGE` with those changes that belong to it, which are taken out of `changes`."""
    own = {name: changes.pop(name) for name in OF_PASSAGE & changes.keys()}
    return Passage(**{**{field.name: getattr(PASSAGE, field.name) for field in fields(Passage) if field.init}, "blocks": {}, **own})


def exchange_finished(number: int = 0, **changes: Any) -> ExchangeFinished:
    """A finished exchange whose ids and times come from a number."""
    made: dict[str, Any] = {
        "passage": passage(changes),
        "started_ns": 1_700_000_000_000_000_000 + number * 1_000_000_000,
        "ended_ns": 1_700_000_000_250_000_000 + number * 1_000_000_000,
        "trace_id": number.to_bytes(16, "big"), "span_id": (number + 1).to_bytes(8, "big"), "parent_id": b"p" * 8, "flags": 1,
        "tracestate": b"", "status": 200, "error": "", "request_bytes": 1500, "response_bytes": 1200, "first_byte_s": 0.1,
        "attempts": 1,
    }  # fmt: skip
    return ExchangeFinished(**{**made, **changes})


def attempt_finished(number: int = 0, **changes: Any) -> AttemptFinished:
    """The attempt of `exchange_finished(number)`."""
    made: dict[str, Any] = {
        "passage": passage(changes),
        "started_ns": 1_700_000_000_010_000_000 + number * 1_000_000_000,
        "ended_ns": 1_700_000_000_240_000_000 + number * 1_000_000_000,
        "trace_id": number.to_bytes(16, "big"), "span_id": (number + 1 + 2**32).to_bytes(8, "big"),
        "parent_id": (number + 1).to_bytes(8, "big"), "flags": 1, "tracestate": b"", "address": "1.2.3.4", "status": 200,
        "error": "", "sent_bytes": 1500, "received_bytes": 1200, "connect_s": 0.0, "first_byte_s": 0.09, "resends": 0,
    }  # fmt: skip
    return AttemptFinished(**{**made, **changes})


def exchange_in_flight(number: int = 0, **changes: Any) -> Exchange:
    """An exchange as the wire has it while bytes flow."""
    finished = exchange_finished(number)
    exchange = Exchange(
        passage({"path": "/v1/chat?key=secret", **{name: changes.pop(name) for name in OF_PASSAGE & changes.keys()}}),
        finished.started_ns, 0, finished.trace_id, finished.span_id, finished.parent_id, 1, b"",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange

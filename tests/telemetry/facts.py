"""Facts as traffic publishes them, with a word for what a test wants to be different."""

import time
from dataclasses import fields
from typing import Any

from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode, Passage, Purpose

TRACE_ID = bytes(range(1, 17))
AGENT_SPAN = bytes(range(31, 39))

_PASSAGE = {field.name for field in fields(Passage)}


def passage(**different: Any) -> Passage:
    """A POST to OpenAI through the gateway; `path` is what the agent sent, `target` what the upstream sees."""
    usual = {
        "listener": "http",
        "client": "127.0.0.1:50000",
        "mode": Mode.GATEWAY,
        "method": "POST",
        "scheme": "https",
        "host": "api.openai.com",
        "port": 443,
        "path": "/openai/v1/chat/completions",
        "target": "/v1/chat/completions",
        "upstream": "http/openai",
        "route": "openai",
        "agent": "support-bot",
        "task": "",
        "purpose": Purpose.LIVE,
    }
    return Passage(**{**usual, **different})


def exchange(**different: Any) -> ExchangeFinished:
    """Such a call, which went well and took a second; words of the passage may be different, too."""
    now = time.time_ns()
    usual = {
        "started_ns": now - 10**9,
        "ended_ns": now,
        "trace_id": TRACE_ID,
        "span_id": now.to_bytes(8, "big"),
        "parent_id": AGENT_SPAN,
        "flags": 1,
        "tracestate": b"",
        "status": 200,
        "error": "",
        "request_bytes": 1814,
        "response_bytes": 1188,
        "first_byte_s": 0.25,
        "attempts": 1,
    }
    return ExchangeFinished(**_with_passage({**usual, **different}))


def attempt(**different: Any) -> AttemptFinished:
    """The try at OpenAI that belongs to such an exchange."""
    now = time.time_ns()
    usual = {
        "started_ns": now - 9 * 10**8,
        "ended_ns": now,
        "trace_id": TRACE_ID,
        "span_id": (now + 1).to_bytes(8, "big"),
        "parent_id": bytes(range(41, 49)),
        "flags": 1,
        "tracestate": b"",
        "address": "203.0.113.7",
        "status": 200,
        "error": "",
        "sent_bytes": 1814,
        "received_bytes": 1188,
        "connect_s": 0.0,
        "first_byte_s": 0.2,
        "resends": 0,
    }
    return AttemptFinished(**_with_passage({**usual, **different}))


def _with_passage(words: dict[str, Any]) -> dict[str, Any]:
    of_passage = {key: value for key, value in words.items() if key in _PASSAGE}
    rest = {key: value for key, value in words.items() if key not in _PASSAGE}
    return {"passage": passage(**of_passage), **rest}

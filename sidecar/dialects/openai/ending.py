"""How a stream that is cut comes to a well-formed end: as a response that its length limit ended."""

import json
from typing import Any

from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.asked import CHAT, COMPLETIONS, RESPONSES, OpenAiAsked
from sidecar.dialects.sse import event
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked

_MOST_CHOICES = 128


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """Return the events that finish a stream, in the shape of what it had so far; b"" where it has ended, or was none."""
    if not isinstance(asked, OpenAiAsked) or not asked.streams or answered.is_ended:
        return b""
    seen = answered if isinstance(answered, OpenAiAnswered) else OpenAiAnswered()
    if asked.endpoint in (CHAT, COMPLETIONS):
        return _chunks(asked, seen, reason)
    return _response(asked, seen, reason) if asked.endpoint == RESPONSES else b""


def _chunks(asked: OpenAiAsked, seen: OpenAiAnswered, reason: str) -> bytes:
    choices = sorted(seen.finished) or range(min(asked.choices, _MOST_CHOICES))
    unfinished = [index for index in choices if not seen.finished.get(index)]
    done = event(b"[DONE]")
    if not unfinished:
        return done
    is_chat = asked.endpoint == CHAT
    chunk = {
        "id": seen.id or f"{'chatcmpl' if is_chat else 'cmpl'}-{reason}",
        "object": "chat.completion.chunk" if is_chat else "text_completion",
        "created": seen.created,
        "model": seen.model or asked.model,
        "choices": [_choice(index, is_chat, index in seen.finished) for index in unfinished],
    }
    return event(_json(chunk)) + done


def _choice(index: int, is_chat: bool, has_begun: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index}
    if is_chat:
        choice["delta"] = {} if has_begun else {"role": "assistant", "content": ""}
    else:
        choice["text"] = ""
    return choice | {"logprobs": None, "finish_reason": "length"}


def _response(asked: OpenAiAsked, seen: OpenAiAnswered, reason: str) -> bytes:
    response = {
        "id": seen.id or f"resp_{reason}",
        "object": "response",
        "created_at": seen.created,
        "model": seen.model or asked.model,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if seen.begun:
        response |= json.loads(seen.begun)
    events = b""
    number = seen.sequence_number + 1
    if number == 0:  # the SDK wants this one before any other
        created = response | {"status": "in_progress", "output": [], "error": None, "incomplete_details": None, "usage": None}
        events += _event("response.created", created, number)
        number += 1
    incomplete = response | {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [],
        "error": None,
        "usage": None,
    }
    return events + _event("response.incomplete", incomplete, number)


def _event(kind: str, response: dict[str, Any], number: int) -> bytes:
    return event(_json({"type": kind, "sequence_number": number, "response": response}), kind.encode())


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

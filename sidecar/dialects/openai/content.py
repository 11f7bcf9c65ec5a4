"""What is said in OpenAI's formats: messages of chat, items of responses, prompts and inputs, streamed or whole."""

from typing import Any

from sidecar.dialects.openai.asked import RESPONSES, OpenAiAsked
from sidecar.dialects.parts import Written, blob, bounded, called, located, responded, role_of, said, stored, texts_of
from sidecar.dialects.untyped import events_of, index, is_stream, items, member, raw, short, text, value_of
from sidecar.model.asked import Asked
from sidecar.model.content import Content, Kind, Message, Part

_CALLS = frozenset({"function_call", "custom_tool_call"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_DELTAS = {
    "response.output_text.delta": Kind.TEXT,
    "response.refusal.delta": Kind.TEXT,
    "response.reasoning_text.delta": Kind.REASONING,
    "response.reasoning_summary_text.delta": Kind.REASONING,
}
_ARGUMENTS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def content(asked: Asked, request: bytes, answer: bytes, content_type: str) -> Content | None:
    """Return what was asked and answered, as far as both came."""
    told = value_of(request)
    endpoint = asked.endpoint if isinstance(asked, OpenAiAsked) else ""
    found = Content()
    tools = items(told, "tools") + items(told, "functions")
    found.tools = raw(tools) if tools else b""
    if endpoint == RESPONSES:
        found.instructions = said(text(told, "instructions"))
        found.input = _items(member(told, "input"))
        found.output = _response_stream(answer) if is_stream(content_type) else _response(value_of(answer))
        return bounded(found)
    found.input = [message_of(each) for each in items(told, "messages")]
    if not found.input:
        found.input = prompts_of(member(told, "prompt", "input") if endpoint or asked.operation != "chat" else None)
    if asked.operation != "embeddings":
        found.output = chat_stream(answer) if is_stream(content_type) else chat_answer(value_of(answer))
    return bounded(found)


def prompts_of(told: Any) -> list[Message]:
    """Return a prompt, or each of several, as a user's message; tokens, which nobody can read, are none."""
    if isinstance(told, str):
        told = [told]
    return [Message("user", said(each)) for each in told if isinstance(each, str)] if isinstance(told, list) else []


def message_of(told: Any) -> Message:
    """Return a message of a chat, as a request and as a whole answer have it."""
    role = role_of(text(told, "role"))
    if role == "tool":
        found = responded(short(told, "tool_call_id", "tool_name", "name"), member(told, "content"))
        return Message(role, [found], short(told, "name"))
    parts = [*said(text(told, "reasoning_content", "reasoning", "thinking"), Kind.REASONING), *parts_of(member(told, "content"))]
    parts += said(text(told, "refusal"))
    audio = member(told, "audio")
    if isinstance(audio, dict):
        parts += [*said(text(audio, "transcript")), blob("", "audio")]
    parts += [call_of(each) for each in items(told, "tool_calls")]
    if isinstance(member(told, "function_call"), dict):
        parts.append(call_of({"function": told["function_call"]}))
    return Message(role, parts, short(told, "name"))


def call_of(told: Any) -> Part:
    """Return a call of a tool as a chat has it."""
    function = member(told, "function", "custom")
    return called(short(told, "id"), short(function, "name"), member(function, "arguments", "input"))


def parts_of(told: Any) -> list[Part]:
    """Return what a message's `content` holds, a text or a list of parts."""
    if not isinstance(told, list):
        return said(told)
    found: list[Part] = []
    for part in told:
        found += said(part) if isinstance(part, str) else _part(part)
    return found


def _part(told: Any) -> list[Part]:
    kind = text(told, "type")
    if kind == "thinking":  # Mistral's
        return texts_of(member(told, "thinking"), Kind.REASONING)
    if kind in ("reasoning_text", "summary_text"):
        return said(text(told, "text"), Kind.REASONING)
    if kind == "refusal":
        return said(text(told, "refusal"))
    if "image" in kind or "video" in kind:
        return _picture(told, "video" if "video" in kind else "image")
    if kind == "input_audio":
        form = short(member(told, "input_audio"), "format")
        return [blob(f"audio/{form}" if form else "", "audio")]
    if kind in ("file", "input_file"):
        return _file(member(told, "file") if kind == "file" else told)
    return said(text(told, "text"))


def _picture(told: Any, modality: str) -> list[Part]:
    place = member(told, "image_url", "video_url")
    address = place if isinstance(place, str) else text(place, "url")
    if address:
        return [located(address, modality)]
    file_id = short(told, "file_id")
    return [stored(file_id, modality)] if file_id else []


def _file(told: Any) -> list[Part]:
    file_id, address = short(told, "file_id"), text(told, "file_url", "file_data")
    if file_id:
        return [stored(file_id)]
    return [located(address) if ":" in address[:8] else blob("")] if address else []


# chat and completions, answered


def chat_answer(told: Any) -> list[Message]:
    """Return the choices of a whole answer."""
    found = []
    for choice in items(told, "choices", "outputs"):
        message = member(choice, "message")
        made = message_of(message) if isinstance(message, dict) else Message("assistant", said(text(choice, "text")))
        made.role = "assistant"
        made.finish_reason = short(choice, "finish_reason", "stop_reason")
        if made.parts or made.finish_reason:
            found.append(made)
    return found


def chat_stream(answer: bytes) -> list[Message]:
    """Return the choices of a stream, as far as they came."""
    choices: dict[int, Written] = {}
    for _, chunk in events_of(answer):
        for position, choice in enumerate(items(chunk, "choices")[:128]):
            take_choice(choices, position, choice)
    return [message for written in choices.values() for message in written.messages()]


def take_choice(choices: dict[int, Written], position: int, choice: Any) -> None:
    """Take a choice of a chunk."""
    at = index(choice, "index") if member(choice, "index") is not None else position
    if at not in choices and len(choices) >= 128:
        return
    written = choices.setdefault(at, Written())
    delta = member(choice, "delta", "message")
    written.say("reasoning", text(delta, "reasoning_content", "reasoning"), Kind.REASONING)
    told = member(delta, "content")
    for part in parts_of(told):
        written.say("reasoning" if part.kind is Kind.REASONING else "text", part.text, part.kind)
    written.say("text", text(delta, "refusal") or text(choice, "text"))
    written.say("text", text(member(delta, "audio"), "transcript"))
    for place, call in enumerate(items(delta, "tool_calls")):
        function = member(call, "function", "custom")
        key = index(call, "index") if member(call, "index") is not None else short(call, "id") or place
        written.call(("call", key), short(call, "id"), short(function, "name"), text(function, "arguments", "input"))
    function = member(delta, "function_call")
    if isinstance(function, dict):
        written.call("call", "", short(function, "name"), text(function, "arguments"))
    written.finish(short(choice, "finish_reason", "stop_reason"))


# responses


def _items(told: Any) -> list[Message]:
    """Messages of what may be a text, or a list of items."""
    if isinstance(told, str):
        return [Message("user", said(told))]
    found: list[Message] = []
    for item in told if isinstance(told, list) else ():
        kind = text(item, "type")
        if kind in _RESULTS:
            found.append(Message("tool", [responded(short(item, "call_id"), member(item, "output"))]))
            continue
        parts = _item(item, kind)
        if parts:
            found.append(Message(role_of(text(item, "role"), "assistant" if kind not in ("message", "") else "user"), parts))
    return found


def _item(told: Any, kind: str) -> list[Part]:
    if kind in _CALLS:
        return [called(short(told, "call_id", "id"), short(told, "name"), member(told, "arguments", "input"))]
    if kind == "reasoning":
        return texts_of(items(told, "content") or items(told, "summary"), Kind.REASONING)
    if kind == "image_generation_call":
        return [blob("", "image")]
    return parts_of(member(told, "content"))


def _response(told: Any) -> list[Message]:
    """The output of a response as one message of the assistant's."""
    parts = [part for item in items(told, "output") for part in _item(item, text(item, "type"))]
    reason = short(member(told, "incomplete_details"), "reason") or short(told, "status")
    return [Message("assistant", parts, finish_reason=reason)] if parts else []


def _response_stream(answer: bytes) -> list[Message]:
    """The last event has the whole response; where it never came, the pieces tell."""
    written = Written()
    for name, event in events_of(answer):
        kind = text(event, "type") or name
        at = index(event, "output_index")
        if kind in _TERMINAL:
            whole = _response(member(event, "response"))
            if whole:
                return whole
        elif kind in _DELTAS:
            part = index(event, "content_index"), index(event, "summary_index")
            written.say((at, *part, _DELTAS[kind]), text(event, "delta"), _DELTAS[kind])
        elif kind in _ARGUMENTS:
            written.call(at, "", "", text(event, "delta"))
        elif kind == "response.output_item.added":
            item = member(event, "item")
            if text(item, "type") in _CALLS:
                written.call(at, short(item, "call_id", "id"), short(item, "name"), text(item, "arguments", "input"))
    return written.messages()

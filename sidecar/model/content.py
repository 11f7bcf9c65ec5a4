"""
What was said, word by word, in the parts that all providers' messages are made of; collected only where a route asks for it.

The kinds of parts are those of OpenTelemetry's GenAI conventions (gen-ai-input-messages.json). Nothing here is redacted or cut
yet: whoever writes it somewhere does that.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from sys import getsizeof

_AROUND_BYTES = 256
"""What a part or a message takes beside its text: itself, its lists, ids and names."""


class Kind(StrEnum):
    """What a part of a message is."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_CALL_RESPONSE = "tool_call_response"
    BLOB = "blob"
    FILE = "file"
    URI = "uri"


@dataclass(slots=True)
class Part:
    """
    A part of a message.

    `text` is a text or reasoning, the URI, or the id of a file. `json` is raw JSON: the arguments of a tool call, or what was
    answered to one. `id` and `name` are the tool call's. `modality` is `image`, `audio` or `video` of what is no text, with its
    `mime_type`; the bytes of a blob are nowhere kept.
    """

    kind: Kind
    text: str = ""
    json: bytes = b""
    id: str = ""
    name: str = ""
    modality: str = ""
    mime_type: str = ""


@dataclass(slots=True)
class Message:
    """A message; `role` is `system`, `user`, `assistant` or `tool`, `finish_reason` in the provider's own word (answers only)."""

    role: str
    parts: list[Part] = field(default_factory=list)
    name: str = ""
    finish_reason: str = ""


@dataclass(slots=True)
class Content:
    """
    All that was said in one attempt.

    `instructions` are what stands outside of the messages (system prompts), `tools` the definitions of tools as raw JSON (an
    array). `arguments` and `result` are those of a tool that was called, as raw JSON. `is_cut`: the collector's bound was
    reached, and there was more.
    """

    instructions: list[Part] = field(default_factory=list)
    input: list[Message] = field(default_factory=list)
    output: list[Message] = field(default_factory=list)
    tools: bytes = b""
    arguments: bytes = b""
    result: bytes = b""
    is_cut: bool = False

    def size_bytes(self) -> int:
        """Return how much memory it takes, near enough: texts as Python keeps them, and what is around them."""
        parts = [*self.instructions]
        size = len(self.tools) + len(self.arguments) + len(self.result) + _AROUND_BYTES
        for message in (*self.input, *self.output):
            parts += message.parts
            size += _AROUND_BYTES
        return size + sum(getsizeof(part.text) + len(part.json) + _AROUND_BYTES for part in parts)

"""What a request to the Messages API asks for, and how its bound on the output is lowered."""

import re
from dataclasses import dataclass

import msgspec

from sidecar.dialects.bulk import bulk_in, weighed
from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Unreadable
from sidecar.dialects.glance import MOST_BYTES, outline
from sidecar.dialects.lenient import Lenient, Lists
from sidecar.dialects.splice import append, places, put, swap
from sidecar.model.asked import Asked, ModelAsked, Parameter

MOST_TOOLS = 128
MOST_TEXT = 256
"""Characters of a name, an id or a stop sequence that are kept."""

_MOST_STOPS = 16
_MOST_RESULTS = 4096  # results of tools that are looked into for pictures by address
_MOST_TOKENS = 10**12  # more than this nobody means
_OURS = ("", "custom", "bash_", "text_editor_", "computer_", "memory_", "browser_")  # tools that the client itself runs
_VERTEX = re.compile(r"/publishers/anthropic/models/([^/:]+):(?:streamR|r)awPredict$")


_ABSENT = msgspec.Raw(b"")


class _Tool(msgspec.Struct, gc=False):
    name: str | None = None
    type: str | None = None


class _Source(msgspec.Struct, gc=False):
    type: str | None = None


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    source: _Source | str | None = None
    content: msgspec.Raw = _ABSENT


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] | str | None = None


_LOOKS = (
    ("files", re.compile(rb'"container_upload"|"type"[ \t\r\n]*:[ \t\r\n]*"file"')),
    ("urls", re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*"url"')),
)


class _Thinking(msgspec.Struct, gc=False):
    type: str | None = None
    budget_tokens: float | None = None


class _OutputConfig(msgspec.Struct, gc=False):
    effort: str | None = None
    format: msgspec.Raw = _ABSENT


class _Thread(msgspec.Struct, gc=False):
    type: str | None = None
    previous_message_id: str | None = None


class _Request(msgspec.Struct, gc=False):
    model: str | None = None
    max_tokens: float | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    stop_sequences: msgspec.Raw = _ABSENT
    service_tier: str | None = None
    speed: str | None = None
    output_config: _OutputConfig | None = None
    output_format: msgspec.Raw = _ABSENT
    thread: _Thread | None = None
    container: msgspec.Raw = _ABSENT
    mcp_servers: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT


class _Said(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None


class _Bound(msgspec.Struct, gc=False):
    max_tokens: msgspec.Raw = _ABSENT
    thinking: _Thinking | None = None


_REQUEST = Lenient(_Request)
_SAID = Lenient(_Said)
_TOOLS = Lists(_Tool)
_STOPS = Lists(str)
_BOUND = Lenient(_Bound)
_NO_TOOLS: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
_MOST_KEPT_BYTES = 2048
_MOST_KEPT = 256
_kept: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {}
"""Short lists of tools that were read already: an agent offers the same ones with each of its calls."""

_BLOCKS = msgspec.json.Decoder(list[_Block]).decode


def operation(heading: Heading) -> str:
    """`chat` for a message, "" for all else (counting tokens, batches, models, files)."""
    path = heading.path
    if heading.method != "POST":
        return ""
    vertex = _VERTEX.search(path)
    if vertex:
        return "" if vertex[1] == "count-tokens" else "chat"
    return "chat" if path.endswith("/messages") and "/threads/" not in path else ""  # OpenAI's threads have messages too


@dataclass(slots=True)
class _Known:
    """What a head says: the same for all requests that begin with it."""

    provider: str
    model: str
    streams: bool


def _known(heading: Heading) -> _Known:
    vertex = _VERTEX.search(heading.path)
    provider = heading.provider or ("gcp.vertex_ai" if vertex else "anthropic")
    known = _Known(provider, vertex[1][:MOST_TEXT] if vertex else "", heading.path.endswith(":streamRawPredict"))
    heading.memo = known
    return known


def request(operation: str, heading: Heading, body: bytes) -> ModelAsked:
    """Read a request for a message; raises `Unreadable` where the body is no JSON object."""
    told = _REQUEST.skim(body)
    known = heading.memo
    if type(known) is not _Known:
        known = _known(heading)
    previous = (told.thread.previous_message_id or "")[:MOST_TEXT] if told.thread is not None else ""
    tools, at_server = _NO_TOOLS if told.tools is _ABSENT else _offered(bytes(told.tools))
    most, tier = told.max_tokens, told.service_tier
    # By position, as that costs a third: dialect, operation, streams, is_standing, provider, model, max_tokens, choices, tools, …
    asked = ModelAsked(
        "anthropic",
        operation,
        told.stream is True or known.streams,
        False,
        known.provider,
        told.model[:MOST_TEXT] if told.model else known.model,
        int(most) if most is not None and 0 < most < _MOST_TOKENS else 0,
        1,
        tools,
        "",
        previous,
        _parameters(told),
        "json" if _has_schema(told) else "",
        "fast" if told.speed == "fast" else tier[:MOST_TEXT] if tier else "",
        _unbounded(told, body, at_server, bool(previous)),
    )
    return weighed(asked, body, messages=told.messages, system=told.system, tools=told.tools)


def _offered(raw: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the tools, and in a word what makes their cost unbounded."""
    is_short = len(raw) <= _MOST_KEPT_BYTES
    found = _kept.get(raw) if is_short else None
    if found is not None:
        return found
    tools = _TOOLS.read(raw)
    if tools is None:
        return (), ("unread",)
    names = tuple((tool.name or tool.type or "")[:MOST_TEXT] for tool in tools[:MOST_TOOLS])
    found = names, ("server_tools",) if any(_runs_at_the_server(tool) for tool in tools) else ()
    if is_short:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[raw] = found
    return found


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """
    Lower `max_tokens`; the usage is always told, so that asking for it changes nothing.

    Raises `Unreadable` where the request would become an invalid one: thinking's budget has to stay below `max_tokens`.
    """
    if isinstance(change, IncludeUsage):
        return body
    if not isinstance(change, Clamp):
        raise Unreadable("a message has no place for it")
    limit = change.max_tokens
    if isinstance(asked, ModelAsked) and 0 < asked.max_tokens < limit:
        return body
    bulk = bulk_in(asked)
    there = places(body, ("max_tokens", "thinking"), bulk)
    told = _BOUND.decode(b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), body[slice(*at)]) for name, at in there.items()))
    if _is_told(told.max_tokens):
        asked_for = _number(told.max_tokens)
        if asked_for <= limit:
            return body
    if limit < 1:
        raise Unreadable("max_tokens has to be 1 at least")
    if told.thinking and told.thinking.type == "enabled" and limit <= (told.thinking.budget_tokens or 0):
        raise Unreadable("max_tokens has to be above thinking.budget_tokens")
    if "max_tokens" in there:
        return swap(body, there["max_tokens"], b"%d" % limit)
    return append(body, "max_tokens", b"%d" % limit) or put(body, ("max_tokens",), b"%d" % limit, bulk)


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """No change has a consequence in the response."""
    return None


def _is_told(raw: msgspec.Raw) -> bool:
    size = memoryview(raw).nbytes
    return size > 0 and not (size == 4 and bytes(raw) == b"null")


def _has_schema(told: _Request) -> bool:
    if told.output_config is None and told.output_format is _ABSENT:
        return False
    return _is_told(told.output_format) or (told.output_config is not None and _is_told(told.output_config.format))


def _number(raw: msgspec.Raw) -> float:
    try:
        return msgspec.json.decode(raw, type=float)
    except ValueError as error:
        raise Unreadable("max_tokens is no number") from error


def _parameters(told: _Request) -> tuple[tuple[str, Parameter], ...]:
    found: list[tuple[str, Parameter]] = []
    if told.temperature is not None:
        found.append(("temperature", told.temperature))
    if told.top_p is not None:
        found.append(("top_p", told.top_p))
    if told.top_k is not None:
        found.append(("top_k", told.top_k))
    if told.stop_sequences is not _ABSENT:
        stops = _STOPS.read(bytes(told.stop_sequences))
        if stops:
            found.append(("stop_sequences", tuple(stop[:MOST_TEXT] for stop in stops[:_MOST_STOPS])))
    if told.output_config and told.output_config.effort:
        found.append(("reasoning.level", told.output_config.effort[:MOST_TEXT]))
    return tuple(found)


def _unbounded(told: _Request, body: bytes, of_tools: tuple[str, ...], is_stored: bool) -> tuple[str, ...]:
    """What the cost depends on that nobody can see here: work of the server's tools, and content behind ids and URLs."""
    looked_at = body if len(body) <= MOST_BYTES else outline(body)
    sources: tuple[str, ...] = ("unread",)
    if looked_at is not None:
        # Seldom there, and looked for in a tenth of the time that reading all messages takes.
        has_any = b'"source"' in looked_at or b'"container_upload"' in looked_at
        sources = () if not has_any else _sources(body) if looked_at is body else _sources_by_look(looked_at)
    if not (sources or of_tools or is_stored or told.mcp_servers is not _ABSENT or told.container is not _ABSENT):
        return ()
    found = {*sources, *of_tools}
    if bytes(told.mcp_servers).strip(b"[] \t\r\n") not in (b"", b"null") or _is_told(told.container):
        found.add("server_tools")
    if is_stored:
        found.add("stored_conversation")
    return tuple(sorted(found))


def _sources(body: bytes) -> tuple[str, ...]:
    found: set[str] = set()
    left = _MOST_RESULTS
    for message in _SAID.decode(body).messages or ():
        for block in message.content if isinstance(message.content, list) else ():
            _find_source(block, found)
            if block.type == "tool_result" and left:
                left -= 1
                for inner in _blocks(block.content):
                    _find_source(inner, found)
    return tuple(found)


def _sources_by_look(looked_at: bytes) -> tuple[str, ...]:
    """The same of a long body, which is not read a second time: what looks like it is taken for it."""
    return tuple(name for name, look in _LOOKS if look.search(looked_at))


def _runs_at_the_server(tool: _Tool) -> bool:
    kind = tool.type or ""
    return not (kind in _OURS or kind.startswith(_OURS[2:]))


def _find_source(block: _Block, found: set[str]) -> None:
    kind = block.source.type if isinstance(block.source, _Source) else ""
    if kind == "file" or block.type == "container_upload":
        found.add("files")
    elif kind == "url":
        found.add("urls")


def _blocks(content: msgspec.Raw) -> list[_Block]:
    """What a tool's result holds, where that is more than text."""
    try:
        return _BLOCKS(content) if bytes(memoryview(content)[:1]) == b"[" else []
    except (ValueError, RecursionError):
        return []

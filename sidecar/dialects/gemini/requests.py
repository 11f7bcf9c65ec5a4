"""
What a request to the Gemini API asks for, and how its bound on the output is lowered.

Google reads JSON as protocol buffers do: every member may be written in camelCase and in snake_case, and numbers as text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import msgspec

from sidecar.dialects.bulk import Bulk, bulk_in, weighed
from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Unreadable
from sidecar.dialects.glance import MOST_BYTES, outline
from sidecar.dialects.lenient import MOST_ITEMS, MOST_SECOND_TRY_BYTES, Lenient
from sidecar.dialects.splice import append, places, put
from sidecar.model.asked import Asked, ModelAsked, Parameter

MOST_TOOLS = 128
MOST_TEXT = 256
"""Characters of a name or a stop sequence that are kept."""

_MOST_STOPS = 16
_MOST_TOKENS = 10**12  # more than this nobody means
_BROKEN = (ValueError, RecursionError)
_PATH = re.compile(r"/(?:models|tunedModels|endpoints)/([^/:]+):([A-Za-z]+)$")
_OPERATIONS = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
}
_ADDRESS = re.compile(rb'"file_?[uU]ri"[ \t\r\n]*:[ \t\r\n]*"([^"]{0,256})')
_MOST_FILES = 1024
_OURS = frozenset({"functionDeclarations", "computerUse"})  # tools that the client itself runs
_NUMBERS = (
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("topK", "top_k"),
    ("seed", "seed"),
    ("frequencyPenalty", "frequency_penalty"),
    ("presencePenalty", "presence_penalty"),
)
_MODALITIES = {"IMAGE": "image", "AUDIO": "speech"}
_MEDIA_TYPES = {"application/json": "json", "text/plain": "text"}

_MOST_COMMAS = 250_000  # of tools, each of which may end an item
_MOST_INNER_BYTES = 1 << 20  # of a config or a tool; what is larger is not looked into

_Members = dict[str, msgspec.Raw]
_NOTHING = msgspec.Raw(b"")

_MEMBERS = msgspec.json.Decoder(_Members).decode
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NUMBER = msgspec.json.Decoder(int | float, strict=False).decode
_WORDS = msgspec.json.Decoder(str).decode
_LIST_OF_WORDS = msgspec.json.Decoder(list[str]).decode


class _File(msgspec.Struct, gc=False):
    camel: str | None = msgspec.field(default=None, name="fileUri")
    snake: str | None = msgspec.field(default=None, name="file_uri")


class _Part(msgspec.Struct, gc=False):
    camel: _File | None = msgspec.field(default=None, name="fileData")
    snake: _File | None = msgspec.field(default=None, name="file_data")


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Configured(msgspec.Struct, gc=False):
    generation_config: msgspec.Raw = msgspec.field(default=_NOTHING, name="generationConfig")
    snake_config: msgspec.Raw = msgspec.field(default=_NOTHING, name="generation_config")

    def config(self) -> tuple[str, msgspec.Raw]:
        """The config's name as this request spells it, and the config."""
        is_snake = self.snake_config is not _NOTHING and not _is_told(self.generation_config) and _is_told(self.snake_config)
        return ("generation_config", self.snake_config) if is_snake else ("generationConfig", self.generation_config)


class _Request(_Configured, gc=False):
    cached_content: msgspec.Raw = msgspec.field(default=_NOTHING, name="cachedContent")
    snake_cached: msgspec.Raw = msgspec.field(default=_NOTHING, name="cached_content")
    service_tier: msgspec.Raw = msgspec.field(default=_NOTHING, name="serviceTier")
    snake_tier: msgspec.Raw = msgspec.field(default=_NOTHING, name="service_tier")
    tools: msgspec.Raw = _NOTHING
    contents: msgspec.Raw = _NOTHING
    requests: msgspec.Raw = _NOTHING
    instructions: msgspec.Raw = msgspec.field(default=_NOTHING, name="systemInstruction")


class _Said(msgspec.Struct, gc=False):
    contents: list[_Content] | None = None


_SAID = Lenient(_Said)
_CONFIGURED = Lenient(_Configured)
_REQUEST = Lenient(_Request)


def operation(heading: Heading) -> str:
    """`generate_content` or `embeddings`, "" for all else (counting tokens, files, caches, prediction)."""
    found = _PATH.search(heading.path) if heading.method == "POST" else None
    return _OPERATIONS.get(found[2], "") if found else ""


def request(operation: str, heading: Heading, body: bytes) -> ModelAsked:
    """Read a request; raises `Unreadable` where the body is no JSON object."""
    told = _REQUEST.skim(body)
    known = heading.memo
    if type(known) is not _Known:
        known = _known(heading)
    config = told.config()[1]
    most, choices, parameters, output_type = _configured(config) if config is not _NOTHING else _NO_CONFIG
    tools, unbounded = _offered(told.tools) if told.tools is not _NOTHING else _NO_TOOLS
    for where in _files(body):
        unbounded |= {where}
    tier = ""
    has_cached = told.cached_content is not _NOTHING or told.snake_cached is not _NOTHING
    if has_cached and (_text(told.cached_content) or _text(told.snake_cached)):
        unbounded |= {"cached_content"}
    if told.service_tier is not _NOTHING or told.snake_tier is not _NOTHING:
        tier = (_text(told.service_tier) or _text(told.snake_tier)).lower()
    # By position, as that costs a third: dialect, operation, streams, is_standing, provider, model, max_tokens, choices, tools, …
    asked = ModelAsked(
        "gemini",
        operation,
        known.streams,
        False,
        known.provider,
        known.model,
        most,
        choices,
        tools,
        "",
        "",
        parameters,
        output_type,
        tier,
        tuple(sorted(unbounded)) if unbounded else (),
    )
    bulk = {"contents": told.contents, "requests": told.requests, "systemInstruction": told.instructions, "tools": told.tools}
    return weighed(asked, body, **bulk)


@dataclass(slots=True)
class _Known:
    """What a head says: the same for all requests that begin with it."""

    provider: str
    model: str
    streams: bool


def _known(heading: Heading) -> _Known:
    found = _PATH.search(heading.path)
    provider = heading.provider or _provider(heading)
    known = _Known(provider, found[1][:MOST_TEXT] if found else "", heading.path.endswith(":streamGenerateContent"))
    heading.memo = known
    return known


_Config = tuple[int, int, tuple[tuple[str, Parameter], ...], str]
_Offered = tuple[tuple[str, ...], frozenset[str]]
_NO_CONFIG: _Config = (0, 1, (), "")
_NO_TOOLS: _Offered = ((), frozenset())
_MOST_KEPT_BYTES = 2048
_MOST_KEPT = 256
_kept_configs: dict[bytes, _Config] = {}
_kept_tools: dict[bytes, _Offered] = {}
"""Short ones that were read already: an agent sends the same with each of its calls."""


def _configured(raw: msgspec.Raw) -> _Config:
    """The bound on the output, how many answers are wanted, the parameters and the output's type."""
    data = bytes(raw) if memoryview(raw).nbytes <= _MOST_KEPT_BYTES else b""
    found = _kept_configs.get(data) if data else None
    if found is None:
        config = _members(raw)
        choices = _count(config.get("candidateCount", _NOTHING)) or 1
        found = _count(config.get("maxOutputTokens", _NOTHING)), choices, _parameters(config), _output_type(config)
        if data:
            if len(_kept_configs) >= _MOST_KEPT:
                _kept_configs.clear()
            _kept_configs[data] = found
    return found


def _offered(raw: msgspec.Raw) -> _Offered:
    """The functions' names, and in a word what makes the tools' cost unbounded."""
    data = bytes(raw) if memoryview(raw).nbytes <= _MOST_KEPT_BYTES else b""
    found = _kept_tools.get(data) if data else None
    if found is None:
        names, unbounded = _tools(raw)
        found = names, frozenset(unbounded)
        if data:
            if len(_kept_tools) >= _MOST_KEPT:
                _kept_tools.clear()
            _kept_tools[data] = found
    return found


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """
    Lower `generationConfig.maxOutputTokens`, in the spelling that the body has; the usage is always told.

    Raises `Unreadable` for embeddings, which have no such bound.
    """
    if isinstance(change, IncludeUsage):
        return body
    if not isinstance(change, Clamp) or asked.operation != "generate_content":
        raise Unreadable("the request has no place for it")
    if change.max_tokens < 1:
        raise Unreadable("maxOutputTokens has to be 1 at least")
    bulk = bulk_in(asked)
    outer, raw = _config_of(body, bulk)
    if not memoryview(raw).nbytes:
        longer = append(body, outer, b'{"maxOutputTokens":%d}' % change.max_tokens)
        if longer is not None:
            return longer
    config = _spelled(raw) if _is_told(raw) else {}
    keys = [key for key in config if _camel(key) == "maxOutputTokens"]
    for key in keys or ["maxOutputTokens"]:
        asked_for = _number(config.get(key, _NOTHING))
        if asked_for is None or asked_for > change.max_tokens or asked_for < 1:
            body = put(body, (outer, key), b"%d" % change.max_tokens, bulk)
    return body


def _config_of(body: bytes, bulk: Bulk) -> tuple[str, msgspec.Raw]:
    """The config's name as this body spells it, and the config; of a long body without another pass over all of it."""
    if bulk:
        there = places(body, ("generationConfig", "generation_config"), bulk)
        body = b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), body[slice(*at)]) for name, at in there.items())
    elif len(body) > MOST_SECOND_TRY_BYTES:
        raise Unreadable("too much to be looked through")
    return _CONFIGURED.decode(body).config()


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """No change has a consequence in the response."""
    return None


def _provider(heading: Heading) -> str:
    is_vertex = heading.host.partition(":")[0].endswith("aiplatform.googleapis.com") or "/publishers/" in heading.path
    return "gcp.vertex_ai" if is_vertex else "gcp.gemini"


def _is_told(raw: msgspec.Raw) -> bool:
    size = memoryview(raw).nbytes
    return size > 0 and not (size == 4 and bytes(raw) == b"null")


def _is_list(raw: msgspec.Raw) -> bool:
    """By its first byte: a long text would be decoded before the decoder said that it is none."""
    return bool(raw) and memoryview(raw)[0] == 0x5B


def _spelled(raw: msgspec.Raw) -> _Members:
    if memoryview(raw).nbytes > _MOST_INNER_BYTES:
        raise Unreadable("too large to be looked into")
    try:
        return _MEMBERS(raw)
    except _BROKEN as error:
        raise Unreadable("no JSON object") from error


def _members(raw: msgspec.Raw) -> _Members:
    """An object's members by their camelCase names; none where it is no object."""
    try:
        return {_camel(key): value for key, value in _spelled(raw).items()} if _is_told(raw) else {}
    except Unreadable:
        return {}


def _camel(key: str) -> str:
    if "_" not in key:
        return key
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _items(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _ITEMS(raw) if _is_list(raw) else []
    except _BROKEN:
        return []


def _text(raw: msgspec.Raw) -> str:
    try:
        return _WORDS(raw)[:MOST_TEXT] if _is_told(raw) and memoryview(raw).nbytes <= MOST_BYTES else ""
    except _BROKEN:
        return ""


def _texts(raw: msgspec.Raw, most: int) -> tuple[str, ...]:
    try:
        return tuple(text[:MOST_TEXT] for text in _LIST_OF_WORDS(raw)[:most]) if _is_list(raw) else ()
    except _BROKEN:
        return ()


def _number(raw: msgspec.Raw) -> float | None:
    try:
        value = _NUMBER(raw) if _is_told(raw) else None
    except _BROKEN:
        return None
    return value if value is not None and -_MOST_TOKENS < value < _MOST_TOKENS else None


def _count(raw: msgspec.Raw) -> int:
    value = _number(raw)
    return int(value) if value is not None and value > 0 else 0


def _parameters(config: _Members) -> tuple[tuple[str, Parameter], ...]:
    found: list[tuple[str, Parameter]] = []
    for name, called in _NUMBERS:
        value = _number(config.get(name, _NOTHING))
        if value is not None:
            found.append((called, value))
    stops = _texts(config.get("stopSequences", _NOTHING), _MOST_STOPS)
    if stops:
        found.append(("stop_sequences", stops))
    level = _text(_members(config.get("thinkingConfig", _NOTHING)).get("thinkingLevel", _NOTHING))
    if level:
        found.append(("reasoning.level", level.lower()))
    return tuple(found)


def _output_type(config: _Members) -> str:
    for modality in _texts(config.get("responseModalities", _NOTHING), 8):
        if modality.upper() in _MODALITIES:
            return _MODALITIES[modality.upper()]
    return _MEDIA_TYPES.get(_text(config.get("responseMimeType", _NOTHING)), "")


def _tools(told: msgspec.Raw) -> tuple[tuple[str, ...], set[str]]:
    """The functions' names, and `server_tools` where the provider runs tools of its own."""
    names: list[str] = []
    unbounded = set()
    if memoryview(told).nbytes > MOST_BYTES and _is_too_much(bytes(told)):
        return (), {"unread"}
    for raw in _items(told)[:MOST_TOOLS]:
        tool = _members(raw)
        if tool.keys() - _OURS:
            unbounded.add("server_tools")
        declarations = _items(tool.get("functionDeclarations", _NOTHING))[: MOST_TOOLS - len(names)]
        names += [_text(_members(declaration).get("name", _NOTHING)) for declaration in declarations]
    return tuple(name for name in names if name), unbounded


def _is_too_much(tools: bytes) -> bool:
    return tools.count(b"{") > MOST_ITEMS or tools.count(b",") > _MOST_COMMAS


def _files(body: bytes) -> Iterable[str]:
    """
    Whether content stands behind an address: `files` in Google's own stores, `urls` elsewhere.

    Seldom there, it is looked for in a tenth of the time that reading all contents takes. What looks like it in a long body is
    taken for it.
    """
    looked_at = body if len(body) <= MOST_BYTES else outline(body)
    if looked_at is None:
        return ("unread",)
    if b'"fileUri"' not in looked_at and b'"file_uri"' not in looked_at:
        return ()
    if looked_at is not body:
        return [_store(found[1].decode("utf-8", "replace")) for found in islice(_ADDRESS.finditer(looked_at), _MOST_FILES)]
    parts = (part for content in _SAID.decode(body).contents or () for part in content.parts or ())
    files = (part.camel or part.snake for part in parts)
    return [_store(file.camel or file.snake or "") for file in files if file is not None]


def _store(address: str) -> str:
    is_theirs = not address.startswith("http") or "://generativelanguage.googleapis.com/" in address
    return "files" if is_theirs else "urls"

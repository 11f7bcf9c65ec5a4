"""What a request asks for: chat, completions, responses and embeddings in one typed decode."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

import msgspec
from msgspec import UNSET

from sidecar.dialects import providers
from sidecar.dialects.bulk import LONG_BYTES, Bulk, bulk_of
from sidecar.dialects.dialect import Heading
from sidecar.dialects.glance import MOST_BYTES, outline
from sidecar.dialects.lenient import MOST_COUNT, Lenient, Lists, count
from sidecar.dialects.openai.familiar import Familiar
from sidecar.model.asked import ModelAsked, Parameter

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
_OPERATIONS = {CHAT: "chat", COMPLETIONS: "text_completion", RESPONSES: "chat", EMBEDDINGS: "embeddings"}

ALWAYS_TELL = frozenset({"mistral_ai", "groq", "perplexity", "openrouter"})
"""Whose streams tell their usage without being asked; Mistral refuses to be asked."""

_CLIENT_TOOLS = frozenset({"function", "custom", "namespace", "local_shell", "apply_patch", "tool_search"})
_MOST_TOOLS = 512
_MOST_STOPS = 16
_LONGEST = 256
_LARGEST = 2.0**63
_URL = re.compile(rb'"(?:url|image_url)"[ \t\r\n]*:[ \t\r\n]*"[hH][tT][tT][pP]')
_FILE = re.compile(rb'"(?:file_id|file_url)"[ \t\r\n]*:[ \t\r\n]*"')
_SEVERAL = re.compile(rb'\[[ \t\r\n]*["\[]')
_ABSENT = msgspec.Raw()
_VERSION = re.compile(r"(?:^|&)api-version=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_OPTIONS_SINCE = "2024-09-01"
"""Versions of Azure's API before that answer 400 to `stream_options`."""


@dataclass(slots=True)
class OpenAiAsked(ModelAsked):
    """
    `endpoint` is how the path ends, as four endpoints share two formats and three operations.

    `bounds` are the members of the body that bound the output, None where nobody can be sure; `lacks_options`: it is known to
    have no `stream_options`; `takes_options`: the endpoint knows these. `bulk` is what makes a long body long.
    """

    endpoint: str = CHAT
    bounds: tuple[str, ...] | None = field(default=None, compare=False)
    lacks_options: bool = field(default=False, compare=False)
    takes_options: bool = field(default=True, compare=False)
    bulk: Bulk = field(default=(), compare=False, repr=False)


@dataclass(slots=True)
class _Known:
    """What a head says: the same for all requests that begin with it."""

    endpoint: str
    provider: str
    deployment: str
    always_tells: bool
    searches: tuple[str, ...]
    takes_options: bool
    familiar: Familiar[OpenAiAsked] | None = field(default=None, compare=False)


class _Function(msgspec.Struct, gc=False):
    name: str | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None
    name: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Format(msgspec.Struct, gc=False):
    type: str | None = None


class _Text(msgspec.Struct, gc=False):
    format: _Format | None = None


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None


class _Named(msgspec.Struct, gc=False):
    id: str | None = None


class _Request(msgspec.Struct, gc=False):
    """What may be a long list stays raw until its length is known."""

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | msgspec.UnsetType | None = UNSET
    max_tokens: float | msgspec.UnsetType | None = UNSET
    max_completion_tokens: float | msgspec.UnsetType | None = UNSET
    max_output_tokens: float | msgspec.UnsetType | None = UNSET
    n: float | None = None
    best_of: float | None = None
    prompt: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    plugins: msgspec.Raw = _ABSENT
    web_search_options: msgspec.Raw = _ABSENT
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | float | None = None
    random_seed: int | float | None = None
    stop: msgspec.Raw = _ABSENT
    encoding_format: str | None = None
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    response_format: _Format | None = None
    text: _Text | None = None
    modalities: msgspec.Raw = _ABSENT
    previous_response_id: str | None = None
    conversation: str | _Named | None = None
    service_tier: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[msgspec.Raw] | None = None


class _ShortChat(_Request, gc=False):
    """Of a short body it is cheaper to read the messages than to look through it for what only parts of them can hold."""

    messages: list[_Message] | None = None


class _LongRequest(_Request, gc=False):
    """Of a long body it is worth while to know what makes it so."""

    messages: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT


_REQUEST = Lenient(_Request)
_LONG_REQUEST = Lenient(_LongRequest)
_SHORT_CHAT = Lenient(_ShortChat)
_TOOLS = Lists(_Tool)
_FUNCTIONS = Lists(_Function)
_TEXTS = Lists(str)

_Offered = tuple[tuple[str, ...], tuple[str, ...]]
_NO_TOOLS: _Offered = ((), ())
_MOST_KEPT_BYTES = 2048
_MOST_KEPT = 256
_MOST_FAMILIAR = 128
_familiar: dict[tuple[str, str, bool], Familiar[OpenAiAsked]] = {}
"""By all that a head says which chat requests depend on; of more kinds of heads the oldest goes."""

_kept: dict[bytes, _Offered] = {}
"""Short lists of tools that were read already: an agent offers the same ones with each of its calls."""


def endpoint(heading: Heading) -> str:
    """Return the endpoint by the path's ending, "" for none of ours; nothing but a POST asks a model."""
    if heading.method != "POST" or heading.path.endswith("/api/embeddings"):  # that one is Ollama's own
        return ""
    path = heading.path.rstrip("/")
    return next((each for each in _OPERATIONS if path.endswith("/" + each)), "")


def operation(heading: Heading) -> str:
    """Return the conventions' name of what is asked for, "" where it is nothing of ours."""
    return _OPERATIONS.get(endpoint(heading), "")


def _known(heading: Heading) -> _Known:
    provider = heading.provider or providers.provider(heading.host)
    searches = ("server_tools",) if provider == "perplexity" else ()
    deployment = _deployment(heading.path)[:_LONGEST]
    version = _VERSION.search(heading.query)
    takes_options = version is None or version[1] >= _OPTIONS_SINCE
    known = _Known(endpoint(heading), provider, deployment, provider in ALWAYS_TELL, searches, takes_options)
    if known.endpoint == CHAT:
        key = (known.provider, known.deployment, known.takes_options)
        known.familiar = _familiar.get(key)
        if known.familiar is None:
            if len(_familiar) >= _MOST_FAMILIAR:
                del _familiar[next(iter(_familiar))]
            known.familiar = _familiar[key] = Familiar()
    heading.memo = known
    return known


def _deployment(path: str) -> str:
    """Azure names the model in the path: /openai/deployments/D/chat/completions."""
    return unquote(path.partition("/deployments/")[2].partition("/")[0])


def request(operation: str, heading: Heading, body: bytes) -> OpenAiAsked:
    """Read a request, if it is not the same as an earlier one but for its messages; raises `Unreadable`."""
    known = heading.memo
    if type(known) is not _Known:
        known = _known(heading)
    familiar = known.familiar
    around = familiar.around(body) if familiar is not None else None
    if familiar is None or around is None:
        return _read(operation, known, body)
    asked = familiar.find(around)
    if asked is None:
        asked = _read(operation, known, body)
        if asked.bounds is not None:
            familiar.keep(around, asked)
    return asked


def _read(operation: str, known: _Known, body: bytes) -> OpenAiAsked:
    where = known.endpoint
    bulk: Bulk = ()
    told: _Request
    if len(body) > LONG_BYTES:
        long, is_sure = _LONG_REQUEST.try_to(body)
        told, bulk = long, bulk_of(body, messages=long.messages, input=long.input, prompt=long.prompt, tools=long.tools)
    else:
        told, is_sure = _SHORT_CHAT.try_to(body) if where == CHAT else _REQUEST.try_to(body)
    streams = told.stream is True and where != EMBEDDINGS
    model, tier = told.model, told.service_tier
    tools, unbounded = _NO_TOOLS if told.tools is _ABSENT and told.functions is _ABSENT else _offered(told)
    previous = conversation = ""
    if where == RESPONSES:
        most = told.max_output_tokens
        bounds = ("max_output_tokens",) if most is not UNSET else ()
        previous, conversation = (told.previous_response_id or "")[:_LONGEST], _conversation(told)
    else:
        most = told.max_completion_tokens
        bounds = ("max_completion_tokens",) if most is not UNSET else ()
        if told.max_tokens is not UNSET:
            bounds = (*bounds, "max_tokens")
        if most is UNSET or most is None or not 0 < most <= MOST_COUNT:
            most = told.max_tokens
    if most is UNSET or most is None or not 0 < most <= MOST_COUNT:
        most = 0
    choices = 1
    if told.n is not None or told.best_of is not None or where == COMPLETIONS:
        choices = _choices(told, where)
    # By position, as that costs a third: streams, is_standing, provider, model, max_tokens, choices, tools, …
    return OpenAiAsked(
        "openai",
        operation,
        streams,
        False,
        known.provider,
        (model[:_LONGEST] if model else known.deployment),
        int(most),
        choices,
        tools,
        conversation,
        previous,
        _parameters(told, where),
        _output_type(told) if told.response_format or told.text or told.modalities is not _ABSENT else "",
        tier[:_LONGEST] if tier else "",
        _unbounded(told, known, body, unbounded, bool(previous or conversation), is_sure),
        not streams or known.always_tells or where == RESPONSES or _includes_usage(told),
        where,
        bounds if is_sure else None,
        is_sure and told.stream_options is UNSET,
        known.takes_options,
        bulk,
    )


def _includes_usage(told: _Request) -> bool:
    options = told.stream_options
    return isinstance(options, _StreamOptions) and options.include_usage is True


def _choices(told: _Request, where: str) -> int:
    choices = max(count(told.n), count(told.best_of), 1)
    prompt = bytes(told.prompt) if where == COMPLETIONS and memoryview(told.prompt).nbytes <= MOST_BYTES else b""
    if _SEVERAL.match(prompt):  # each one of several prompts is answered
        choices *= max(len(msgspec.json.decode(prompt, type=list[msgspec.Raw])), 1)
    return choices


def _offered(told: _Request) -> _Offered:
    """The names of the tools, and whether some of them run at the server."""
    raw = bytes(told.tools)
    if told.functions is not _ABSENT:
        tools, unbounded = _read_tools(raw)
        functions = _FUNCTIONS.read(bytes(told.functions)) or ()
        names = tuple(function.name[:_LONGEST] for function in functions[:_MOST_TOOLS] if function.name)
        return tools + names, unbounded
    if len(raw) > _MOST_KEPT_BYTES:  # to look for it would take as long as to read it
        return _read_tools(raw)
    found = _kept.get(raw)
    if found is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        found = _kept[raw] = _read_tools(raw)
    return found


def _read_tools(raw: bytes) -> _Offered:
    tools = _TOOLS.read(raw)
    if tools is None:
        return (), ("unread",)
    names = [_tool_name(tool) for tool in tools[:_MOST_TOOLS]]
    at_server = any(tool.type is not None and tool.type not in _CLIENT_TOOLS for tool in tools)
    return tuple(name[:_LONGEST] for name in names if name), ("server_tools",) if at_server else ()


def _tool_name(tool: _Tool) -> str:
    inner = tool.function or tool.custom
    return (inner.name if inner is not None else tool.name) or tool.type or ""


def _conversation(told: _Request) -> str:
    conversation = told.conversation
    return ((conversation.id if isinstance(conversation, _Named) else conversation) or "")[:_LONGEST]


def _parameters(told: _Request, where: str) -> tuple[tuple[str, Parameter], ...]:
    found: list[tuple[str, Parameter]] = []
    if told.temperature is not None:
        found.append(("temperature", told.temperature))
    if told.top_p is not None:
        found.append(("top_p", told.top_p))
    if told.frequency_penalty is not None:
        found.append(("frequency_penalty", told.frequency_penalty))
    if told.presence_penalty is not None:
        found.append(("presence_penalty", told.presence_penalty))
    if told.top_k is not None and -_LARGEST < told.top_k < _LARGEST:
        found.append(("top_k", int(told.top_k)))
    seed = told.seed if told.seed is not None else told.random_seed
    if seed is not None and -_LARGEST < seed < _LARGEST:
        found.append(("seed", int(seed)))
    if told.stop is not _ABSENT:
        stops = _texts(told.stop)
        if stops:
            found.append(("stop_sequences", tuple(stop[:_LONGEST] for stop in stops[:_MOST_STOPS])))
    if told.encoding_format and where == EMBEDDINGS:
        found.append(("encoding_formats", (told.encoding_format[:_LONGEST],)))
    effort = told.reasoning_effort or (told.reasoning.effort if told.reasoning else None)
    if effort:
        found.append(("reasoning.level", effort[:_LONGEST]))
    return tuple(found)


def _texts(raw: msgspec.Raw) -> list[str]:
    """A text, or a list of texts; none where they are more than anybody means."""
    data = bytes(raw)
    return _TEXTS.read(b"[" + data + b"]" if data[:1] == b'"' else data) or []


def _output_type(told: _Request) -> str:
    if told.modalities is not _ABSENT and "audio" in _texts(told.modalities):
        return "speech"
    form = told.response_format or (told.text.format if told.text else None)
    kind = (form.type or "") if form else ""
    return "json" if kind.startswith("json") else "text" if kind == "text" else ""


def _unbounded(
    told: _Request, known: _Known, body: bytes, of_tools: tuple[str, ...], is_stored: bool, is_sure: bool
) -> tuple[str, ...]:
    where = known.endpoint
    found: tuple[str, ...] = ()
    if where in (CHAT, RESPONSES):
        looked_at = b"" if is_sure and _is_plain(told) else body if len(body) <= MOST_BYTES else outline(body)
        if looked_at is None:
            found = ("unread",)
        # A quote within a text is escaped, so these can only be members. Finding is ten times faster than looking for a pattern.
        else:
            if b'"file_' in looked_at and _FILE.search(looked_at):
                found = ("files",)
            if b'"image_url"' in looked_at and _URL.search(looked_at):
                found += ("urls",)
        if known.searches or told.plugins is not _ABSENT or told.web_search_options is not _ABSENT:
            of_tools = of_tools or known.searches or _searching(told)
        if of_tools and of_tools != found:
            found += of_tools
        if told.prompt is not _ABSENT and where == RESPONSES and _begins(told.prompt) == 0x7B:
            found += ("stored_prompt",)
    elif told.prompt is not _ABSENT and where == COMPLETIONS and memoryview(told.prompt).nbytes > MOST_BYTES:
        found = ("unread",) if _SEVERAL.match(memoryview(told.prompt)) else ()  # nobody has counted them
    return (*found, "stored_conversation") if is_stored else found


def _is_plain(told: _Request) -> bool:
    """Whether the messages are known, and are all nothing but texts."""
    if type(told) is not _ShortChat or told.messages is None:
        return False
    for message in told.messages:  # noqa: SIM110 - a generator costs more than all the rest of it
        if type(message.content) is list:
            return False
    return True


def _searching(told: _Request) -> tuple[str, ...]:
    """What OpenRouter's plugins and OpenAI's search models do at the server."""
    has_plugins = told.plugins is not _ABSENT and _begins(told.plugins) == 0x5B and bytes(told.plugins).strip(b"[] \t\r\n")
    has_options = told.web_search_options is not _ABSENT and _begins(told.web_search_options) == 0x7B
    return ("server_tools",) if has_plugins or has_options else ()


def _begins(raw: msgspec.Raw) -> int:
    return memoryview(raw)[0]

"""
The same application three ways: straight to the provider, through the sidecar as a gateway, and with HTTP_PROXY set.

    ways = await set_up(opened, monkeypatch, authority, Groq())
    await ways.compare(Scene("ok", asks, (ok,), model="m", …))

What the application has seen, and what the provider was asked, has to be the same; what the sidecar has read has to be true.
"""

import asyncio
import inspect
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Pricing
from sidecar.model.facts import AttemptFinished, Mode
from tests.peers.providers.answer import AnswerTo
from tests.peers.providers.upstream import ProviderUpstream
from tests.peers.wire import Message
from tests.sidecar_under_test import SidecarUnderTest, config_for, eventually

Heard = Callable[[Any], None]
Application = Callable[[str, Heard], Any]
"""
What a person wrote with an SDK: gets the base URL, and a function to call with each thing that it hears in a stream.

A coroutine function runs in the test's loop, any other in a thread.
"""

SETTINGS = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE",
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL",
    "GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI", "MISTRAL_API_KEY", "CO_API_KEY",
    "CO_API_URL", "OLLAMA_HOST", "OLLAMA_API_KEY", "GROQ_API_KEY", "GROQ_BASE_URL", "AWS_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS",
)  # fmt: skip
"""Nothing that is set outside may lead an SDK elsewhere."""

OF_THE_WAY = {b"connection", b"keep-alive", b"proxy-connection", b"via", b"traceparent", b"tracestate"}
"""Fields of a hop, or of the trace: theirs may differ."""

OF_THE_MOMENT = {b"authorization", b"x-amz-date", b"amz-sdk-invocation-id"}
"""Fields with a new value each time: that they are there is compared. An authorization without signature is always the same."""

ERROR_MEMBERS = (
    "status_code", "code", "status", "type", "param", "body", "request_id", "message", "details", "response", "headers",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """
    What the application does, what it gets, and what the sidecar has to have understood.

    `raises` is the class of its error, by its last name; "" for none. `raises_behind` is the class behind the sidecar in the one
    case where it is another, because a reset is no message that could be passed on. `requests` is how many the provider gets.
    The rest is of the last of them: `usage` by the members that are not 0, None where none was told. `adds_usage`: the sidecar
    asked for the usage. `pricing` is how well the cost is known; None: exactly, where a usage was told.
    """

    name: str
    application: Application
    answers: tuple[AnswerTo, ...]
    model: str
    usage: dict[str, int] | None = None
    finish: tuple[str, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    error_type: str = ""
    answer_model: str | None = None
    raises: str = ""
    raises_behind: str = ""
    requests: int = 1
    operation: str = "chat"
    streams: bool = False
    is_ended: bool = True
    adds_usage: bool = False
    pricing: Pricing | None = None
    patches: tuple[tuple[str, Any], ...] = ()
    """What stands in for a name while the scene lasts, as in `("time.sleep", at_once)`."""


@dataclass
class Way:
    """What one way came to."""

    heard: list[Any] = field(default_factory=list)
    returned: Any = None
    raised: Any = None
    requests: list[Message] = field(default_factory=list)


class Ways:
    """One provider and one sidecar before it."""

    def __init__(self, upstream: ProviderUpstream, sidecar: SidecarUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.upstream = upstream
        self.sidecar = sidecar
        self._monkeypatch = monkeypatch
        self._calls: dict[bytes, list[tuple[str, bytes]]] = {}
        sidecar.runtime.bus.listen([AttemptFinished], self._keep_calls)

    def _keep_calls(self, attempt: AttemptFinished) -> None:
        """What tools are to be called with is forgotten once all who listen have heard it."""
        answered = attempt.dialogue.answered if attempt.dialogue is not None else None
        if isinstance(answered, ModelAnswered):
            self._calls[attempt.span_id] = [(call.name, call.arguments) for call in answered.tool_calls]

    async def compare(self, scene: Scene) -> None:
        """Let the scene happen three times, and hold everything against everything."""
        with self._monkeypatch.context() as patch:
            for name, value in scene.patches:
                patch.setattr(name, value)
            direct = await self._go(scene, self.upstream.url)
            gateway = await self._go(scene, f"{self.sidecar.url}/llm")
            read_gateway = await self._read(scene)
            patch.setenv("HTTP_PROXY", self.sidecar.url)
            forward = await self._go(scene, self.upstream.url)
            read_forward = await self._read(scene)
        _is(self.upstream.wrong, [], "what the provider finds wrong")
        self._is_as_told(scene, direct, scene.raises)
        for mode, way, read in ((Mode.GATEWAY, gateway, read_gateway), (Mode.FORWARD, forward, read_forward)):
            self._is_as_told(scene, way, scene.raises_behind or scene.raises)
            _is(way.heard, direct.heard, "what was heard")
            _is(way.returned, direct.returned, "what was returned")
            if not scene.raises_behind:
                _is(way.raised, direct.raised, "what was raised")
            _is(len(read), len(way.requests), "the number of attempts")
            for ours, theirs, attempt in zip(way.requests, direct.requests, read, strict=True):
                _is_counted(attempt, ours, mode)
                assert attempt.dialogue is not None
                _is_the_same_request(ours, theirs, adds_usage=scene.adds_usage and attempt.dialogue.asked.streams)
            _is_true(scene, read[-1], self.upstream.name, self._calls[read[-1].span_id])

    async def _go(self, scene: Scene, url: str) -> Way:
        way = Way()
        self.upstream.begins(*scene.answers)
        places = re.compile(rf"{re.escape(self.sidecar.url)}/llm|{re.escape(self.upstream.url)}")

        def heard(thing: Any) -> None:
            way.heard.append(plain(thing))
            self.upstream.hear()

        try:
            if inspect.iscoroutinefunction(scene.application):
                way.returned = plain(await scene.application(url, heard))
            else:
                way.returned = plain(await asyncio.to_thread(scene.application, url, heard))
        except Exception as error:
            way.raised = _told(error, places)
        way.requests = self.upstream.seen
        return way

    async def _read(self, scene: Scene) -> list[AttemptFinished]:
        """What the sidecar has understood of the last way."""
        sidecar = self.sidecar
        await eventually(lambda: len(sidecar.exchanges) >= len(self.upstream.seen), "the end of the exchanges")
        read = sidecar.attempts.copy()
        sidecar.attempts.clear()
        sidecar.exchanges.clear()
        return read

    def _is_as_told(self, scene: Scene, way: Way, raises: str) -> None:
        raised = way.raised[0].rpartition(".")[2] if way.raised else ""
        _is(raised, raises, f"the class of {way.raised}")
        _is(len(way.requests), scene.requests, "the number of requests")
        assert raises or way.heard or way.returned, "it has got something"


async def set_up(
    opened: Callable[[Any], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, authority: Any, upstream: ProviderUpstream
) -> Ways:
    """Open the provider and the sidecar, and clear the environment of whatever SDKs look for there."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)  # short; the system's takes an SDK 80 ms to read
    await opened(upstream)
    config = config_for(upstream.url, upstream={"url": upstream.url, "provider": upstream.name})
    rule = {"provider": upstream.name, "model": "*", "input": 1, "cache_read": 0.1, "output": 2}
    config["prices"] = {"genai_prices": False, "rules": [rule]}
    sidecar = await opened(SidecarUnderTest(config))
    upstream.hosts.add(f"127.0.0.1:{sidecar.port}")
    return Ways(upstream, sidecar, monkeypatch)


# ── what is compared ─────────────────────────────────────────────────────────────────────────────────────────────────


def _is(got: Any, expected: Any, what: str) -> None:
    """Both are equal, or a message that shows them (pytest explains assertions of test files only)."""
    assert got == expected, f"{what} is\n    {got!r}\nand not\n    {expected!r}"


def plain(value: Any) -> Any:
    """A value of an SDK as JSON would say it, without response fields of a hop, which HTTP lets differ."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items() if str(name).lower().encode() not in OF_THE_WAY}
    fields = getattr(value, "headers", None)
    if isinstance(fields, Mapping):
        return [type(value).__name__, getattr(value, "status_code", None), plain(fields)]
    return value


def _told(error: BaseException, places: re.Pattern[str]) -> tuple[str, str, dict[str, Any], list[str]]:
    """An error by its class, its text, what it knows, and the classes of what caused it."""
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 10:
        causes.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    members = {name: plain(getattr(error, name)) for name in ERROR_MEMBERS if hasattr(error, name)}
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    text = _VIA.sub("", places.sub("PROVIDER", str(error)))  # some write all fields of the response into it
    return kind, text, {name: places.sub("PROVIDER", repr(value)) for name, value in members.items()}, causes


def _is_the_same_request(ours: Message, theirs: Message, *, adds_usage: bool) -> None:
    """What the provider got through the sidecar is what it gets without."""
    _is(ours.start_line, theirs.start_line, "the request line")
    may_differ = OF_THE_WAY | ({b"content-length", b"accept-encoding"} if adds_usage else set())
    _is(_fields(ours, may_differ), _fields(theirs, may_differ), "the request's fields")
    if not adds_usage:
        _is(ours.raw_body, theirs.raw_body, "the request's body")
        return
    asked = json.loads(ours.body)
    assert asked.pop("stream_options") == {"include_usage": True}
    assert asked == json.loads(theirs.body)
    assert ours.body.startswith(theirs.body[:-1].rstrip()), "spliced in at the end, all else as it was"


def _fields(message: Message, without: set[bytes]) -> list[tuple[bytes, bytes]]:
    found = []
    for name, value in message.fields:
        low = name.lower()
        is_of_the_moment = low in OF_THE_MOMENT and (low != b"authorization" or value.startswith(b"AWS4-"))
        if low not in without:
            found.append((name, b"*" if is_of_the_moment else value))
    return found


def _is_counted(attempt: AttemptFinished, request: Message, mode: Mode) -> None:
    _is(attempt.mode, mode, "the mode")
    _is(attempt.sent_bytes, len(request.body), "what the sidecar has counted")
    assert attempt.dialogue is not None, "nobody has read it"
    _is(attempt.dialogue.unread, "", "why it was not read")
    assert attempt.dialogue.cost is not None


def _is_true(scene: Scene, attempt: AttemptFinished, provider: str, calls: list[tuple[str, bytes]]) -> None:
    """The dialogue of the last attempt says what was said."""
    dialogue = attempt.dialogue
    assert dialogue is not None
    asked, answered, cost = dialogue.asked, dialogue.answered, dialogue.cost
    assert isinstance(asked, ModelAsked)
    assert isinstance(answered, ModelAnswered)
    told = (asked.provider, asked.operation, asked.model, asked.streams)
    _is(told, (provider, scene.operation, scene.model, scene.streams), "what was asked")
    usage = None if answered.usage is None else {name: count for name, count in asdict(answered.usage).items() if count and name != "text"}
    tools = [(name, json.loads(arguments)) for name, arguments in calls]
    wanted = [(name, json.loads(arguments)) for name, arguments in scene.tools]
    _is((usage, tuple(answered.finish_reasons), tools), (scene.usage, scene.finish, wanted), "what was answered")
    _is((answered.error_type, answered.is_ended), (scene.error_type, scene.is_ended), "how it ended")
    _is(attempt.error, "" if scene.is_ended else "upstream_cut", "what the attempt's error is")
    _is(dialogue.first_content_s > 0, answered.content_bytes > 0, "whether the first content has a time")
    if scene.answer_model is not None:
        _is(answered.model, scene.answer_model, "the model that answered")
    _is(dialogue.edits, ("include_usage",) if scene.adds_usage else (), "what was changed")
    assert cost is not None
    if scene.pricing is not None:
        _is(cost.pricing, scene.pricing, f"the pricing of {cost}")
    elif scene.usage is not None:
        _is(cost.pricing, Pricing.EXACT, f"the pricing of {cost}")
        assert cost.nano_usd > 0, cost


_VIA = re.compile(r", 'via': '[^']*'")


def at_once(seconds: float) -> None:
    """Stands where an SDK would sleep before it tries again."""

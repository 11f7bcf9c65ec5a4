"""
What a dialogue adds to the two spans of a call: names and attributes of the GenAI, MCP and A2A conventions, and how it went.

The CLIENT span of the attempt is the one leaf that tells tokens and cost; it takes the dialogue's name instead of HTTP's. The
SERVER span keeps its own, and says with which model, tool or agent the exchange dealt.
"""

from collections.abc import Iterable

from sidecar.model.answered import A2aAnswered, Answered, McpAnswered, ModelAnswered
from sidecar.model.asked import A2aAsked, Asked, McpAsked, ModelAsked
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import CODES
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Mode
from sidecar.model.judgement import A2A_WORK, FAILED_STATES, Verdict, of_fact
from sidecar.telemetry import agents, semconv
from sidecar.telemetry.agents import text
from sidecar.telemetry.content import ContentWriter
from sidecar.telemetry.delegations import Delegations, success, taker_of
from sidecar.telemetry.inference import Inferences, model_of, texts
from sidecar.telemetry.masks import Masks, masked_error
from sidecar.telemetry.semconv import Semconv
from sidecar.telemetry.tool_calls import ToolCalls, tool_of
from sidecar.telemetry.wire import Cache, field, texts_attribute, utf8
from sidecar.telemetry.words import OTHER, Words, is_word

_STATUS_ERROR = b"\x18\x02"

_ServerKey = tuple[type[Asked], str, str, str, str, str]


def error_type(fact: AttemptFinished | ExchangeFinished, dialogue: Dialogue) -> str:
    """
    What failed, from the caller's view, in a word that may be the upstream's; "" where nothing did. `Words` make it `error.type`.

    That a stream which stands open on purpose was ended by somebody is no failure.
    """
    answered = dialogue.answered
    if answered is not None and answered.is_ended and not answered.error_type and not fact.error and 0 < fact.status < 400:
        # The judgement would come to the same, nearly always, and ten times as slowly.
        if isinstance(answered, ModelAnswered):
            return ""
        if isinstance(answered, McpAnswered):
            if not answered.is_tool_error:
                return ""
        elif isinstance(answered, A2aAnswered) and answered.state not in FAILED_STATES:
            return ""
    judged = of_fact(fact)
    if judged.row.verdict is Verdict.NEUTRAL and dialogue.asked.is_standing and fact.status < 400:
        return ""
    return judged.kind


def kind_of(fact: AttemptFinished, dialogue: Dialogue) -> str:
    """The attempt's `error_type`, which is kept with its dialogue."""
    kind = dialogue.kind
    if kind is None:
        kind = dialogue.kind = error_type(fact, dialogue)
    return kind


class DialogueWriter:
    """Writes dialogues in the names of one edition of the conventions; `content` writes what was said, word by word."""

    def __init__(self, edition: Semconv, content: ContentWriter | None = None) -> None:
        self._content = content or ContentWriter(Masks())
        self._inferences = Inferences(edition)
        self._tool_calls = ToolCalls()
        self._delegations = Delegations()
        self._words = Words()
        self._servers: Cache[_ServerKey] = Cache(_server_block, limit=1024, most_bytes=4096, weight=texts)

    def client(self, fact: AttemptFinished, dialogue: Dialogue) -> bytes:
        """Name, attributes and status of the CLIENT span."""
        asked, answered, kind = dialogue.asked, dialogue.answered, dialogue.kind
        if kind is None:
            kind = kind_of(fact, dialogue)
        is_plain = not kind and not dialogue.unread and not dialogue.edits and not dialogue.skipped and dialogue.content is None
        if is_plain and isinstance(asked, ModelAsked) and isinstance(answered, ModelAnswered):
            return b"".join(self._inferences.client(dialogue, asked, answered, ""))  # as nearly always
        if kind:
            kind = self._words(kind)
        if isinstance(asked, ModelAsked):
            heard = answered if isinstance(answered, ModelAnswered) else None
            parts = self._inferences.client(dialogue, asked, heard, kind)
        elif isinstance(asked, McpAsked):
            replied = answered if isinstance(answered, McpAnswered) else None
            parts = self._tool_calls.client(asked, replied, kind, is_piped=fact.passage.mode is Mode.STDIO)
        elif isinstance(asked, A2aAsked):
            told = answered if isinstance(answered, A2aAnswered) else None
            passage = fact.passage
            taker = taker_of(passage.upstream, passage.host, told)
            parts = self._delegations.client(asked, told, kind, giver=passage.agent, taker=taker)
        else:
            parts = [field(5, utf8(asked.operation if is_word(asked.operation) else OTHER)), text(semconv.ERROR_TYPE, kind)]
        if kind:
            parts.append(_failed(kind, answered))
        if dialogue.unread or dialogue.edits or dialogue.skipped:
            parts += _reading(dialogue)
        if dialogue.content is not None:
            parts += self._content.attributes(dialogue.content)
        return b"".join(parts)

    def server(self, fact: ExchangeFinished, dialogue: Dialogue) -> bytes:
        """Attributes of the SERVER span, and its status where HTTP's own rule (attributes.server_error_type) sets none."""
        asked, answered = dialogue.asked, dialogue.answered
        cls = asked.__class__
        first = second = state = ""
        if isinstance(asked, ModelAsked):
            first = model_of(asked, answered if isinstance(answered, ModelAnswered) else None)
        elif isinstance(asked, McpAsked):
            first = tool_of(asked)
        elif isinstance(asked, A2aAsked):
            told = answered if isinstance(answered, A2aAnswered) else None
            first, second = fact.passage.agent, taker_of(fact.passage.upstream, fact.passage.host, told)
            state = told.state if told is not None else ""
        kind = ""
        if not fact.error and fact.status < 400 and dialogue.kind != "":  # where the attempt went well, so did the exchange
            kind = error_type(fact, dialogue)
            if kind and of_fact(fact).row.verdict is not Verdict.ERROR:
                kind = ""  # the agent's own doing, which leaves a SERVER span's status unset
            kind = self._words(kind)
        block = self._servers[cls, asked.operation, first, second, state, kind]
        return block + _failed(kind, answered) if kind else block


def link(context: bytes) -> bytes:
    """A link of a span to another context (16 bytes trace id, 8 bytes span id) that came with the call from elsewhere."""
    flags = b"\x35\x00\x03\x00\x00"  # it is known whether that is remote, and it is
    return field(13, b"\x0a\x10" + context[:16] + b"\x12\x08" + context[16:24] + flags)


def _server_block(key: _ServerKey) -> bytes:
    cls, operation, first, second, state, kind = key
    failed = text(semconv.ERROR_TYPE, kind)
    if issubclass(cls, ModelAsked):
        return agents.model(first) + failed
    if issubclass(cls, McpAsked):
        return agents.tool(first) + failed
    if issubclass(cls, A2aAsked):
        return b"".join((agents.delegation(first, second) if operation in A2A_WORK else b"", success(state), failed))
    return failed


def _failed(kind: str, answered: Answered | None) -> bytes:
    """Span.status, described by the provider's words without what looks like a secret, or by ours."""
    message = masked_error(answered.error_message) if answered is not None and answered.error_message else ""
    if not message and kind in CODES:
        message = CODES[kind].advice
    return field(15, (field(2, utf8(message)) if message else b"") + _STATUS_ERROR)


def _reading(dialogue: Dialogue) -> Iterable[bytes]:
    """What was not read, and what was changed."""
    yield text(semconv.UNREAD, dialogue.unread)
    for name, words in ((semconv.EDITS, dialogue.edits), (semconv.SKIPPED, dialogue.skipped)):
        if words:
            yield texts_attribute(name.latest, words)

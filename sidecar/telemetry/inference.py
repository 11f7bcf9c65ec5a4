"""
Calls to models as attributes of spans (GenAI conventions, "Inference", "Embeddings"): what was asked, answered, used and spent.

What seldom changes is one cached block for each combination; ids, tokens, costs and times follow, packed. Where the agent's own
spans carry usage and cost (`cost` is None), they are left to them: one leaf of a trace tells what was used.
"""

import struct
from array import array
from collections.abc import Iterable

from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked, Parameter
from sidecar.model.cost import NANO_USD, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.usage import Usage
from sidecar.telemetry import agents, semconv
from sidecar.telemetry.agents import text
from sidecar.telemetry.semconv import PARAMETERS, Name, Semconv, SpanKind
from sidecar.telemetry.wire import (
    PADDED,
    Cache,
    Key,
    bool_attribute,
    double_attribute,
    field,
    int_attribute,
    text_attribute,
    texts_attribute,
    utf8,
    varint,
)
from sidecar.telemetry.words import Names

# The lower 14 bits of a number as two bytes of its varint, which goes on.
_LOW14 = array("H", ((low & 0x7F) | 0x8080 | low >> 7 << 8 for low in range(2**14)))

_Key = tuple[
    str, str, str, int, int, bool, tuple[tuple[str, Parameter], ...], str, str, str, tuple[str, ...], str, str, int, str, str, str
]
_EXACT, _ESTIMATED = Pricing.EXACT, Pricing.ESTIMATED
_PRICINGS = ("", _EXACT, _ESTIMATED, Pricing.UNPRICED)
_NONE: tuple[str, ...] = ()
_OF_OPENAI = frozenset({"openai", "azure.ai.openai"})


def totals(dialogue: Dialogue, usage: Usage) -> tuple[int, int, int, int]:
    """Input, cache reads and cache writes in it, and output of the dialogue's usage: worked out once."""
    found = dialogue.totals
    if found is None:
        text = usage.text
        found = dialogue.totals = sums(usage) if text is None else (text[0] + text[1], text[1], 0, text[2] + text[3])
    return found


def sums(usage: Usage) -> tuple[int, int, int, int]:
    """Input, cache reads and cache writes in it, and output: the sums that `Usage` names, in one go."""
    read = usage.cache_read_tokens + usage.cache_read_audio_tokens + usage.cache_read_image_tokens + usage.cache_read_video_tokens
    written = usage.cache_write_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return (
        usage.input_tokens + read + written + usage.input_audio_tokens + usage.input_image_tokens + usage.input_video_tokens,
        read,
        written,
        usage.output_tokens
        + usage.reasoning_tokens
        + usage.output_audio_tokens
        + usage.output_image_tokens
        + usage.output_video_tokens,
    )


def model_of(asked: ModelAsked, answered: ModelAnswered | None) -> str:
    """The model that answered, or the one that was asked for."""
    return (answered.model if answered is not None else "") or asked.model


class Inferences:
    """Writes what a call to a model adds to its CLIENT span, in the names of one edition of the conventions."""

    def __init__(self, edition: Semconv) -> None:
        self._edition = edition
        self._names = Names()
        self._blocks: Cache[_Key] = Cache(self._block, limit=1024, most_bytes=4096, weight=texts)
        self._response_id = Key(semconv.RESPONSE_ID.latest)
        self._conversation = Key(semconv.CONVERSATION_ID.latest)
        self._first_chunk = Key(semconv.TIME_TO_FIRST_CHUNK.latest)
        self._reasoning = Key(semconv.REASONING_TOKENS.latest)
        self._cache_read = Key(semconv.CACHE_READ_TOKENS.latest)
        self._cache_write = self._keys(semconv.CACHE_WRITE_TOKENS)
        self._previous = self._keys(semconv.PREVIOUS_RESPONSE)
        self._modalities = tuple(
            (word, key)
            for word, name in (
                ("input_audio_tokens", semconv.INPUT_AUDIO_TOKENS), ("output_audio_tokens", semconv.OUTPUT_AUDIO_TOKENS),
                ("input_image_tokens", semconv.INPUT_IMAGE_TOKENS), ("output_image_tokens", semconv.OUTPUT_IMAGE_TOKENS),
            )
            for key in self._keys(name)
        )  # fmt: skip
        self._input, self._output = Key(semconv.INPUT_TOKENS.latest), Key(semconv.OUTPUT_TOKENS.latest)
        self._usd, self._nano_usd = Key(semconv.COST_USD.latest), Key(semconv.COST_NANO_USD.latest)
        self._nano_head = int_attribute(semconv.COST_NANO_USD.latest, 2**42 - 1)[:-6]
        shapes = [
            f"<{len(self._input.integer)}sI{len(self._output.integer)}sI"
            + f"{len(self._cache_read.integer)}sI" * (shape & 1)
            + "".join(f"{len(key.integer)}sI" for key in self._cache_write) * (shape >> 1 & 1)
            + f"{len(self._reasoning.integer)}sI" * (shape >> 2)
            for shape in range(8)
        ]
        self._used = [struct.Struct(shape).pack for shape in shapes]
        dollars = f"{len(self._usd.double)}sd{len(self._nano_head)}sHI"
        self._used_and_spent = [struct.Struct(shape + dollars).pack for shape in shapes]

    def _keys(self, name: Name) -> tuple[Key, ...]:
        return tuple(Key(one) for one in name.of(self._edition))

    def client(self, dialogue: Dialogue, asked: ModelAsked, answered: ModelAnswered | None, kind: str) -> list[bytes]:
        """Name and attributes of the CLIENT span, in pieces; `kind` is `error.type`, which is not among them."""
        cost = dialogue.cost
        if cost is None:
            pricing, source, version, why = 0, "", "", ""
        else:
            told = cost.pricing  # hashing an enum's member is a call, so the key has its place in _PRICINGS
            pricing = 1 if told is _EXACT else 2 if told is _ESTIMATED else 3
            source, version, why = cost.source, cost.version, cost.why
        if answered is None:
            model, tier, finished = "", "", _NONE
        else:
            model, tier, finished = answered.model, answered.service_tier, tuple(answered.finish_reasons)
        parts = [
            self._blocks[
                (
                    asked.operation, asked.provider, asked.model, asked.max_tokens, asked.choices, asked.streams,
                    asked.parameters, asked.output_type, asked.service_tier, model, finished, tier, kind, pricing, source,
                    version, why,
                )
            ]
        ]  # fmt: skip
        if asked.conversation:
            parts += self._conversation.text(asked.conversation)
        if asked.previous_response:
            for each in self._previous:
                parts += each.text(asked.previous_response)
        if answered is not None:
            if answered.id:
                parts += self._response_id.text(answered.id)
            if asked.streams and dialogue.first_content_s:
                parts.append(self._first_chunk.seconds(dialogue.first_content_s))
            usage = answered.usage
            if usage is not None and cost is not None:
                summed = dialogue.totals or totals(dialogue, usage)
                parts.append(self._spending(usage, summed, cost.nano_usd if pricing < 3 else -1))
                if self._modalities:
                    parts += [key.number(count) for word, key in self._modalities if (count := getattr(usage, word))]
                return parts
        if 0 < pricing < 3 and cost is not None:
            parts.append(self._dollars(cost.nano_usd))
        return parts

    def _spending(self, usage: Usage, summed: tuple[int, int, int, int], nano_usd: int) -> bytes:
        """Tokens and dollars; the latter are not known below 0."""
        into, read, written, out = summed
        thought = usage.reasoning_tokens
        try:
            if not read and not written and nano_usd >= 0:  # as most are: the same, without a list
                upper = nano_usd >> 14
                if thought:
                    return self._used_and_spent[4](
                        self._input.integer, into + PADDED[into >> 7], self._output.integer, out + PADDED[out >> 7],
                        self._reasoning.integer, thought + PADDED[thought >> 7], self._usd.double, nano_usd / NANO_USD,
                        self._nano_head, _LOW14[nano_usd & 0x3FFF], upper + PADDED[upper >> 7],
                    )  # fmt: skip
                return self._used_and_spent[0](
                    self._input.integer, into + PADDED[into >> 7], self._output.integer, out + PADDED[out >> 7],
                    self._usd.double, nano_usd / NANO_USD, self._nano_head, _LOW14[nano_usd & 0x3FFF],
                    upper + PADDED[upper >> 7],
                )  # fmt: skip
            numbers = [self._input.integer, into + PADDED[into >> 7], self._output.integer, out + PADDED[out >> 7]]
            shape = 0
            if read:
                shape = 1
                numbers += self._cache_read.integer, read + PADDED[read >> 7]
            if written:
                shape += 2
                for key in self._cache_write:
                    numbers += key.integer, written + PADDED[written >> 7]
            if thought:
                shape += 4
                numbers += self._reasoning.integer, thought + PADDED[thought >> 7]
            if nano_usd < 0:
                return self._used[shape](*numbers)
            upper = nano_usd >> 14
            return self._used_and_spent[shape](
                *numbers, self._usd.double, nano_usd / NANO_USD, self._nano_head, _LOW14[nano_usd & 0x3FFF],
                upper + PADDED[upper >> 7],
            )  # fmt: skip
        except (IndexError, struct.error):  # half a million tokens of one kind, or eight dollars, which are rare
            counts = ((self._cache_read, read), *((key, written) for key in self._cache_write), (self._reasoning, thought))
            told = b"".join(key.number(count) for key, count in counts if count)
            return b"".join((self._input.number(into), self._output.number(out), told, self._dollars(nano_usd)))

    def _dollars(self, nano_usd: int) -> bytes:
        return b"" if nano_usd < 0 else self._usd.seconds(nano_usd / NANO_USD) + self._nano_usd.number(nano_usd)

    def _block(self, key: _Key) -> bytes:
        (
            operation, provider, model, max_tokens, choices, streams, parameters, output_type, tier, answering, finished, served,
            kind, pricing, source, version, why,
        ) = key  # fmt: skip
        of_openai = provider in _OF_OPENAI
        return b"".join(
            (
                field(5, utf8(self._names(operation, model))),
                text(semconv.OPERATION_NAME, operation), text(semconv.PROVIDER_NAME, provider),
                text(semconv.REQUEST_MODEL, model),
                int_attribute(semconv.REQUEST_MAX_TOKENS.latest, max_tokens) if max_tokens > 0 else b"",
                int_attribute(semconv.REQUEST_CHOICE_COUNT.latest, choices) if choices != 1 else b"",
                bool_attribute(semconv.REQUEST_STREAM.latest, True) if streams else b"",
                text(semconv.OUTPUT_TYPE, output_type), *self._parameters(parameters),
                text(semconv.OPENAI_REQUEST_TIER, tier) if of_openai else b"",
                text(semconv.OPENAI_RESPONSE_TIER if of_openai else semconv.SERVICE_TIER, served),
                text(semconv.RESPONSE_MODEL, answering),
                texts_attribute(semconv.FINISH_REASONS.latest, finished) if finished else b"",
                text(semconv.COST_PRICING, _PRICINGS[pricing]), text(semconv.COST_SOURCE, source),
                text(semconv.COST_VERSION, version), text(semconv.COST_WHY, why),
                agents.span_kind(SpanKind.LLM_INFERENCE), agents.model(answering or model), text(semconv.ERROR_TYPE, kind),
            )
        )  # fmt: skip

    def _parameters(self, parameters: tuple[tuple[str, Parameter], ...]) -> Iterable[bytes]:
        seen = set()
        for word, value in parameters:
            row = PARAMETERS.get(word)
            if row is None or word in seen:
                continue
            seen.add(word)
            is_new_top_k = word == "top_k" and self._edition is Semconv.LATEST
            for name in row.name.of(self._edition):
                yield _parameter(name, int if is_new_top_k else row.kind, value)


def _parameter(name: str, kind: object, value: Parameter) -> bytes:
    """An attribute with the type that the table wants; b"" for a value that cannot have it."""
    if kind is str:
        return text_attribute(name, value) if isinstance(value, str) else b""
    if isinstance(value, str | tuple):
        return b"" if kind in (int, float) else texts_attribute(name, (value,) if isinstance(value, str) else value)
    is_usual = -(2**63) <= value < 2**63  # and neither NaN nor infinite
    if kind is float:
        return double_attribute(name, value) if is_usual or isinstance(value, float) else b""
    if kind is not int or not is_usual:
        return b""
    return field(9, field(1, name.encode()) + field(2, b"\x18" + varint(int(value) % 2**64)))  # a seed may be negative


def texts(key: tuple[object, ...]) -> int:
    """How many characters a key of a cache holds, in tuples of tuples too."""
    return sum(len(part) if isinstance(part, str) else texts(part) for part in key if isinstance(part, str | tuple))

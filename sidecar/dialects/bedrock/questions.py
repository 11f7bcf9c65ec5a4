"""
What a request to Bedrock asks for: the one body of Converse, and those of the vendors behind `invoke`.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

import msgspec

from sidecar.dialects.bedrock.asked import BedrockAsked
from sidecar.dialects.bulk import bulk_of
from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.glance import outline
from sidecar.dialects.lenient import Lenient, Lists, count, raw_size
from sidecar.model.asked import Parameter

_STORED = b'"s3Location"'  # seldom there, and looked for in a tenth of the time that reading all messages takes
_MOST_NAME = 256
_MOST_TOOLS = 1024
_MOST_STOPS = 16
_BOUNDS = ("max_tokens", "max_completion_tokens", "max_gen_len", "max_tokens_to_sample")
_MEASURES = ("temperature", "top_p", "top_k", "p", "k", "seed", "frequency_penalty", "presence_penalty")
_NAMES = {"p": "top_p", "k": "top_k"}  # of Cohere's


class _Stored(msgspec.Struct, gc=False, rename="camel"):
    s3_location: msgspec.Raw = msgspec.Raw(b"")


class _Medium(msgspec.Struct, gc=False):
    source: _Stored | None = None


class _Block(msgspec.Struct, gc=False, rename="camel"):
    document: _Medium | None = None
    image: _Medium | None = None
    video: _Medium | None = None
    audio: _Medium | None = None
    tool_result: "_Message | None" = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] | None = None


class _Named(msgspec.Struct, gc=False):
    name: str = ""


class _Tool(msgspec.Struct, gc=False, rename="camel"):
    tool_spec: _Named | None = None
    system_tool: _Named | None = None


class _ToolConfig(msgspec.Struct, gc=False):
    tools: msgspec.Raw = msgspec.Raw(b"")


class _Inference(msgspec.Struct, gc=False, rename="camel"):
    max_tokens: int | float | None = None
    max_new_tokens: int | float | None = msgspec.field(name="max_new_tokens", default=None)  # Nova's former name
    temperature: int | float | None = None
    top_p: int | float | None = None
    stop_sequences: list[str] | None = None


class _Additional(msgspec.Struct, gc=False):
    top_k: int | float | None = None


class Tier(msgspec.Struct, gc=False):
    """A tier of service, asked for or served."""

    type: str = ""


class Performance(msgspec.Struct, gc=False):
    """Whether inference is optimized for latency."""

    latency: str = ""


class _TextFormat(msgspec.Struct, gc=False):
    type: str = ""


class _OutputConfig(msgspec.Struct, gc=False, rename="camel"):
    text_format: _TextFormat | None = None


class _Messages(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None


class _Request(msgspec.Struct, gc=False, rename="camel"):
    inference_config: _Inference | None = None
    tool_config: msgspec.Raw = msgspec.Raw(b"")
    additional_model_request_fields: _Additional | None = None
    service_tier: Tier | None = None
    performance_config: Performance | None = None
    output_config: _OutputConfig | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")


class _TitanConfig(msgspec.Struct, gc=False, rename="camel"):
    max_token_count: int | float | None = None
    temperature: int | float | None = None
    top_p: int | float | None = None
    stop_sequences: list[str] | None = None


class _NamedTool(msgspec.Struct, gc=False):
    name: str = ""
    function: _Named | None = None


class _Invoke(msgspec.Struct, gc=False):
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_gen_len: int | float | None = None
    max_tokens_to_sample: int | float | None = None
    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: int | float | None = None
    p: int | float | None = None
    k: int | float | None = None
    seed: int | float | None = None
    frequency_penalty: int | float | None = None
    presence_penalty: int | float | None = None
    stop: list[str] | None = None
    stop_sequences: list[str] | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    titan_input: msgspec.Raw = msgspec.field(name="inputText", default=msgspec.Raw(b""))
    titan_config: _TitanConfig | None = msgspec.field(name="textGenerationConfig", default=None)


_messages = Lenient(_Messages).decode
_request = Lenient(_Request).skim
_invoke = Lenient(_Invoke).skim
_tool_config = Lenient(_ToolConfig).skim
_tools = Lists(_Tool).read
_named_tools = Lists(_NamedTool).read


def read_converse(asked: BedrockAsked, body: bytes) -> None:
    """Note what a request of Converse asks for; raises `Unreadable`."""
    told = _request(body)
    inference = told.inference_config or _Inference()
    tools = _offered(told.tool_config) if raw_size(told.tool_config) else []
    asked.max_tokens = count(inference.max_tokens) or count(inference.max_new_tokens)
    asked.tools = tuple(tool.tool_spec.name[:_MOST_NAME] for tool in (tools or ())[:_MOST_TOOLS] if tool.tool_spec)
    asked.parameters = _parameters(inference, told.additional_model_request_fields)
    if told.output_config and told.output_config.text_format:
        asked.output_type = "json"  # json_schema is the only format that there is
    asked.service_tier = tier_of(told.service_tier, told.performance_config)
    unbounded = []
    looked_at = outline(body)
    if looked_at is None or tools is None:
        unbounded.append("unread")
    if looked_at is not None and _STORED in looked_at and (looked_at is not body or _has_stored(body)):
        unbounded.append("files")
    if any(tool.system_tool for tool in tools or ()):
        unbounded.append("server_tools")
    if ":prompt/" in asked.model:
        unbounded.append("stored_prompt")
    asked.unbounded = tuple(unbounded)
    asked.bulk = bulk_of(body, messages=told.messages, system=told.system, toolConfig=told.tool_config)


def _offered(raw: msgspec.Raw) -> list[_Tool] | None:
    """The tools, which may make the most of a body; None where they are more than anybody means."""
    if memoryview(raw)[0] != 0x7B:
        return []
    try:
        return _tools(bytes(_tool_config(bytes(raw)).tools))
    except Unreadable:
        return []


def _parameters(inference: _Inference, additional: _Additional | None) -> tuple[tuple[str, Parameter], ...]:
    found: list[tuple[str, Parameter]] = []
    if inference.temperature is not None:
        found.append(("temperature", inference.temperature))
    if inference.top_p is not None:
        found.append(("top_p", inference.top_p))
    if additional and additional.top_k is not None:
        found.append(("top_k", additional.top_k))
    if inference.stop_sequences:
        found.append(("stop_sequences", tuple(stop[:_MOST_NAME] for stop in inference.stop_sequences[:_MOST_STOPS])))
    return tuple(found)


def tier_of(tier: Tier | None, performance: Performance | None) -> str:
    """Return the tier; latency-optimized inference, which has prices of its own, counts as one."""
    if performance and performance.latency == "optimized" and not (tier and tier.type):
        return "optimized"
    return tier.type[:_MOST_NAME] if tier else ""


def _has_stored(body: bytes) -> bool:
    return any(_is_stored(message) for message in _messages(body).messages or ())


def _is_stored(message: _Message) -> bool:
    """Whether something in a message lies in a bucket, so that its bytes say nothing of its size."""
    for block in message.content or ():
        for medium in (block.document, block.image, block.video, block.audio):
            if medium and medium.source and raw_size(medium.source.s3_location):
                return True
        if block.tool_result and _is_stored(block.tool_result):
            return True
    return False


def read_invoke(asked: BedrockAsked, body: bytes) -> None:
    """Note what the body of an `invoke` asks for, whichever vendor's it is (but not Anthropic's); raises `Unreadable`."""
    if asked.family == "nova":
        read_converse(asked, body)
        return
    told = _invoke(body)
    titan = told.titan_config or _TitanConfig()
    if asked.operation == "chat" and (raw_size(told.prompt) or raw_size(told.titan_input)):
        asked.operation = "text_completion"
    asked.max_tokens = next((count(getattr(told, name)) for name in _BOUNDS if getattr(told, name)), count(titan.max_token_count))
    tools = _named_tools(bytes(told.tools))
    if tools is None:
        asked.unbounded = ("unread",)
    asked.tools = tuple((tool.function or tool).name[:_MOST_NAME] for tool in (tools or ())[:_MOST_TOOLS])
    found: dict[str, Parameter] = {}
    for name in _MEASURES:
        value = getattr(told, name)
        if value is not None:
            found[_NAMES.get(name, name)] = value
    if titan.temperature is not None:
        found["temperature"] = titan.temperature
    if titan.top_p is not None:
        found["top_p"] = titan.top_p
    stops = told.stop_sequences or told.stop or titan.stop_sequences
    if stops:
        found["stop_sequences"] = tuple(stop[:_MOST_NAME] for stop in stops[:_MOST_STOPS])
    asked.parameters = tuple(found.items())
    asked.bulk = bulk_of(body, messages=told.messages, prompt=told.prompt, inputText=told.titan_input, tools=told.tools)

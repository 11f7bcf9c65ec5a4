"""
Amazon Bedrock's runtime: `/model/{id}/converse`, `/converse-stream`, `/invoke` and `/invoke-with-response-stream`.

`asked.py` reads heads, `questions.py` requests, `answers.py` what Converse answers, `families.py` and `invoke.py` know the
vendors' own JSON, `streams.py` what all streams have in common. Where AWS signs a request (SigV4) nothing in it can be changed;
with an API key (`AWS_BEARER_TOKEN_BEDROCK`) the bound on its output can.

Source: the service model of botocore 1.44 (`bedrock-runtime`, 2023-09-30).
"""

import json
from collections.abc import Mapping
from functools import partial

from sidecar.dialects import anthropic
from sidecar.dialects.bedrock import answers, invoke, questions
from sidecar.dialects.bedrock.asked import PROVIDER, BedrockAsked, is_signed, operation_of, split
from sidecar.dialects.bedrock.content import content
from sidecar.dialects.bedrock.families import FAMILIES, family_of
from sidecar.dialects.bedrock.streams import CONTENT_TYPE, BedrockAnswered, FrameReader, tell_error
from sidecar.dialects.bodies import WholeBody
from sidecar.dialects.dialect import BodyEdit, Change, Clamp, Heading, IncludeUsage, Reader, Spoken, Unreadable
from sidecar.dialects.splice import put
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.errors import Refused

name = "bedrock"
is_about_models = True

__all__ = ["content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out"]

_EXCEPTIONS = {
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_JSON = "application/json"
_CONVERSE_BOUND = ("inferenceConfig", "maxTokens")


def operation(heading: Heading) -> str:
    """Return `chat`, or `embeddings` or `generate_content` for an `invoke` of a model that is named for it."""
    return operation_of(heading)


def request(operation: str, heading: Heading, body: bytes) -> Asked:
    """Read a request; raises `Unreadable` where its body is no JSON object."""
    parts = split(heading.path)
    if parts is None:
        raise Unreadable("no path of the runtime")
    model, api, streams = parts
    asked = BedrockAsked(
        name, operation, streams, provider=heading.provider or PROVIDER, model=model, api=api, is_signed=is_signed(heading)
    )
    if api == "converse":
        questions.read_converse(asked, body)
        return asked
    asked.family = family_of(model, body)
    if asked.family == "anthropic":
        _read_messages(asked, heading, body)
    else:
        questions.read_invoke(asked, body)
    asked.service_tier = asked.service_tier or _head_tier(heading.fields)
    return asked


def _read_messages(asked: BedrockAsked, heading: Heading, body: bytes) -> None:
    """Have the Messages API's own dialect read a body that says neither its model nor whether it streams."""
    inner = anthropic.request(asked.operation, heading, body)
    inner.model, inner.streams = asked.model, asked.streams
    asked.inner = inner
    asked.max_tokens, asked.tools, asked.parameters = inner.max_tokens, inner.tools, inner.parameters
    asked.output_type, asked.unbounded, asked.service_tier = inner.output_type, inner.unbounded, inner.service_tier


def reader(asked: Asked, status: int, content_type: str, fields: Mapping[str, str]) -> Reader:
    """Return the reader of frames or of a whole body, as status and media type say."""
    answered = BedrockAnswered()
    if status >= 400:
        kind = fields.get("x-amzn-errortype", "").partition(":")[0]
        return WholeBody(answered, partial(tell_error, answered, kind))
    if not isinstance(asked, BedrockAsked):  # nobody read the request: what is answered is taken for Converse's
        asked = BedrockAsked(name, asked.operation, asked.streams)
    answered.service_tier = _head_tier(fields)
    if content_type.startswith(CONTENT_TYPE) or (asked.streams and not content_type):
        if asked.api == "converse":
            return FrameReader(answered, answers.Conversation(answered).event)
        if asked.inner is not None:
            return FrameReader(answered, invoke.Messages(asked.inner, answered).event)
        return FrameReader(answered, invoke.Chunks(asked, answered).event)
    if asked.api == "converse":
        return WholeBody(answered, partial(answers.read_answer, answered))
    answered.usage = invoke.head_usage(fields)
    return WholeBody(answered, partial(invoke.read_body, asked, answered))


def _head_tier(fields: Mapping[str, str]) -> str:
    """The tier of an `invoke`, asked for or served: it stands in the head, as does inference that is optimized for latency."""
    latency = fields.get("x-amzn-bedrock-performanceconfig-latency", "")
    return fields.get("x-amzn-bedrock-service-tier", "")[:64] or ("optimized" if latency == "optimized" else "")


def error(refused: Refused, asked: Asked | None) -> Spoken:
    """Say it as the exception of this status: SDKs go by the field `x-amzn-ErrorType`."""
    status = refused.meaning.status
    kind = _EXCEPTIONS.get(status) or ("InternalServerException" if status >= 500 else "ValidationException")
    message = f"{refused.code}: {refused.detail or refused.meaning.advice}"
    body = json.dumps({"message": message}, ensure_ascii=False).encode("utf-8", "replace")
    return Spoken(status, _JSON, body, (("x-amzn-ErrorType", kind),))


def ending(asked: Asked, answered: Answered, reason: str) -> bytes:
    """Close the open block and the message with `max_tokens`, and tell the usage so far; b"" after a cut inside a frame."""
    if not isinstance(asked, BedrockAsked) or not isinstance(answered, BedrockAnswered) or not asked.streams:
        return b""
    if asked.api == "converse":
        return answers.ending(answered)
    return invoke.ending(asked, answered, reason)


def edit(asked: Asked, body: bytes, change: Change) -> bytes:
    """
    Lower the bound on the output; a stream tells its usage always, so that asking for it changes nothing.

    Raises `Unreadable`: `signed` for whatever AWS has signed, and where the vendor of an `invoke` is unknown.
    """
    if not isinstance(asked, BedrockAsked) or asked.is_signed:
        raise Unreadable("signed")
    if isinstance(change, IncludeUsage):
        return body
    if not isinstance(change, Clamp):
        raise Unreadable("a call of Bedrock has no place for it")
    if asked.inner is not None:
        return anthropic.edit(asked.inner, body, change)
    if 0 < asked.max_tokens <= change.max_tokens:
        return body
    return put(body, _place(asked), b"%d" % change.max_tokens, asked.bulk)


def _place(asked: BedrockAsked) -> tuple[str, ...]:
    if asked.api == "converse":
        return _CONVERSE_BOUND
    family = FAMILIES.get(asked.family)
    if family is None or asked.operation not in ("chat", "text_completion"):
        raise Unreadable("nobody knows where this body bounds its output")
    return family.bound


def takes_out(asked: Asked, change: Change) -> BodyEdit | None:
    """No change has a consequence in the response."""
    return None

"""
Whose body an `invoke` has: each vendor's models take and give JSON of their own.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """
    What has to be known of a vendor's JSON to change a request and to end an answer.

    `bound` is the place of the output's bound in a request, `last` what the last chunks of a stream are when the bound was
    reached (none where nobody documents them).
    """

    bound: tuple[str, ...]
    last: tuple[bytes, ...] = ()


_CHOICES = Family(
    ("max_tokens",), (b'{"choices":[{"index":0,"message":{"role":"assistant","content":""},"stop_reason":"length"}]}',)
)

FAMILIES = {
    "anthropic": Family(("max_tokens",)),  # the Messages API, which its own dialect reads and ends
    "titan": Family(
        ("textGenerationConfig", "maxTokenCount"),
        (b'{"outputText":"","index":0,"totalOutputTextTokenCount":null,"completionReason":"LENGTH"}',),
    ),
    "nova": Family(("inferenceConfig", "maxTokens")),  # its streams have the events of Converse
    "meta": Family(("max_gen_len",), (b'{"generation":"","stop_reason":"length"}',)),
    "mistral": Family(("max_tokens",), (b'{"outputs":[{"text":"","stop_reason":"length"}]}',)),
    "cohere": Family(("max_tokens",), (b'{"text":"","is_finished":true,"finish_reason":"MAX_TOKENS"}',)),
    "ai21": _CHOICES,
    "choices": _CHOICES,
    "openai": Family(("max_completion_tokens",)),
}
"""By the vendor in the model's id; `nova` and `titan` are Amazon's own, `choices` all who answer as OpenAI's chat does."""

_END_BYTES = 64 * 1024
_VENDORS = ("anthropic", "meta", "mistral", "cohere", "ai21", "openai")
_LIKE_OPENAI = ("deepseek", "qwen", "google", "nvidia", "writer", "moonshot", "moonshotai", "minimax", "zai")


def family_of(model: str, body: bytes) -> str:
    """
    Return whose body this is: by the model's id, whatever region's or account's profile it names, else by what the body says of
    itself (an application's inference profile names no model); "" where neither does.
    """
    parts = model.rpartition("/")[2].split(".")
    if _VENDORS[0] in parts:
        return _VENDORS[0]
    body = _ends(body)
    if b'"anthropic_version"' in body:
        return "anthropic"
    for vendor in _VENDORS:
        if vendor in parts:
            return vendor
    if "amazon" in parts:
        return "nova" if "nova" in model else "titan"
    if any(each in parts for each in _LIKE_OPENAI):
        return "choices"
    if b'"inputText"' in body:
        return "titan"
    return "meta" if b'"max_gen_len"' in body else ""


def _ends(body: bytes) -> bytes:
    """Where a long body says what it is: before and behind what makes it long."""
    return body if len(body) <= 2 * _END_BYTES else body[:_END_BYTES] + body[-_END_BYTES:]

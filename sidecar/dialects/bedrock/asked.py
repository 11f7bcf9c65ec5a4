"""What a call to Bedrock asks for, as far as its head tells: which API, which model, and whether its bytes are signed."""

from dataclasses import dataclass, field
from urllib.parse import unquote

from sidecar.dialects.bulk import Bulk
from sidecar.dialects.dialect import Heading
from sidecar.model.asked import ModelAsked

PROVIDER = "aws.bedrock"

_ROOT = "/model/"
_APIS = {
    "/converse": ("converse", False),
    "/converse-stream": ("converse", True),
    "/invoke": ("invoke", False),
    "/invoke-with-response-stream": ("invoke", True),
}
_PAINTERS = ("stability.", "titan-image", "nova-canvas")
_MOST_NAME = 256


@dataclass(slots=True)
class BedrockAsked(ModelAsked):
    """
    A call to Bedrock.

    `api` is `converse` or `invoke`. `family` says which vendor's body an `invoke` has (a key of `families.FAMILIES`, "" for one
    that nobody knows), `inner` is that body as the vendor's own dialect read it. `is_signed`: the body is covered by a signature
    of AWS (SigV4), so that no byte of it may change. `bulk` is what makes a long body long.
    """

    api: str = "converse"
    family: str = ""
    inner: ModelAsked | None = None
    is_signed: bool = False
    bulk: Bulk = field(default=(), compare=False, repr=False)


def split(path: str) -> tuple[str, str, bool] | None:
    """
    Return what `/model/{id}/{api}` names: the model as its caller wrote it, `converse` or `invoke`, whether it streams.

    None for other paths. An id may be an ARN or an inference profile, whose slashes are percent-encoded by SDKs and not by hand.
    """
    begin, end = path.find(_ROOT), path.rfind("/")
    known = _APIS.get(path[end:])
    if begin < 0 or known is None or end <= begin + len(_ROOT):
        return None
    return unquote(path[begin + len(_ROOT) : end])[:_MOST_NAME], *known


def operation_of(heading: Heading) -> str:
    """
    Return what is asked for by the path: `chat`, or what the name of the model says of an `invoke`.

    Rerankers, and models that no text is asked of (video by job), are nobody's; they pass unread.
    """
    parts = split(heading.path) if heading.method == "POST" else None
    if parts is None:
        return ""
    model, api, _ = parts
    if api == "converse":
        return "chat"
    if "embed" in model:
        return "embeddings"
    if "rerank" in model:
        return ""
    return "generate_content" if any(each in model for each in _PAINTERS) else "chat"


def is_signed(heading: Heading) -> bool:
    """Whether AWS's signature (version 4 or 4a) covers the body: in the field, or in a presigned URL."""
    return heading.fields.get("authorization", "").startswith("AWS4-") or "X-Amz-Signature=" in heading.query

import pytest

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.embeddings import EmbeddingsBody
from sidecar.model.usage import Usage


def read(body: bytes) -> OpenAiAnswered:
    answered = OpenAiAnswered()
    EmbeddingsBody(answered, "openai").read(body)
    return answered


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m","data":[1],"usage":{"prompt_tokens":8,"total_tokens":8}}', Usage(input_tokens=8)),
        (b'{"model":"m","data":[1],"usage":{"total_tokens":8}}', Usage(input_tokens=8)),
        (b'{"model":"m","data":[1]}', None),
    ],
    ids=range(3),
)
def test_the_input_is_all_that_is_used(body: bytes, expected: Usage | None) -> None:
    answered = read(body)
    assert (answered.model, answered.usage, answered.content_bytes) == ("m", expected, 3)


def test_an_error_is_told() -> None:
    assert read(b'{"error":{"type":"t","message":"m"}}').error_type == "t"


def test_what_is_no_object_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        read(b"[1]")

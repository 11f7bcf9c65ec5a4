import pytest

from sidecar.dialects.bedrock.asked import is_signed, operation_of, split
from sidecar.dialects.dialect import Heading


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "converse", False),
        ),
        (
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x.y/converse-stream",
            ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x.y", "converse", True),
        ),
        (
            "/model/arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x.y/invoke",
            ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x.y", "invoke", False),
        ),
        ("/model/a%2Fconverse/invoke-with-response-stream", ("a/converse", "invoke", True)),
        ("/model/%zz%ff/invoke", ("%zz\ufffd", "invoke", False)),
        ("/model/" + "x" * 5000 + "/invoke", ("x" * 256, "invoke", False)),
        ("/model/invoke", None),
        ("/models/x/invoke", None),
        ("/model/x/invokes", None),
        ("invoke", None),
    ],
    ids=["profile", "arn", "arn-by-hand", "slash", "not-encoded", "long", "no-model", "other", "other-api", "no-path"],
)
def test_a_path_names_model_and_api(path: str, expected: object) -> None:
    assert split(path) == expected


def test_only_posts_are_calls() -> None:
    assert operation_of(Heading("POST", "/model/x/converse")) == "chat"
    assert operation_of(Heading("OPTIONS", "/model/x/converse")) == ""


def test_an_api_key_signs_nothing() -> None:
    assert not is_signed(Heading("POST", "/", fields={"authorization": "Bearer ABSK"}))
    assert not is_signed(Heading("POST", "/"))
    assert is_signed(Heading("POST", "/", query="a=b&X-Amz-Signature=0"))

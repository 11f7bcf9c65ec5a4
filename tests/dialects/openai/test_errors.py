import json

import httpx2
import openai
import pytest

from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.errors import error, read_body, tell, tell_event
from sidecar.model.errors import CODES, Code, Fault, Refused


def told(body: bytes, status: int = 400) -> tuple[str, str]:
    answered = OpenAiAnswered()
    read_body(answered, body, status)
    return answered.error_type, answered.error_message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"message":"m","type":"rate_limit_error","param":null,"code":"c"}}', ("rate_limit_error", "m")),
        (b'{"error":{"code":"429","message":"m"}}', ("429", "m")),
        (b'{"error":{"code":null,"type":null,"message":"m"}}', ("400", "m")),
        (b'{"error":"m"}', ("400", "m")),
        (b'{"code":"Client specified an invalid argument","error":"m"}', ("Client specified an invalid argument", "m")),
        (b'{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}', ("BadRequestError", "m")),
        (b'{"detail":"Not authenticated"}', ("400", "Not authenticated")),
        (b'{"detail":[{"loc":["body"],"msg":"x"}]}', ("400", '[{"loc":["body"],"msg":"x"}]')),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]', ("400", "m")),
        (b"[]", ("400", "")),
        (b"<html>Bad Gateway</html>", ("400", "<html>Bad Gateway</html>")),
        (b"\xff\xfe", ("400", "\ufffd\ufffd")),
        (b"[7]", ("400", "[7]")),
        (b"null", ("400", "null")),
        (b'{"error":{"message":"' + b"x" * 9999 + b'","type":"' + b"t" * 9999 + b'"}}', ("t" * 256, "x" * 512)),
    ],
    ids=range(15),
)
def test_an_error_body_is_told_whoever_wrote_it(body: bytes, expected: tuple[str, str]) -> None:
    assert told(body) == expected


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"7", b"false"])
def test_what_is_no_error_is_none(raw: bytes) -> None:
    answered = OpenAiAnswered()
    assert not tell(answered, raw)
    assert answered == OpenAiAnswered()


def test_the_type_of_an_event_says_nothing() -> None:
    answered = OpenAiAnswered()
    tell_event(answered, b'{"type":"error","code":"rate_limit_exceeded","message":"m"}')
    assert (answered.error_type, answered.error_message) == ("rate_limit_exceeded", "m")


SDK = {400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError, 404: openai.NotFoundError, 409: openai.ConflictError, 422: openai.UnprocessableEntityError, 429: openai.RateLimitError}


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_sdk_raises_the_class_that_it_has_for_the_status(code: str) -> None:
    spoken = error(Refused(code, "detail"), None)
    tries = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        tries.append(request)
        return httpx2.Response(spoken.status, headers=[("content-type", spoken.content_type), ("retry-after-ms", "1"), *spoken.fields], content=spoken.body)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        openai.OpenAI(api_key="k", base_url="http://sidecar/v1", max_retries=1, http_client=transport) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.chat.completions.create(model="m", messages=[])
    expected = SDK.get(spoken.status, openai.InternalServerError if spoken.status >= 500 else openai.APIStatusError)
    assert type(raised.value) is expected
    assert (raised.value.code, raised.value.type is not None) == (code, True)
    assert f"{code}: detail" in raised.value.message
    is_tried_again = CODES[code].retry and (spoken.status >= 500 or spoken.status in (408, 409, 429))
    assert len(tries) == (2 if is_tried_again else 1)


class Budget(Refused):
    """A refusal that no code has yet."""

    meaning = Code(429, Fault.OPERATOR, False, "Raise the budget.")  # type: ignore[assignment]  # a property there


@pytest.mark.parametrize(("refused", "kind"), [(Budget("stopped"), "insufficient_quota"), (Refused("draining"), "server_error"), (Refused("host_refused"), "permission_error"), (Refused("body_bytes"), "invalid_request_error"), (Refused("request_timeout"), "timeout_error")])
def test_the_type_is_that_of_the_status(refused: Refused, kind: str) -> None:
    assert json.loads(error(refused, None).body)["error"]["type"] == kind

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anthropic as sdk
import pytest

from sidecar.dialects import anthropic
from sidecar.dialects.dialect import Heading, Spoken
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.errors import CODES, Refused

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"


class Upstream(HTTPServer):
    """Says what it was told to, to whoever asks; counts how often."""

    spoken = Spoken(200, "text/event-stream", b"")
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        spoken = self.server.spoken
        self.send_response(spoken.status)
        for name, value in (("content-type", spoken.content_type), ("content-length", str(len(spoken.body))), *spoken.fields):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(spoken.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(upstream: Upstream) -> Iterator[sdk.Anthropic]:
    with sdk.Anthropic(api_key="x", base_url=f"http://127.0.0.1:{upstream.server_port}", max_retries=0) as client:
        yield client


def asked(streams: bool = True) -> ModelAsked:
    return anthropic.request(
        "chat", Heading("POST", "/v1/messages"), json.dumps({"model": "claude-x", "stream": streams}).encode()
    )


def listened(client: sdk.Anthropic) -> Any:
    with client.messages.stream(model="claude-x", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]) as stream:
        return stream.get_final_message()


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: ")]


def ended_after(stream: bytes, reason: str = "stopped") -> bytes:
    reader = anthropic.reader(asked(), 200, "text/event-stream", {})
    reader.feed(stream)
    return anthropic.ending(asked(), reader.answered, reason)


def whole_events(file: str) -> list[bytes]:
    return [each + b"\n\n" for each in (GOLDEN / file).read_bytes().split(b"\n\n")[:-1]]


@pytest.mark.parametrize("file", ["text.sse", "tools.sse", "thinking.sse", "search.sse"])
def test_the_sdk_takes_a_stream_that_we_end_after_any_of_its_events(client: sdk.Anthropic, upstream: Upstream, file: str) -> None:
    said = whole_events(file)
    for count in range(len(said)):
        so_far = b"".join(said[:count])
        upstream.spoken = Spoken(200, "text/event-stream", so_far + ended_after(so_far))
        message = listened(client)
        own_reason = events(said[-2])[0]["delta"]["stop_reason"]
        assert message.stop_reason == (own_reason if count == len(said) - 1 else "max_tokens"), count
        assert message.role == "assistant"


def test_an_ending_closes_the_block_that_is_open() -> None:
    said = b"".join(whole_events("tools.sse")[:7])
    assert events(ended_after(said)) == [
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def test_an_ending_before_anything_is_a_whole_message() -> None:
    for nothing in (ended_after(b""), anthropic.ending(asked(), ModelAnswered(), "stopped")):
        assert [each["type"] for each in events(nothing)] == ["message_start", "message_delta", "message_stop"]
        assert events(nothing)[0]["message"]["model"] == "claude-x"


@pytest.mark.parametrize("file", ["text.sse", "overloaded.sse"])
def test_what_has_its_end_gets_no_other(file: str) -> None:
    assert ended_after((GOLDEN / file).read_bytes()) == b""


def test_nothing_can_follow_half_an_event_or_what_could_not_be_read() -> None:
    said = (GOLDEN / "cut.sse").read_bytes()
    assert ended_after(said) == b""
    assert ended_after(said + b"\n") == b""
    assert ended_after(b"data: {oops\n\n") == b""
    assert ended_after(whole_events("text.sse")[0][:-1]) == b""


def test_what_is_no_stream_has_no_ending() -> None:
    assert anthropic.ending(asked(streams=False), ModelAnswered(), "stopped") == b""
    assert anthropic.ending(asked(), Answered(), "stopped") == b""


CLASSES = {
    400: (sdk.BadRequestError, "invalid_request_error"),
    403: (sdk.PermissionDeniedError, "permission_error"),
    404: (sdk.NotFoundError, "not_found_error"),
    408: (sdk.APIStatusError, "timeout_error"),
    413: (sdk.APIStatusError, "request_too_large"),
    500: (sdk.InternalServerError, "api_error"),
    502: (sdk.InternalServerError, "api_error"),
    503: (sdk.InternalServerError, "overloaded_error"),
    504: (sdk.InternalServerError, "timeout_error"),
}


@pytest.mark.parametrize(
    "code",
    [
        "bad_host",
        "destination_denied",
        "route_unknown",
        "request_timeout",
        "body_bytes",
        "internal",
        "connect_failed",
        "draining",
        "connect_timeout",
    ],
)
def test_the_sdk_raises_the_class_of_the_status(client: sdk.Anthropic, upstream: Upstream, code: str) -> None:
    upstream.spoken = anthropic.error(Refused(code, "why"), asked())
    expected, kind = CLASSES[CODES[code].status]
    with pytest.raises(expected) as raised:
        listened(client)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body == {"type": "error", "error": {"type": kind, "message": f"{code}: why"}, "request_id": None}


@pytest.mark.parametrize(("code", "tries"), [("stopped", 1), ("policy_failed", 1), ("bad_host", 1)])
def test_the_sdk_does_not_try_again_what_cannot_help(client: sdk.Anthropic, upstream: Upstream, code: str, tries: int) -> None:
    upstream.spoken = anthropic.error(Refused(code), None)
    with pytest.raises(sdk.APIStatusError):
        listened(client.with_options(max_retries=1))
    assert upstream.asked == tries


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_said_in_anthropics_words(code: str) -> None:
    spoken = anthropic.error(Refused(code), None)
    told = json.loads(spoken.body)
    assert (spoken.status, spoken.content_type) == (CODES[code].status, "application/json")
    assert told["error"]["message"] == f"{code}: {CODES[code].advice}"
    assert told["error"]["type"].endswith(("_error", "_large"))


def test_text_that_is_no_unicode_does_not_break_the_answer() -> None:
    assert json.loads(anthropic.error(Refused("bad_target", "/caf\udce9"), None).body)["error"]["message"] == "bad_target: /caf?"

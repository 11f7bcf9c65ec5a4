import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sidecar.dialects import gemini
from sidecar.dialects.dialect import Heading, Spoken
from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.errors import CODES, Refused

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
NO_SDK = "the official client is not installed (pip install google-genai)"


def asked(streams: bool = True) -> ModelAsked:
    verb = "streamGenerateContent" if streams else "generateContent"
    return gemini.request("generate_content", Heading("POST", f"/v1beta/models/gemini-2.5-flash:{verb}"), b"{}")


def ended_after(stream: bytes, content_type: str = "text/event-stream") -> bytes:
    reader = gemini.reader(asked(), 200, content_type, {})
    reader.feed(stream)
    return gemini.ending(asked(), reader.answered, "stopped")


def whole_events(file: str) -> list[bytes]:
    return [each + b"\r\n\r\n" for each in (GOLDEN / file).read_bytes().split(b"\r\n\r\n")[:-1]]


def test_an_ending_says_the_usage_so_far_and_the_length_limit() -> None:
    ending = ended_after(b"".join(whole_events("text.sse")[:2]))
    assert ending.startswith(b"data: ") and ending.endswith(b"\n\n")
    assert json.loads(ending[6:]) == {
        "candidates": [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "mLkfabc123",
    }


def test_an_ending_reads_as_what_it_is() -> None:
    for count in range(3):
        said = b"".join(whole_events("tools.sse")[:1] + whole_events("vertex_cached.sse")[:count])
        reader = gemini.reader(asked(), 200, "text/event-stream", {})
        reader.feed(said)
        before = reader.answered
        assert isinstance(before, ModelAnswered)
        usage = before.usage
        reader.feed(gemini.ending(asked(), before, "stopped"))
        reader.end()
        assert (before.is_ended, before.finish_reasons, before.usage) == (True, ["MAX_TOKENS"], usage)


def test_an_ending_before_anything_is_a_whole_answer() -> None:
    for nothing in (ended_after(b""), gemini.ending(asked(), ModelAnswered(), "stopped")):
        assert json.loads(nothing[6:])["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize("file", ["text.array.json", "compact.array.json"])
def test_an_array_is_closed_after_any_of_its_elements(file: str) -> None:
    data = (GOLDEN / file).read_bytes()
    elements = json.loads(data)
    ends, at = [0], 0
    decoder = json.JSONDecoder()
    text = data.decode()
    for _ in elements:
        _, at = decoder.raw_decode(text, text.index("{", at))
        ends.append(len(text[:at].encode()))
    for count, end in enumerate(ends):
        whole = json.loads(data[:end] + ended_after(data[:end], "application/json"))
        assert whole[:count] == elements[:count]
        assert whole[-1]["candidates"][0]["finishReason"] == ("STOP" if count == len(elements) else "MAX_TOKENS")
    assert json.loads(b"[" + ended_after(b"[", "application/json"))[0]["candidates"]
    assert ended_after(data, "application/json") == b""


@pytest.mark.parametrize("file", ["text.sse", "unavailable.sse", "blocked.sse"])
def test_what_has_its_end_gets_no_other(file: str) -> None:
    assert ended_after((GOLDEN / file).read_bytes()) == b""


def test_nothing_can_follow_half_a_piece_or_what_could_not_be_read() -> None:
    assert ended_after((GOLDEN / "cut.sse").read_bytes()) == b""
    assert ended_after((GOLDEN / "unavailable_bare.sse").read_bytes()) == b""
    assert ended_after(b"data: {oops\r\n\r\n") == b""
    assert ended_after(b'[{"candidates"', "application/json") == b""


def test_what_is_no_stream_has_no_ending() -> None:
    assert gemini.ending(asked(streams=False), ModelAnswered(), "stopped") == b""
    assert gemini.ending(asked(), Answered(), "stopped") == b""


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_said_in_googles_words(code: str) -> None:
    spoken = gemini.error(Refused(code), asked())
    told = json.loads(spoken.body)["error"]
    assert (spoken.status, spoken.content_type) == (CODES[code].status, "application/json")
    assert (told["code"], told["message"]) == (CODES[code].status, f"{code}: {CODES[code].advice}")
    assert told["details"] == [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code.upper(), "domain": "sidecar"}]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("bad_host", "INVALID_ARGUMENT"),
        ("body_bytes", "INVALID_ARGUMENT"),
        ("destination_denied", "PERMISSION_DENIED"),
        ("route_unknown", "NOT_FOUND"),
        ("internal", "INTERNAL"),
        ("connect_failed", "UNAVAILABLE"),
        ("draining", "UNAVAILABLE"),
        ("idle_timeout", "DEADLINE_EXCEEDED"),
    ],
)
def test_each_status_has_its_word(code: str, status: str) -> None:
    assert json.loads(gemini.error(Refused(code), None).body)["error"]["status"] == status


@pytest.mark.parametrize(("seconds", "delay"), [(3.0, "3s"), (0.2, "1s"), (-1.0, "0s")])
def test_when_to_try_again_is_said_where_it_is_known(seconds: float, delay: str) -> None:
    told = json.loads(gemini.error(Refused("draining", retry_after_s=seconds), None).body)["error"]
    assert told["details"][1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def test_text_that_is_no_unicode_does_not_break_the_answer() -> None:
    assert json.loads(gemini.error(Refused("bad_target", "/caf\udce9"), None).body)["error"]["message"] == "bad_target: /caf?"


class Upstream(HTTPServer):
    """Says what it was told to, to whoever asks."""

    spoken = Spoken(200, "text/event-stream", b"")


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        spoken = self.server.spoken
        self.send_response(spoken.status)
        self.send_header("content-type", spoken.content_type)
        self.send_header("content-length", str(len(spoken.body)))
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
def client(upstream: Upstream) -> Iterator[Any]:
    genai = pytest.importorskip("google.genai", reason=NO_SDK)
    with genai.Client(api_key="x", http_options={"base_url": f"http://127.0.0.1:{upstream.server_port}"}) as client:
        yield client


def test_the_sdk_takes_a_stream_that_we_end_after_any_of_its_events(client: Any, upstream: Upstream) -> None:
    said = whole_events("text.sse")
    for count in range(len(said)):
        so_far = b"".join(said[:count])
        upstream.spoken = Spoken(200, "text/event-stream", so_far + ended_after(so_far))
        chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi"))
        assert len(chunks) == count + 1
        assert chunks[-1].candidates[0].finish_reason == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("code", "kind"), [("bad_host", "ClientError"), ("draining", "ServerError"), ("internal", "ServerError")]
)
def test_the_sdk_raises_the_class_of_the_status(client: Any, upstream: Upstream, code: str, kind: str) -> None:
    errors = pytest.importorskip("google.genai.errors", reason=NO_SDK)
    upstream.spoken = gemini.error(Refused(code, "why"), asked())
    for call in (client.models.generate_content, lambda **kwargs: list(client.models.generate_content_stream(**kwargs))):
        with pytest.raises(getattr(errors, kind)) as raised:
            call(model="gemini-2.5-flash", contents="Hi")
        assert (raised.value.code, raised.value.message) == (CODES[code].status, f"{code}: why")

import json
from typing import Any

import pytest

from sidecar.dialects import a2a
from sidecar.dialects.dialect import Heading
from sidecar.model.asked import A2aAsked
from sidecar.model.content import Content
from tests.dialects.shown import shown
from tests.repository import ROOT

GOLDEN = ROOT / "tests" / "dialects" / "golden" / "a2a"
ASKED = A2aAsked("a2a", "SendStreamingMessage", streams=True)


def golden(name: str) -> Content | None:
    told = json.loads((GOLDEN / f"{name}.json").read_text())
    request, response = told["request"], told["response"]
    body = request["body"].encode()
    asked = a2a.request(told["operation"], Heading(request["method"], request["path"], request["query"], fields=request["fields"]), body)
    return a2a.content(asked, body, response["body"].encode(), response["content_type"])


def said(*events: Any) -> list[str]:
    stream = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    found = a2a.content(ASKED, b"", stream, "text/event-stream")
    assert found is not None
    return shown(found.output)


@pytest.mark.parametrize("binding", ["rpc_03", "rpc_10", "rest_03", "rest_10"])
@pytest.mark.parametrize(
    ("name", "sent", "answered"),
    [
        ("send", ["user: pack"], ["assistant: socks"]),
        ("stream", ["user: pack"], ["assistant: socks"]),
        ("send_message", ["user: message"], ["assistant: just so"]),
        ("stream_message", ["user: message"], ["assistant: just so"]),
        ("get", [], ["assistant: socks"]),
    ],
)
def test_a_golden_transcript_is_what_was_said(binding: str, name: str, sent: list[str], answered: list[str]) -> None:
    found = golden(f"{binding}_{name}")
    assert found is not None
    assert (shown(found.input), shown(found.output)) == (sent, answered)


@pytest.mark.parametrize("name", ["card", "rpc_10_push", "rest_10_list", "rpc_10_extended_card"])
def test_in_other_methods_nothing_is_said(name: str) -> None:
    assert golden(name) is None


def test_an_artifact_that_comes_in_pieces_is_one_message_and_a_status_another() -> None:
    def piece(text: str, *, append: bool) -> Any:
        return {"artifactUpdate": {"taskId": "t", "append": append, "artifact": {"artifactId": "a", "parts": [{"text": text}]}}}

    status = {"statusUpdate": {"taskId": "t", "status": {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "Wait"}]}}}}
    assert said(status, status, piece("so", append=False), piece("cks", append=True)) == ["assistant: Wait", "assistant: socks"]


def test_files_lose_their_bytes_and_data_is_text() -> None:
    new = [{"raw": "AAAA", "mediaType": "image/png"}, {"url": "https://x.example/a.pdf", "mediaType": "application/pdf"}, {"data": {"a": 1}}]
    old = [
        {"kind": "file", "file": {"bytes": "AAAA", "mimeType": "image/png"}},
        {"kind": "file", "file": {"uri": "https://x.example/a.pdf", "mimeType": "application/pdf"}},
        {"kind": "data", "data": {"a": 1}},
    ]
    for parts in (new, old):
        assert said({"message": {"messageId": "m", "parts": parts}}) == [
            'assistant: <image/png image> | <https://x.example/a.pdf document> | {"a":1}'
        ]

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.dialects import a2a
from sidecar.dialects.a2a.questions import A2aCall
from sidecar.dialects.dialect import Dialect, Heading, Unreadable
from sidecar.dialects.jsonrpc import SIDECAR_ERROR
from sidecar.model.answered import A2aAnswered
from sidecar.model.asked import A2aAsked, Asked
from sidecar.model.change import Clamp, IncludeUsage, Meta
from sidecar.model.errors import CODES, Refused
from tests.repository import ROOT

GOLDEN = sorted((ROOT / "tests" / "dialects" / "golden" / "a2a").glob("*.json"))
WITHOUT_SDK = "the official SDK is not installed (pip install 'a2a-sdk[http-server]>=1.3')"

RPC = A2aCall("a2a", "SendStreamingMessage", streams=True, protocol_version="1.0", raw_id=b'"7"', id="7")
REST = A2aCall("a2a", "SendStreamingMessage", streams=True, protocol_version="1.0", binding="HTTP+JSON")


def test_it_is_a_dialect() -> None:
    dialect: Dialect = a2a
    assert dialect.name == "a2a"


# transcripts of the official SDK


def told(thing: Any) -> dict[str, Any]:
    """What is not as it is by default."""
    return {key: value for key, value in asdict(thing).items() if value and key not in ("raw_id", "dialect")}


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_transcript_is_understood_however_it_is_split(path: Path) -> None:
    golden = json.loads(path.read_text())
    request, response = golden["request"], golden["response"]
    heading = Heading(request["method"], request["path"], request["query"], fields=request["fields"])
    operation = a2a.operation(heading)
    asked = a2a.request(operation, heading, request["body"].encode())
    assert (operation, told(asked)) == (golden["operation"], golden["asked"])
    content = response["body"].encode()
    is_stream = response["content_type"].startswith("text/event-stream")
    for at in range(0, len(content) + 1, 1 if is_stream else 97):
        reader = a2a.reader(asked, response["status"], response["content_type"], {})
        reader.feed(content[:at])
        reader.feed(content[at:])
        reader.end()
        assert told(reader.answered) == golden["answered"]


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_client_that_names_no_version_is_understood_by_its_body(path: Path) -> None:
    golden = json.loads(path.read_text())
    request = golden["request"]
    if golden["operation"] != "call":
        return
    heading = Heading(request["method"], request["path"], fields={"content-type": "application/json"})
    assert a2a.operation(heading) == "message"
    assert told(a2a.request("message", heading, request["body"].encode())) == golden["asked"]


def test_there_are_transcripts_of_both_versions_and_bindings() -> None:
    names = {"_".join(path.stem.split("_")[:2]) for path in GOLDEN}
    assert {"rpc_10", "rpc_03", "rest_10", "rest_03", "card"} <= names


def test_after_a_cut_what_had_been_seen_is_known() -> None:
    golden = json.loads((ROOT / "tests/dialects/golden/a2a/rpc_10_stream.json").read_text())
    content = golden["response"]["body"].encode()
    reader = a2a.reader(RPC, 200, "text/event-stream", {})
    reader.feed(content[: content.index(b"TASK_STATE_COMPLETED")])
    assert isinstance(reader.answered, A2aAnswered)
    assert (reader.answered.state, reader.answered.is_ended, reader.answered.content_bytes) == ("TASK_STATE_WORKING", False, 5)
    assert reader.answered.task == golden["answered"]["task"]


# errors


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_said_in_both_bindings(code: str) -> None:
    refused, meaning = Refused(code), CODES[code]
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code.upper(), "domain": "agent-sre-sidecar",
        "metadata": {"fault": meaning.fault.value, "retry": "true" if meaning.retry else "false", "advice": meaning.advice},
    }  # fmt: skip
    message = f"{code}: {meaning.advice}"
    spoken = a2a.error(refused, RPC)
    assert (spoken.status, spoken.content_type) == (meaning.status, "application/json")
    assert json.loads(spoken.body) == {
        "jsonrpc": "2.0", "id": "7", "error": {"code": SIDECAR_ERROR, "message": message, "data": [info]},
    }  # fmt: skip
    spoken = a2a.error(refused, REST)
    error = json.loads(spoken.body)["error"]
    assert (spoken.status, error["code"], error["message"], error["details"]) == (meaning.status, meaning.status, message, [info])
    assert error["status"].isupper()


@pytest.mark.parametrize(
    ("raw_id", "id"), [(b"7", 7), (b'"7"', "7"), (b'"\\u0061"', "a"), (b"", None)], ids=["number", "text", "escaped", "none"]
)
def test_an_error_has_the_id_of_the_call_in_its_type(raw_id: bytes, id: Any) -> None:
    assert json.loads(a2a.error(Refused("draining"), A2aCall("a2a", "GetTask", raw_id=raw_id)).body)["id"] == id


@pytest.mark.parametrize(
    "asked", [None, Asked("a2a", "message"), A2aAsked("a2a", "GetTask")], ids=["nobody", "unread", "without id"]
)
def test_a_call_that_was_not_read_is_answered_as_json_rpc_without_an_id(asked: Asked | None) -> None:
    assert json.loads(a2a.error(Refused("draining"), asked).body)["id"] is None


def test_who_asks_for_a_card_speaks_rest() -> None:
    assert json.loads(a2a.error(Refused("draining"), Asked("a2a", "GetAgentCard")).body)["error"]["status"] == "UNAVAILABLE"


def test_text_that_is_no_unicode_and_text_without_end_do_not_break_the_answer() -> None:
    for asked in (RPC, REST):
        error = json.loads(a2a.error(Refused("bad_target", "/caf\udce9" + 2000 * "x"), asked).body)["error"]
        assert error["message"].startswith("bad_target: /caf?xx")
        assert len(error["message"]) == 512


# endings


def test_a_cut_stream_ends_with_an_error_and_makes_no_state_up() -> None:
    rpc, rest = (a2a.ending(asked, A2aAnswered(state="TASK_STATE_WORKING", task="t"), "stopped") for asked in (RPC, REST))
    assert rpc.startswith(b"\n\nevent: error\ndata: {")
    assert rpc.endswith(b"}\n\n")
    assert json.loads(rpc[21:])["id"] == "7"
    assert json.loads(rest[21:])["error"]["status"] == "UNAVAILABLE"
    assert b"TASK_STATE" not in rpc + rest


def test_a_stream_at_its_end_needs_no_other_and_a_body_cannot_have_one() -> None:
    assert a2a.ending(RPC, A2aAnswered(is_ended=True), "stopped") == b""
    assert a2a.ending(A2aAsked("a2a", "SendMessage"), A2aAnswered(), "stopped") == b""


@pytest.mark.parametrize("asked", [RPC, REST], ids=["JSONRPC", "HTTP+JSON"])
@pytest.mark.parametrize("begun", [b"", b"data: {", b"data: {}\n", b": ping", b"data: {}\r\n\r\n"])
def test_our_own_reader_takes_an_ending_for_what_it_is(asked: A2aCall, begun: bytes) -> None:
    reader = a2a.reader(asked, 200, "text/event-stream", {})
    reader.feed(begun)
    reader.feed(a2a.ending(asked, reader.answered, "stopped"))
    assert reader.answered.is_ended
    assert reader.answered.error_message.startswith("stopped: ")


# changes


def test_no_change_is_taken_and_who_asks_is_told() -> None:
    for change in (Clamp(5), IncludeUsage(), Meta(b"00-1-2-3")):
        with pytest.raises(Unreadable):
            a2a.edit(RPC, b'{"jsonrpc":"2.0"}', change)
        assert a2a.takes_out(RPC, change) is None


# what an application sees

Answer = Callable[[web.Request, Asked], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def agent(answer: Answer) -> AsyncIterator[str]:
    """An agent whose every answer is `answer`'s."""

    async def receive(request: web.Request) -> web.StreamResponse:
        fields = {name.lower(): value for name, value in request.headers.items()}
        heading = Heading(request.method, request.path, request.query_string, fields=fields)
        return await answer(request, a2a.request(a2a.operation(heading), heading, await request.read()))

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def official(url: str, binding: str, version: str) -> AsyncIterator[Any]:
    """The official client of an agent with this one interface, through no proxy."""
    import httpx
    from a2a.client import ClientConfig, ClientFactory
    from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface

    interface = AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
    card = AgentCard(name="a", supported_interfaces=[interface], capabilities=AgentCapabilities(streaming=True))
    fields = {"A2A-Version": version} if version == "1.0" else {}
    async with httpx.AsyncClient(trust_env=False, headers=fields) as http:
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding])
        yield ClientFactory(config).create(card)


SPOKEN = [(binding, version) for binding in ("JSONRPC", "HTTP+JSON") for version in ("1.0", "0.3")]


@pytest.mark.parametrize(("binding", "version"), SPOKEN)
@pytest.mark.parametrize("code", ["draining", "body_bytes", "connect_timeout", "route_unknown"])
async def test_the_official_client_raises_for_a_refused_call_what_it_raises_for_that_status(
    code: str, binding: str, version: str
) -> None:
    sdk = pytest.importorskip("a2a.client.errors", reason=WITHOUT_SDK)
    errors = pytest.importorskip("a2a.utils.errors", reason=WITHOUT_SDK)
    from a2a.types.a2a_pb2 import GetTaskRequest

    ours: list[bool] = [True]

    async def answer(request: web.Request, asked: Asked) -> web.StreamResponse:
        spoken = a2a.error(Refused(code), asked)
        body = spoken.body if ours[0] else b"<html>"
        return web.Response(status=spoken.status, content_type=spoken.content_type if ours[0] else "text/html", body=body)

    raised: list[BaseException] = []
    async with asyncio.timeout(10), agent(answer) as url, official(url, binding, version) as client:
        for is_ours in (True, False):
            ours[0] = is_ours
            with pytest.raises((sdk.A2AClientError, errors.A2AError)) as caught:
                await client.get_task(GetTaskRequest(id="t"))
            raised.append(caught.value)
    assert type(raised[0]) is type(raised[1])
    assert str(CODES[code].status) in str(raised[0]) or CODES[code].status == 404


@pytest.mark.parametrize(("binding", "version"), SPOKEN)
async def test_the_official_client_raises_for_a_cut_stream_what_it_raises_for_a_broken_connection(
    binding: str, version: str
) -> None:
    sdk = pytest.importorskip("a2a.client.errors", reason=WITHOUT_SDK)
    from a2a.helpers.proto_helpers import new_text_message
    from a2a.types.a2a_pb2 import Role, SendMessageRequest

    name = ("rpc" if binding == "JSONRPC" else "rest") + "_" + version.replace(".", "") + "_stream"
    events = json.loads((ROOT / f"tests/dialects/golden/a2a/{name}.json").read_text())["response"]["body"].encode()
    begun = b"\n\n".join(events.replace(b"\r\n", b"\n").split(b"\n\n")[:2]) + b"\n\n"

    async def answer(request: web.Request, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(begun + a2a.ending(asked, A2aAnswered(), "stopped"))
        return response

    async with asyncio.timeout(10), agent(answer) as url, official(url, binding, version) as client:
        events = client.send_message(SendMessageRequest(message=new_text_message("x", role=Role.ROLE_USER)))
        assert (await anext(events)).task.id
        await anext(events)
        with pytest.raises(sdk.A2AClientError, match="stopped"):
            await anext(events)

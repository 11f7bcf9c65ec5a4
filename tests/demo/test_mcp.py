from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.demo.mcp import VERSION, WeatherTools
from tests.demo.peer import events, serving

META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture
async def post() -> AsyncIterator[Any]:
    async with serving(WeatherTools(pace=0).application()) as (url, session):

        def post(message: Any, **headers: str) -> Any:
            wire = {"MCP-Protocol-Version": VERSION} | {name.replace("_", "-"): value for name, value in headers.items()}
            return session.post(f"{url}/mcp", json=message, headers=wire)

        yield post


def request(method: str, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "a1", "method": method, "params": params | {"_meta": META | (meta or {})}}


async def answer(response: Any) -> tuple[int, Any]:
    async with response as got:
        return got.status, await got.json()


async def test_it_says_what_it_is(post: Any) -> None:
    status, message = await answer(post(request("server/discover"), Mcp_Method="server/discover"))
    assert status == 200
    assert message["result"]["supportedVersions"] == [VERSION]
    assert message["result"]["resultType"] == "complete"


async def test_it_lists_its_tool_with_a_time_to_live(post: Any) -> None:
    _, message = await answer(post(request("tools/list"), Mcp_Method="tools/list"))
    result = message["result"]
    assert message["id"] == "a1"
    assert [tool["name"] for tool in result["tools"]] == ["get_weather"]
    assert (result["resultType"], result["cacheScope"], result["ttlMs"] > 0) == ("complete", "public", True)


async def test_the_tool_answers_as_json_where_nobody_asked_for_progress(post: Any) -> None:
    call = request("tools/call", name="get_weather", arguments={"city": "Oslo"})
    _, message = await answer(post(call, Mcp_Method="tools/call", Mcp_Name="get_weather"))
    assert message["result"]["content"][0]["text"].startswith("Oslo: ")
    assert message["result"]["isError"] is False


async def test_the_tool_tells_its_progress_in_a_stream_that_ends_with_the_answer(post: Any) -> None:
    call = request("tools/call", meta={"progressToken": "p7"}, name="get_weather", arguments={"city": "Oslo"})
    async with post(call, Mcp_Method="tools/call", Mcp_Name="get_weather") as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        progress, last = events(await response.read())
    assert (progress["method"], progress["params"]["progressToken"]) == ("notifications/progress", "p7")
    assert (last["id"], last["result"]["resultType"]) == ("a1", "complete")


@pytest.mark.parametrize(
    "params", [{"name": "get_time"}, {"name": "get_weather"}, {"name": "get_weather", "arguments": {"city": 5}}]
)
async def test_wrong_arguments_are_invalid_params(post: Any, params: dict[str, Any]) -> None:
    status, message = await answer(post(request("tools/call", **params), Mcp_Method="tools/call", Mcp_Name=params["name"]))
    assert (status, message["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("headers", [{"Mcp_Method": "tools/list"}, {}, {"Mcp_Method": "tools/call", "Mcp_Name": "other"}])
async def test_headers_have_to_agree_with_the_body(post: Any, headers: dict[str, str]) -> None:
    status, message = await answer(post(request("tools/call", name="get_weather"), **headers))
    assert (status, message["error"]["code"], message["id"]) == (400, -32020, "a1")


async def test_the_version_has_to_be_in_the_header_as_well(post: Any) -> None:
    status, message = await answer(post(request("tools/list"), Mcp_Method="tools/list", MCP_Protocol_Version="2025-11-25"))
    assert (status, message["error"]["code"]) == (400, -32020)


async def test_an_older_version_is_told_which_ones_there_are(post: Any) -> None:
    old = request("tools/list", meta={"io.modelcontextprotocol/protocolVersion": "2025-11-25"})
    status, message = await answer(post(old, Mcp_Method="tools/list"))
    assert (status, message["error"]["code"], message["error"]["data"]) == (400, -32022, {"supported": [VERSION]})


async def test_an_unknown_method_is_not_found(post: Any) -> None:
    status, message = await answer(post(request("initialize"), Mcp_Method="initialize"))
    assert (status, message["error"]["code"]) == (404, -32601)


@pytest.mark.parametrize("params", [{}, {"_meta": {}}, {"_meta": 5}, []])
async def test_a_request_without_meta_is_invalid(post: Any, params: Any) -> None:
    status, message = await answer(post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}))
    assert (status, message["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("message", [[], {"jsonrpc": "1.0"}, {"jsonrpc": "2.0", "id": 1}, {"jsonrpc": "2.0", "method": "notify"}])
async def test_what_is_no_request_is_refused(post: Any, message: Any) -> None:
    status, got = await answer(post(message))
    assert (status, got["error"]["code"]) == (400, -32600)


async def test_it_is_stateless_so_get_and_delete_are_not_allowed() -> None:
    async with serving(WeatherTools().application()) as (url, session):
        for method in ("GET", "DELETE"):
            async with session.request(method, f"{url}/mcp") as response:
                assert response.status == 405
        async with session.post(f"{url}/mcp", data=b"{") as response:
            assert (await response.json())["error"]["code"] == -32700

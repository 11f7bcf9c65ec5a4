"""
The official MCP conformance suite finds in a server what it finds in it through the sidecar: the same checks, the same results.

What the servers themselves get wrong is theirs; that there is much which they get right is what makes the comparison worth something.
"""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.asked import McpAsked
from tests.peers.node import Program, needs_node, run
from tests.scene import Opened
from tests.sidecar_under_test import SidecarUnderTest, config_for

pytestmark = needs_node

SUITE = "@modelcontextprotocol/conformance/dist/index.js"
SERVER = "@modelcontextprotocol/server-everything/dist/index.js"
REBINDING = "server-dns-rebinding-protection"

Results = dict[str, list[tuple[str, str, str]]]
"""Of each scenario the checks: their id, their result, and what went wrong."""


async def judged(url: str, version: str, folder: Path) -> Results:
    """What the suite says of the server at a URL."""
    folder.mkdir()
    _, said = await run(SUITE, "server", "--url", url, "--spec-version", version, "--suite", "all", "-o", ".", folder=folder)
    results: Results = {}
    place = re.compile(r"(127\.0\.0\.1|localhost):\d+(/llm)?|[0-9a-f]{32}|[0-9a-f-]{36}|\d+ ?ms")
    for path in sorted(folder.glob("server-*/checks.json")):
        checks = json.loads(path.read_bytes())
        scenario = re.sub(r"-20\d\d-\d\d-\d\dT[\d-]+Z$", "", path.parent.name)
        results[scenario] = [
            (check["id"], check["status"], place.sub("…", check.get("errorMessage") or ""))
            for check in checks
        ]  # fmt: skip
    assert results, said
    return results


def count(results: Results) -> Counter[str]:
    return Counter(status for checks in results.values() for _, status, _ in checks)


async def compare(
    opened: Opened, twins: tuple[str, str], path: str, version: str, folder: Path
) -> tuple[Results, Results, SidecarUnderTest]:
    """
    The results of one server, those of its twin with the sidecar in between, and the sidecar.

    They are two because both are asked at the same time: sessions that share a store of events see each other's.
    """
    alone, upstream = twins
    sidecar = await opened(SidecarUnderTest(config_for(upstream, upstream={"url": upstream})))
    direct, through = await asyncio.gather(
        judged(alone + path, version, folder / "direct"), judged(f"{sidecar.url}/llm{path}", version, folder / "through")
    )
    return direct, through, sidecar


def differing(direct: Results, through: Results) -> dict[str, Any]:
    """The scenarios whose results differ, and those that only one of them has."""
    return {
        scenario: (direct.get(scenario), through.get(scenario))
        for scenario in direct.keys() | through.keys()
        if through.get(scenario) != direct.get(scenario)
    }


async def test_the_everything_server_is_judged_the_same_through_the_sidecar(opened: Opened, tmp_path: Path) -> None:
    server, twin = await opened(Program(SERVER, "streamableHttp")), await opened(Program(SERVER, "streamableHttp"))
    direct, through, _ = await compare(opened, (server.url, twin.url), "/mcp", "2025-11-25", tmp_path)
    unprotected = direct.pop(REBINDING)
    assert [check[1] for check in unprotected] == ["FAILURE", "SUCCESS"]
    protected = through.pop(REBINDING)  # by the sidecar, which stands before it
    assert [check[1] for check in protected] == ["SUCCESS", "SUCCESS"]
    assert differing(direct, through) == {}
    assert count(direct)["SUCCESS"] >= 30


@pytest.mark.filterwarnings("ignore:.* deprecated as of 2026-07-28")
@pytest.mark.parametrize(
    ("path", "version", "successes"), [("/polled", "2025-11-25", 60), ("/mcp", "2026-07-28", 110)], ids=["sessions", "stateless"]
)
async def test_a_python_server_is_judged_the_same_through_the_sidecar(
    opened: Opened, tmp_path: Path, path: str, version: str, successes: int
) -> None:
    pytest.importorskip("mcp.server.mcpserver", reason="the official SDK is not installed (pip install 'mcp>=2')")
    from tests.peers.mcp_server import McpServer

    server, twin = await opened(McpServer()), await opened(McpServer())
    direct, through, sidecar = await compare(opened, (server.url, twin.url), path, version, tmp_path)
    assert differing(direct, through) == {}
    assert count(direct)["SUCCESS"] >= successes, count(direct)
    read = [attempt.dialogue for attempt in sidecar.attempts]
    asked = [dialogue.asked for dialogue in read if dialogue is not None]
    assert all(isinstance(each, McpAsked) for each in asked)
    assert {"tools/call", "resources/read", "prompts/get"} <= {each.operation for each in asked}

"""
Show the sidecar at work, on this machine alone: no key, no network.

A small agent (a process of its own that knows nothing but HTTP_PROXY) calls an LLM, an MCP server and an A2A agent (another
process) through a sidecar on free ports. The sidecar exports its spans over OTLP/HTTP to a small backend; what arrived there is
printed as a tree, and checked: the exit code is 1 where anything is missing.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.demo.backend import Span
    from sidecar.demo.peers import Addresses
    from sidecar.terminal.screen import Screen

HELP = "run a small agent through the sidecar and print what it saw"

_PATIENCE_S, _STOP_S = 30.0, 3.0
_PACKAGE = Path(__file__).resolve().parent.parent

_CONFIG = """
traffic:
  listeners: {{http: {{endpoint: 127.0.0.1:0}}}}
  upstreams: {{http/llm: {{url: "{llm}"}}, http/mcp: {{url: "{mcp}"}}, http/a2a: {{url: "{a2a}"}}}}
  routes: {{llm: {{upstream: http/llm}}, mcp: {{upstream: http/mcp}}, a2a: {{upstream: http/a2a}}}}
prices: {{rules: [{{provider: "*", model: demo-1, input: 0.25, output: 2.00}}]}}
receivers: {{traffic: {{}}}}
exporters: {{otlp_http/demo: {{endpoint: "{backend}"}}}}
service: {{pipelines: {{traces: {{receivers: [traffic], exporters: [otlp_http/demo]}}}}}}
"""

_KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - every command is called alike
    """Run the demo; 0 when everything expected was seen, 1 when not, or when a part of it failed."""
    import uvloop

    from sidecar.terminal.screen import Screen

    screen = Screen.of(sys.stdout, os.environ)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            spans, code = runner.run(_play(screen))
    except TimeoutError:
        return _failed(screen, [f"it did not end within {_PATIENCE_S:g} s"])
    if code:
        return _failed(screen, [f"the agent ended with exit code {code}"])
    return _show(spans, screen)


async def _play(screen: "Screen") -> tuple[list["Span"], int]:
    """The whole play; returns what the backend got and the agent's exit code."""
    from sidecar.demo.backend import Backend
    from sidecar.demo.expectation import PACKER, PLANNER
    from sidecar.demo.peers import Addresses, listening

    backend, sockets = Backend(), listening()
    try:
        at = Addresses.of(sockets)
        async with asyncio.timeout(_PATIENCE_S):
            url = await backend.start()
            async with _sidecar(at, url) as proxy:
                _say(screen, f"The sidecar listens on {proxy}; LLM on {at.llm}, MCP on {at.mcp}, A2A on {at.a2a}.")
                async with _endpoints([each.fileno() for each in sockets], proxy.replace("//", f"//{PACKER}:demo@")):
                    known = proxy.replace("//", f"//{PLANNER}:demo@")
                    _say(screen, f"The agent starts, with HTTP_PROXY={known} and nothing else:\n")
                    code = await _agent(at, known, screen)
        return backend.spans, code
    finally:
        await backend.stop()
        for each in sockets:
            each.close()


@asynccontextmanager
async def _sidecar(at: "Addresses", backend: str) -> AsyncIterator[str]:
    """A sidecar with these three upstreams, exporting to this backend; gives its URL. When it ends, everything is exported."""
    from sidecar.app import App
    from sidecar.config import parse
    from sidecar.runtime.runtime import Runtime

    text = _CONFIG.format(llm=at.llm, mcp=at.mcp, a2a=at.a2a, backend=backend)
    app = App(parse(text, source="demo", environ={}), runtime=Runtime(), has_admin=False)
    try:
        await app.start()
        await app.ready()
        yield "http://{}:{}".format(*app.endpoints["traffic.listeners.http"][:2])
    finally:
        await app.stop()


@asynccontextmanager
async def _endpoints(descriptors: list[int], proxy: str) -> AsyncIterator[None]:
    """The process of LLM, MCP and A2A agent, serving; it ends when its standard input is closed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar.demo.peers", *map(str, descriptors),
        pass_fds=descriptors, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**_environ(proxy), "PYTHONPATH": str(_PACKAGE.parent)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _agent(at: "Addresses", proxy: str, screen: "Screen") -> int:
    """Run the agent to its end and print what it says as it says it; returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_PACKAGE / "demo" / "agent.py"), f"{at.llm}/v1", f"{at.mcp}/mcp", at.a2a,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=_environ(proxy),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            print(screen.paint("  agent ", "cyan") + screen.clean(line.decode().rstrip()), flush=True)
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environ(proxy: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a child needs to start at all, and the way to the sidecar."""
    return {name: environ[name] for name in _KEPT if name in environ} | {"HTTP_PROXY": proxy}


def _show(spans: list["Span"], screen: "Screen") -> int:
    from sidecar.demo.expectation import missing
    from sidecar.demo.tree import destination, grow, lines
    from sidecar.terminal.calls import Calls
    from sidecar.terminal.figures import count, dollars

    faults = missing(spans)
    _say(screen, f"\nWhat the sidecar saw, read back from the OTLP backend ({len(spans)} spans):\n")
    print("\n".join(lines(grow(spans), screen)))
    calls = Calls()
    for span in spans:
        if span.kind == "SERVER":
            seen = span.attributes
            calls.add(
                destination(span),
                span.duration_s,
                failed=int(seen.get("http.response.status_code", 0)) >= 400 or "error.type" in seen,
                sent_bytes=int(seen.get("http.request.body.size", 0)),
                received_bytes=int(seen.get("http.response.body.size", 0)),
            )
    print("\n" + "\n".join(calls.table(screen)))
    _say(screen, f"\n{calls.headline()}")
    paid_usd = sum(float(span.attributes.get("sidecar.cost.usd", 0)) for span in spans)
    used = sum(int(span.attributes.get(f"gen_ai.usage.{way}_tokens", 0)) for span in spans for way in ("input", "output"))
    _say(screen, f"{count(used, 'token')}, {dollars(paid_usd)} at the demo's own prices")
    if faults:
        return _failed(screen, faults)
    print(screen.paint("Everything expected was seen.", "green") + " Now your agent: sidecar exec -- python your_agent.py")
    return 0


def _say(screen: "Screen", text: str) -> None:
    print(screen.paint(text, "bold"), flush=True)


def _failed(screen: "Screen", faults: list[str]) -> int:
    for fault in faults:
        print(screen.paint("missing: ", "red") + screen.clean(fault), file=sys.stderr)
    print(screen.paint(f"The demo failed: {faults[0]}", "red"), file=sys.stderr)
    return 1

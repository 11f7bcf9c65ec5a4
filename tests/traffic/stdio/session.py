"""A relay between a client and a server that are lists of bytes, with policies of the test and the facts that were told."""

import json
from collections.abc import Callable
from typing import Any

from sidecar.model.clock import ManualClock
from sidecar.model.facts import AttemptFinished, ExchangeFinished
from sidecar.runtime.runtime import Runtime
from sidecar.traffic.chain import Stage, as_policy
from sidecar.traffic.graph import compile_graph
from sidecar.traffic.spec import RouteSpec, TrafficSpec
from sidecar.traffic.stdio.listener import Config, StdioListener
from sidecar.traffic.upstreams.stdio import Config as UpstreamConfig
from sidecar.traffic.upstreams.stdio import StdioUpstream
from tests.sidecar_under_test import eventually

OK = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"x"}]}}\n'


def request(raw_id: str = "1", method: str = "tools/call", **params: Any) -> bytes:
    return f'{{"jsonrpc":"2.0","id":{raw_id},"method":"{method}","params":{json.dumps({"name": "t", **params})}}}\n'.encode()


async def until(condition: Callable[[], bool]) -> None:
    """Let the filters' tasks go on until this is so."""
    await eventually(condition, "what the filters lead to", within_s=5.0)


class Session:
    """`asked` are the messages that reached the server, `said` those that reached the client, as bytes that were written."""

    def __init__(
        self,
        *policies: tuple[Stage, Callable[..., Any]],
        route: bool = True,
        environ: dict[str, str] | None = None,
        manual: bool = False,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock(monotonic=5.0) if manual else None
        self.runtime = Runtime(environ=environ or {}, **({"clock": self.clock} if self.clock else {}))
        self.facts: list[Any] = []
        self.runtime.bus.listen((AttemptFinished, ExchangeFinished), self.facts.append)
        names = [f"p/{place}" for place in range(len(policies))]
        built = {name: as_policy(name, stage, call) for name, (stage, call) in zip(names, policies, strict=True)}
        spec = RouteSpec(upstream="stdio/tools", policies=tuple(names), **{"trace_in_meta": False, **settings})
        upstream = StdioUpstream("stdio/tools", UpstreamConfig(), self.runtime)
        routes, upstreams = ({"tools": spec}, {"stdio/tools": upstream}) if route else ({}, {})
        self.listener = StdioListener("mcp_stdio", Config(server="tools"), self.runtime)
        self.listener.serve(compile_graph(TrafficSpec(routes=routes), built, upstreams, self.runtime))  # type: ignore[arg-type]  # as the plane, which has them as Any
        self.asked: list[bytes] = []
        self.said: list[bytes] = []
        self.relay = self.listener.relay(self.said.append, self.asked.append)

    def told(self) -> tuple[list[AttemptFinished], list[ExchangeFinished]]:
        self.runtime.bus.deliver()
        attempts = [fact for fact in self.facts if isinstance(fact, AttemptFinished)]
        return attempts, [fact for fact in self.facts if isinstance(fact, ExchangeFinished)]

    def codes(self) -> list[str]:
        """The codes of the sidecar's errors that reached the client."""
        messages = [json.loads(line) for line in b"".join(self.said).splitlines()]
        return [message["error"]["data"]["code"] for message in messages if "error" in message and "data" in message["error"]]

"""
A real agent of the official `a2a-sdk`: its card, JSON-RPC at `/a2a`, HTTP+JSON at `/rest`, both in 1.0 and 0.3, on a free port;
where it is asked to, gRPC of 1.0 on another.

    async with Agent() as agent:
        ... agent.url ...

What it is told decides what it does: `message` gets a message, `fail` a failed task, `ask` one that needs input, anything else a
task that works, gives an artifact and completes. The SDK has to be there: import this file behind `importorskip`.
"""

import asyncio
import socket
from types import TracebackType
from typing import Any

import uvicorn
from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.routes.agent_card_routes import create_agent_card_routes
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.routes.rest_routes import create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentCardSignature,
    AgentInterface,
    AgentSkill,
    Role,
)
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server
from grpc import aio
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware


class _Packer(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        told = context.get_user_input()
        if told == "message":
            await event_queue.enqueue_event(new_text_message("just so", role=Role.ROLE_AGENT))
            return
        assert context.message is not None
        task = context.current_task or new_task_from_user_message(context.message)
        if context.current_task is None:
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        if told == "fail":
            await updater.failed()
            return
        if told == "ask":
            await updater.requires_input()
            return
        await updater.add_artifact([new_text_part("socks")], name="list")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Agent:
    """
    `signed` puts a signature into the card, `coded` compresses it, `grpc` has it speak that too, at `grpc_port`.

    `asked` are the paths that were asked for, in order.
    """

    def __init__(self, *, signed: bool = False, coded: bool = False, grpc: bool = False) -> None:
        self._signed = signed
        self._coded = coded
        self._rpc: Any = aio.server() if grpc else None
        self.grpc_port = 0
        self.asked: list[tuple[str, str]] = []

    async def __aenter__(self) -> "Agent":
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if self._rpc is not None:
            self.grpc_port = self._rpc.add_insecure_port("127.0.0.1:0")
        self._handler = DefaultRequestHandlerV2(_Packer(), InMemoryTaskStore(), self.card, extended_agent_card=self.card)
        routes = [
            *create_agent_card_routes(self.card, cache_control="max-age=60"),
            *create_jsonrpc_routes(self._handler, "/a2a", enable_v0_3_compat=True),
            *create_rest_routes(self._handler, path_prefix="/rest", enable_v0_3_compat=True),
        ]
        if self._rpc is not None:
            add_A2AServiceServicer_to_server(GrpcHandler(self._handler), self._rpc)
            await self._rpc.start()
        app: Any = Starlette(routes=routes)
        if self._coded:
            app = GZipMiddleware(app, minimum_size=1)
        config = uvicorn.Config(self._counting(app), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._handler.aclose()
        if self._rpc is not None:
            await self._rpc.stop(None)
        self._server.should_exit = True
        await self._serving
        self._socket.close()
        watchers = [task for task in asyncio.all_tasks() if "_shutdown_watcher" in repr(task.get_coro())]
        for watcher in watchers:  # sse-starlette starts one for each loop, and leaves it to the loop's end
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    def _counting(self, app: Any) -> Any:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.asked.append((scope["method"], scope["path"]))
            await app(scope, receive, send)

        return counted

    @property
    def card(self) -> AgentCard:
        """The agent's card, as it is served."""
        card = AgentCard(
            name="packer",
            description="Packs suitcases.",
            version="2.1",
            supported_interfaces=[
                AgentInterface(url=f"{self.url}/a2a", protocol_binding="JSONRPC", protocol_version="1.0"),
                AgentInterface(url=f"{self.url}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
                AgentInterface(url=f"{self.url}/a2a", protocol_binding="JSONRPC", protocol_version="0.3"),
                AgentInterface(url=f"{self.url}/rest", protocol_binding="HTTP+JSON", protocol_version="0.3"),
            ],
            capabilities=AgentCapabilities(streaming=True, extended_agent_card=True),
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
            skills=[AgentSkill(id="pack", name="Pack", description="Packs.", tags=["travel"])],
        )
        if self._rpc is not None:
            where = f"127.0.0.1:{self.grpc_port}"
            card.supported_interfaces.append(AgentInterface(url=where, protocol_binding="GRPC", protocol_version="1.0"))
        if self._signed:
            card.signatures.append(AgentCardSignature(protected="e30", signature="c2lnbmF0dXJl"))
        return card

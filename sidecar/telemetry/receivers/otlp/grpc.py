"""OTLP over gRPC: three services with one method each, bytes in and bytes out."""

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from sidecar.model.authority import authority
from sidecar.telemetry.otlp import GRPC_METHODS, status
from sidecar.telemetry.receivers.otlp.intake import Intake, Refusal
from sidecar.telemetry.signals import Signal

if TYPE_CHECKING:
    from sidecar.telemetry.receivers.otlp import GrpcSpec

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def build(spec: "GrpcSpec", intake: Intake) -> "GrpcServer":
    """The server."""
    return GrpcServer(spec, intake)


class GrpcServer:
    """A gRPC server on the loop of the process; grpc.aio does not get along with a second loop."""

    def __init__(self, spec: "GrpcSpec", intake: Intake) -> None:
        self._most_bytes = spec.max_recv_msg_size_mib * 1024 * 1024
        self._intake = intake
        self._server: Any = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where; raises OSError where the port is taken."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._most_bytes),
                ("grpc.so_reuseport", 0),  # a port that is taken is to be an error
            ]
        )
        self._server.add_generic_rpc_handlers([self._handler(signal, method) for signal, method in GRPC_METHODS.items()])
        address = authority(host, port)
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            await self.stop()
            raise OSError(f"cannot listen on {address}: {error}") from None
        await self._server.start()
        return host, bound

    async def stop(self) -> None:
        """Listen no more; calls under way get a second."""
        if self._server is not None:
            await self._server.stop(1.0)
            self._server = None

    def _handler(self, signal: Signal, method: str) -> Any:
        async def export(request: bytes, context: Any) -> bytes:
            try:
                with self._intake.place():
                    await self._intake.take(signal, request, self._most_bytes, protocol="grpc")
            except Refusal as refusal:
                details = status(refusal.grpc_code, str(refusal), retry_after_s=refusal.retry_after_s)
                await context.abort(
                    _CODES[refusal.grpc_code], str(refusal), trailing_metadata=(("grpc-status-details-bin", details),)
                )
            return b""

        _, service, name = method.split("/")
        return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(export)})

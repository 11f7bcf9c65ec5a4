"""What gRPC keeps for the whole process is there before a test looks at what it leaves behind."""

from collections.abc import Iterator

import grpc.aio
import pytest


@pytest.fixture(scope="session", autouse=True)
def grpc_polls_from_the_start() -> Iterator[None]:
    """grpc.aio has one thread that polls and one pair of sockets, from its first use to its last."""
    grpc.aio.init_grpc_aio()
    yield
    grpc.aio.shutdown_grpc_aio()

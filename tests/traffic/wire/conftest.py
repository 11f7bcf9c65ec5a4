"""The test stand of the wire, ended with the test."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.traffic.wire.stand import Stand


@pytest.fixture
async def stand() -> AsyncIterator[Callable[..., Stand]]:
    """`stand(policies..., listener=, upstream=, route=, traffic=)` sets one up."""
    stands: list[Stand] = []

    def set_up(*policies: Any, **settings: Any) -> Stand:
        stands.append(Stand(*policies, **settings))
        return stands[-1]

    yield set_up
    for each in stands:
        await each.stops()

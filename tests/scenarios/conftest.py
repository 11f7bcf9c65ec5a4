"""The sidecar runs on uvloop, hence so do the tests that hold it against the outside world."""

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """Give every test here a loop of the kind that the product uses."""
    return {"uvloop": uvloop.new_event_loop}

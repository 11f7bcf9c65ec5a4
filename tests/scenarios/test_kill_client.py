"""The client dies: at every byte of its request, at every stage of the answer, alone and in crowds."""

import asyncio
import random

import pytest

from tests.peers.echo import EchoUpstream
from tests.peers.wire import PATIENCE_S, Ended, Wire
from tests.scene import CHUNKED, OK, Scene, Stage
from tests.sidecar_under_test import eventually


async def goes(client: Wire, how: str) -> None:
    """Leave by FIN or by RST."""
    await (client.closes() if how == "close" else client.resets())


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_dies_at_any_byte_of_its_request_has_not_sent_one(scene: Scene, framing: str, how: str) -> None:
    if framing == "length":
        raw = scene.request(b"POST", b"/x", b"X-A: b", body=b"hello world")
    else:
        raw = scene.request(b"POST", b"/x", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    for place in range(len(raw)):
        client = await scene.sidecar.connects()
        await client.sends_one_by_one(raw[:place], size=place or 1)
        await goes(client, how)
    await asyncio.sleep(0.05)
    for connection in scene.upstream.connections:
        connection.patience_s = 0.3
        try:
            seen = await connection.request()
        except Ended:
            continue
        except AssertionError:  # nothing came: it was dialled for a client that died, and is kept for the next
            assert connection.received == b""
        else:
            pytest.fail(f"a request that was never sent: {seen.head!r}")
        connection.patience_s = PATIENCE_S
    await scene.still_works()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("read", [0, 1, 20, 60, 90])
async def test_a_client_that_dies_while_it_reads_takes_its_upstream_along(scene: Scene, read: int, how: str) -> None:
    await scene.client.sends(scene.request())
    connection = await scene.upstream.hears()
    await connection.request()
    await connection.sends(CHUNKED + b"28\r\n" + b"x" * 40 + b"\r\n")
    if read:
        await scene.client.reads(read)
    await goes(scene.client, how)
    await connection.saw_end()
    assert (await scene.sidecar.finished()).error == "client_gone"
    await scene.still_works()


async def test_a_client_that_dies_after_its_answer_costs_nothing(scene: Scene) -> None:
    await scene.passes(scene.request())
    await scene.client.resets()
    await scene.still_works()
    assert len(scene.upstream.connections) == 1, "the upstream's connection was not to blame, and is used again"
    assert [exchange.error for exchange in scene.sidecar.exchanges[:1]] == [""]


async def test_a_crowd_that_leaves_in_mid_stream_leaves_nothing_behind(stage: Stage, mode: str) -> None:
    scene = await stage()
    clients = [await scene.sidecar.connects(f"client {number}") for number in range(100)]
    connections = []
    for client in clients:
        await client.sends(scene.request())
        connection = await scene.upstream.accepts()
        await connection.request()
        await connection.sends(CHUNKED + b"5\r\nhello\r\n")
        connections.append(connection)
    for place, client in enumerate(clients):
        await goes(client, "reset" if place % 2 else "close")
    for connection in connections:
        await connection.saw_end()
    await eventually(lambda: len(scene.sidecar.exchanges) == 100, "the end of every exchange")
    assert {exchange.error for exchange in scene.sidecar.exchanges} == {"client_gone"}
    await scene.still_works()


async def test_a_storm_of_good_and_dying_clients_mixes_nothing_up(stage: Stage, mode: str) -> None:
    """Every client that stays gets its own answer, byte for byte, whatever the others do."""
    scene = await stage(peer=EchoUpstream(), upstream={"max_connections": 8})
    chance = random.Random(20261120)

    async def stays(number: int) -> None:
        client = await scene.sidecar.connects(f"client {number}")
        for turn in range(5):
            mark = b"%d-%d-" % (number, turn) + b"x" * chance.randrange(3_000)
            await client.sends(scene.request(b"POST", b"/" + mark[:10], body=mark))
            response = await client.response()
            assert response.status == 200
            assert mark in response.body
        client.close()

    async def dies(number: int) -> None:
        client = await scene.sidecar.connects(f"dying client {number}")
        raw = scene.request(b"POST", b"/dying", body=b"dying" * 500)
        await client.sends(raw[: chance.randrange(len(raw) + 1)])
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        await goes(client, chance.choice(["close", "reset"]))

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(stays(number))
            group.create_task(dies(number))
    assert len(scene.upstream.seen) >= 300
    scene.client = await scene.sidecar.connects()
    await scene.client.sends(scene.request())
    assert (await scene.client.response()).status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_dies_behind_an_error_of_ours_costs_nothing(scene: Scene, how: str) -> None:
    for _ in range(50):
        client = await scene.sidecar.connects()
        await client.sends(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        await goes(client, how)
    await scene.still_works()


async def test_a_client_that_dies_with_pipelined_requests_has_the_rest_of_them_dropped(scene: Scene) -> None:
    await scene.client.sends(scene.request(b"GET", b"/1") + scene.request(b"DELETE", b"/2") + scene.request(b"DELETE", b"/3"))
    connection = await scene.upstream.hears()
    assert (await connection.request()).target == b"/base/1"
    await scene.client.closes()
    await connection.saw_end()
    await scene.upstream.hears_nothing()
    await connection.sends_if_open(OK)
    await scene.still_works()

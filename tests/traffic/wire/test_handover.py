"""A call that becomes a tunnel keeps its exchange and attempt, and tells of them once, with the bytes of both directions."""

from collections.abc import Callable

from tests.traffic.wire.stand import Stand

UPGRADE = (
    b"GET /llm/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_the_facts_come_once_when_both_sides_have_ended(stand: Callable[..., Stand]) -> None:
    scene = stand()
    far, near = scene.connection(), scene.client()
    near.says(UPGRADE)
    far.takes()
    far.says(ACCEPTED + b"hello")
    near.says(b"four")
    assert scene.exchanges == []
    assert [exchange.status for exchange in scene.listener.exchanges()] == [101]
    near.protocol.eof_received()
    far.protocol.eof_received()
    [exchange], [attempt] = scene.exchanges, scene.attempts
    assert (exchange.status, exchange.error, attempt.status, attempt.error) == (101, "", 101, "")
    assert (exchange.request_bytes, exchange.response_bytes) == (attempt.sent_bytes, attempt.received_bytes)
    assert scene.listener.exchanges() == []


async def test_an_operator_can_stop_a_tunnel(stand: Callable[..., Stand]) -> None:
    scene = stand()
    far, near = scene.connection(), scene.client()
    near.says(UPGRADE)
    far.says(ACCEPTED)
    [exchange] = scene.listener.exchanges()
    exchange.stop("enough")
    assert (near.ended, far.ended) == ("reset", "reset")
    assert [fact.error for fact in scene.exchanges] == ["stopped"]

from collections.abc import Callable

import pytest

from sidecar.runtime.runtime import Runtime
from sidecar.traffic.wire.outbox import ALONE_S, Outbox, outbox_of
from tests.traffic.wire.stand import CHUNKED, Stand, request, turns


class Writing:
    """Counts its flushes; adds itself, or another, while it is flushed."""

    def __init__(self, outbox: Outbox, then: "Writing | None" = None) -> None:
        self.outbox = outbox
        self.then = then
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1
        then, self.then = self.then, None
        if then is not None:
            self.outbox.add(then)


async def test_what_is_due_is_written_together_once() -> None:
    outbox = Outbox()
    writers = [Writing(outbox) for _ in range(3)]
    for writer in writers:
        outbox.add(writer)
    assert [writer.flushed for writer in writers] == [0, 0, 0]
    await turns(1)
    assert [writer.flushed for writer in writers] == [1, 1, 1]
    await turns()
    assert [writer.flushed for writer in writers] == [1, 1, 1]


async def test_a_writer_that_fails_keeps_none_behind_it_waiting(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def flush(self) -> None:
            raise RuntimeError("no transport")

    outbox = Outbox()
    writers = [Writing(outbox) for _ in range(3)]
    for writer in (writers[0], Failing(), writers[1], Failing(), writers[2]):
        outbox.add(writer)
    await turns(1)
    assert [writer.flushed for writer in writers] == [1, 1, 1]
    assert outbox.is_crowded
    assert caplog.text.count("RuntimeError: no transport") == 1, "once a minute"


async def test_what_becomes_due_meanwhile_has_its_turn() -> None:
    outbox = Outbox()
    second = Writing(outbox)
    first = Writing(outbox, second)
    outbox.add(first)
    await turns()
    assert (first.flushed, second.flushed) == (1, 1)
    outbox.add(first)
    await turns()
    assert (first.flushed, second.flushed) == (2, 1)


async def test_a_turn_with_more_than_one_writer_is_crowded_and_one_with_a_single_writer_is_not() -> None:
    outbox = Outbox()
    assert not outbox.is_crowded
    for count, crowded in ((2, True), (3, True), (1, False), (2, True)):
        for writer in [Writing(outbox) for _ in range(count)]:
            outbox.add(writer)
        await turns()
        assert outbox.is_crowded is crowded


async def test_a_lone_write_goes_at_once_and_those_that_follow_closely_go_together(stand: Callable[..., Stand]) -> None:
    wire = stand()
    wire.runtime.services["traffic.outbox"] = wire.listener.outbox = wire.pool.outbox = Outbox(wire.clock)
    far, near = wire.connection(), wire.client()
    near.says(request())
    assert far.written, "nobody else writes: there is nothing to wait for"
    far.written = b""
    wire.clock.advance(ALONE_S / 2)
    far.says(CHUNKED + b"1\r\na\r\n")
    far.says(b"1\r\nb\r\n")
    assert near.written == b""
    await turns()
    assert near.writes == 1
    assert near.written.endswith(b"1\r\na\r\n1\r\nb\r\n")
    wire.clock.advance(2 * ALONE_S)
    far.says(b"1\r\nc\r\n")
    assert near.written.endswith(b"1\r\nc\r\n"), "alone again"


def test_all_of_a_runtime_share_one() -> None:
    runtime = Runtime()
    assert outbox_of(runtime) is outbox_of(runtime)
    assert outbox_of(runtime) is not outbox_of(Runtime())

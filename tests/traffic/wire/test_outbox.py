from sidecar.traffic.wire.outbox import Outbox
from tests.traffic.wire.stand import turns


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

from sidecar.model.clock import ManualClock
from sidecar.traffic.wire.outbox import ALONE_S, Outbox
from sidecar.traffic.wire.outlet import WRITE_HIGH_BYTES, Outlet
from tests.traffic.wire.stand import turns
from tests.traffic.wire.transport import FakeTransport


class Speaker(Outlet):
    """A protocol that says nothing by itself."""

    def connection_made(self, transport: FakeTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by the test."""


def speaker(outbox: Outbox) -> tuple[Speaker, FakeTransport]:
    made = Speaker(outbox)
    return made, FakeTransport(made)


def crowded_outbox() -> Outbox:
    outbox = Outbox(ManualClock(monotonic=1.0))
    outbox.is_crowded = True
    return outbox


async def test_a_lone_write_leaves_at_once_and_the_next_ones_of_the_turn_together() -> None:
    clock = ManualClock(monotonic=1.0)
    outlet, far = speaker(Outbox(clock))
    outlet.write(b"a")
    assert (far.written, outlet.out) == (b"a", b"")
    outlet.write(b"b")
    outlet.write(b"c")
    assert (far.written, outlet.out) == (b"a", b"bc")
    await turns()
    assert (far.written, far.writes) == (b"abc", 2)
    clock.advance(2 * ALONE_S)
    outlet.write(b"d")
    assert far.written == b"abcd"


async def test_what_waits_is_never_overtaken() -> None:
    clock = ManualClock(monotonic=1.0)
    outlet, far = speaker(Outbox(clock))
    outlet.write(b"a")
    outlet.write(b"b")
    clock.advance(1.0)
    outlet.write(b"c")
    assert (far.written, outlet.out) == (b"a", b"bc")
    await turns()
    assert far.written == b"abc"


async def test_too_much_for_one_turn_is_written_before_its_end() -> None:
    outlet, far = speaker(crowded_outbox())
    outlet.write(b"x" * (WRITE_HIGH_BYTES - 1))
    assert far.written == b""
    outlet.write(b"y")
    assert len(far.written) == WRITE_HIGH_BYTES
    await turns()
    assert far.writes == 1


async def test_whoever_wants_to_know_learns_whether_anything_has_gone() -> None:
    outlet, far = speaker(crowded_outbox())
    outlet.write(b"a")
    assert not outlet.has_written
    await turns()
    assert outlet.has_written
    lone, _ = speaker(Outbox(ManualClock(monotonic=1.0)))
    lone.write(b"a")
    assert lone.has_written
    assert far.written == b"a"


async def test_nothing_is_written_to_a_connection_that_is_closing() -> None:
    outlet, far = speaker(crowded_outbox())
    outlet.write(b"a")
    far.close()
    await turns()
    lone, gone = speaker(Outbox(ManualClock(monotonic=1.0)))
    gone.close()
    lone.write(b"a")
    assert (far.written, gone.written) == (b"", b"")

from sidecar.traffic.wire.call import Call
from sidecar.traffic.wire.here import CallHere
from tests.traffic.wire.stand import Stand, error_of, request, status_of


async def test_what_asks_about_the_sidecar_itself_is_answered_here() -> None:
    wire = Stand()
    near = wire.client()
    near.says(request(b"OPTIONS", b"*"))
    assert status_of(near.takes()) == 204
    near.says(request(b"TRACE", b"/llm/x", b"Max-Forwards: 0"))
    assert status_of(near.takes()) == 200
    near.says(request(b"GET", b"*"))
    assert error_of(near.takes()) == "bad_target"
    assert [fact.status for fact in wire.exchanges] == [204, 200, 400]
    assert wire.attempts == []
    await wire.stops()


def test_it_is_a_call_that_only_begins_in_another_way() -> None:
    assert issubclass(CallHere, Call)
    assert [name for name in vars(CallHere) if not name.startswith("__")] == ["begin"]

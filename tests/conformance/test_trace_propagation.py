"""A hop of W3C Trace Context (level 2) and Baggage, as the upstream sees it. Malformed headers never fail a call."""

import re

import pytest

from tests.peers.wire import Message
from tests.scene import OK, Scene, Stage

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"
VALID = b"traceparent: 00-%s-%s-01" % (TRACE, PARENT)
FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def parent_of(message: Message) -> tuple[bytes, bytes, int]:
    """Trace id, parent id and flags of the one traceparent."""
    match = FORM.fullmatch(message.one(b"traceparent"))
    assert match, message.head
    trace, parent, flags = match.groups()
    assert trace != b"0" * 32
    assert parent != b"0" * 16
    return trace, parent, int(flags, 16)


async def sees(scene: Scene, *fields: bytes) -> Message:
    """What the upstream sees of a call with these fields."""
    return await scene.passes(scene.request(b"GET", b"/x", *fields))


# ── traceparent ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_valid_parent_keeps_its_trace_and_gets_a_new_span(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = [parent_of(await sees(scene, VALID)) for _ in range(3)]
    assert {trace for trace, _, _ in seen} == {TRACE}
    assert len({parent for _, parent, _ in seen} | {PARENT}) == 4, "each outgoing request has an id of its own"


async def test_without_a_parent_a_new_trace_begins(stage: Stage, mode: str) -> None:
    scene = await stage()
    traces = {parent_of(await sees(scene))[0] for _ in range(3)}
    assert len(traces) == 3


async def test_the_agents_span_the_exchange_and_the_attempt_are_a_chain(stage: Stage, mode: str) -> None:
    scene = await stage()
    _, parent, _ = parent_of(await sees(scene, VALID))
    exchange = await scene.sidecar.finished()
    (attempt,) = scene.sidecar.attempts
    assert exchange.parent_id == bytes.fromhex(PARENT.decode())
    assert attempt.parent_id == exchange.span_id
    assert attempt.span_id == bytes.fromhex(parent.decode())
    assert exchange.trace_id == attempt.trace_id == bytes.fromhex(TRACE.decode())


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TraceParent", b"TRACEPARENT", b"tRaCePaReNt"])
async def test_the_name_is_case_insensitive(stage: Stage, name: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, name + b": 00-%s-%s-01" % (TRACE, PARENT))
    assert parent_of(seen)[0] == TRACE


@pytest.mark.parametrize("name", [b"trace-parent", b"trace.parent", b"traceparen", b"x-traceparent"])
async def test_names_that_look_alike_are_other_fields(stage: Stage, name: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, name + b": 00-%s-%s-01" % (TRACE, PARENT))
    assert parent_of(seen)[0] != TRACE
    assert seen.one(name).startswith(b"00-")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"00-%s-%s" % (TRACE, PARENT),
        b"00-%s-%s-" % (TRACE, PARENT),
        b"00-%s-%s-0" % (TRACE, PARENT),
        b"00-%s-%s-001" % (TRACE, PARENT),
        b"00-%s-%s-01-" % (TRACE, PARENT),
        b"00-%s-%s-01-extra" % (TRACE, PARENT),
        b"00-%s-%s-01." % (TRACE, PARENT),
        b"00-%s-%s-0g" % (TRACE, PARENT),
        b"00-%s-%s-0A" % (TRACE, PARENT),
        b"00-%s-%s-01" % (b"0" * 32, PARENT),
        b"00-%s-%s-01" % (TRACE, b"0" * 16),
        b"00-%s-%s-01" % (TRACE.upper(), PARENT),
        b"00-%s-%s-01" % (TRACE, PARENT.upper()),
        b"00-%s-%s-01" % (TRACE[1:], PARENT),
        b"00-%s0-%s-01" % (TRACE, PARENT),
        b"00-%s-%s-01" % (TRACE, PARENT[1:]),
        b"00-%s-%s0-01" % (TRACE, PARENT),
        b"00-%s-%s-01" % (b"." + TRACE[1:], PARENT),
        b"00-%s-%s-01" % (TRACE, b"g" + PARENT[1:]),
        b"0-%s-%s-01" % (TRACE, PARENT),
        b"000-%s-%s-01" % (TRACE, PARENT),
        b".0-%s-%s-01" % (TRACE, PARENT),
        b"0A-%s-%s-01" % (TRACE, PARENT),
        b"ff-%s-%s-01" % (TRACE, PARENT),
        b"01-%s-%s-01." % (TRACE, PARENT),
        b"cc-%s-%s-01.what" % (TRACE, PARENT),
        b"00_%s_%s_01" % (TRACE, PARENT),
        b"00-%s-%s-01,00-%s-%s-01" % (TRACE, PARENT, TRACE, PARENT),
        b"00 -%s-%s-01" % (TRACE, PARENT),
        "００-".encode() + TRACE + b"-" + PARENT + b"-01",
    ],
)
async def test_an_invalid_parent_begins_a_new_trace_and_drops_the_state(stage: Stage, value: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, b"traceparent: " + value, b"tracestate: foo=1")
    assert parent_of(seen)[0] != TRACE
    assert not seen.has(b"tracestate")


async def test_two_parents_are_none(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, VALID.replace(b"traceparent", b"TraceParent"), b"tracestate: foo=1")
    assert parent_of(seen)[0] != TRACE
    assert not seen.has(b"tracestate")


async def test_a_state_without_a_parent_is_dropped(stage: Stage) -> None:
    scene = await stage()
    seen = await sees(scene, b"tracestate: foo=1")
    parent_of(seen)
    assert not seen.has(b"tracestate")


@pytest.mark.parametrize("value", [b" \t00-%s-%s-01\t " % (TRACE, PARENT), b"00-%s-%s-01   " % (TRACE, PARENT)])
async def test_white_space_around_the_parent_is_stripped(stage: Stage, value: bytes) -> None:
    scene = await stage()
    assert parent_of(await sees(scene, b"traceparent:" + value))[0] == TRACE


@pytest.mark.parametrize("version", [b"01", b"cc", b"fe"])
@pytest.mark.parametrize("rest", [b"", b"-", b"-what-ever", b"-1.2"])
async def test_a_higher_version_is_read_as_far_as_we_know_it_and_sent_as_ours(stage: Stage, version: bytes, rest: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, b"traceparent: %s-%s-%s-01%s" % (version, TRACE, PARENT, rest), b"tracestate: a=1")
    assert parent_of(seen)[0] == TRACE
    assert seen.one(b"tracestate") == b"a=1"


@pytest.mark.parametrize(("flags", "sent"), [(b"00", 0), (b"01", 1), (b"02", 2), (b"03", 3), (b"ff", 3), (b"fc", 0), (b"09", 1)])
async def test_known_flags_are_carried_and_others_cleared(stage: Stage, flags: bytes, sent: int) -> None:
    scene = await stage()
    seen = await sees(scene, b"traceparent: 00-%s-%s-%s" % (TRACE, PARENT, flags))
    assert parent_of(seen)[2] == sent


async def test_a_new_trace_says_that_its_id_is_random(stage: Stage) -> None:
    """Level 2: the random-trace-id flag of who generated the id."""
    scene = await stage()
    assert parent_of(await sees(scene))[2] & 0x02


async def test_a_call_that_is_not_sampled_is_passed_on_so_and_still_a_fact(stage: Stage) -> None:
    scene = await stage()
    seen = await sees(scene, b"traceparent: 00-%s-%s-00" % (TRACE, PARENT))
    assert parent_of(seen)[2] & 0x01 == 0
    exchange = await scene.sidecar.finished()
    assert exchange.flags & 0x01 == 0
    assert exchange.status == 200


async def test_each_try_has_an_id_of_its_own(stage: Stage) -> None:
    """A GET that is sent again after its reused connection died."""
    scene = await stage()
    await scene.passes(scene.request())
    first = scene.upstream.taken[0]
    await scene.client.sends(scene.request(b"GET", b"/again", VALID))
    one = parent_of(await first.request())
    await first.closes()
    two = parent_of(await scene.asks())
    assert (await scene.client.response()).status == 200
    assert one[0] == two[0] == TRACE
    assert one[1] != two[1]


# ── tracestate ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value",
    [
        b"foo=1",
        b"foo=1,bar=2",
        b"a=" + b"v" * 256,
        b"k" * 256 + b"=1",
        b"a-_*/@0=1",
        b"0a=1",
        b"t@v=1",
        b"a@b@c=1",
        b"foo=!\"#$%&'()*+-./09:;<>?@AZ[\\]^_`az{|}~",
        b"foo=a b",
        b",".join(b"k%d=1" % number for number in range(32)),
    ],
)
async def test_a_valid_state_is_passed_on(stage: Stage, mode: str, value: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, b"tracestate: " + value)
    assert seen.one(b"tracestate") == value


@pytest.mark.parametrize("name", [b"tracestate", b"TraceState", b"TRACESTATE"])
async def test_the_name_of_the_state_is_case_insensitive(stage: Stage, name: bytes) -> None:
    scene = await stage()
    assert (await sees(scene, VALID, name + b": foo=1")).one(b"tracestate") == b"foo=1"


@pytest.mark.parametrize("name", [b"trace-state", b"trace.state"])
async def test_names_that_look_like_the_state_are_other_fields(stage: Stage, name: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, name + b": foo=1")
    assert not seen.has(b"tracestate")


async def test_repeated_states_are_joined_in_order(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await sees(scene, b"tracestate: foo=1", VALID, b"tracestate:", b"TraceState: bar=2,baz=3")
    assert [member for member in seen.one(b"tracestate").split(b",") if member] == [b"foo=1", b"bar=2", b"baz=3"]


@pytest.mark.parametrize(
    "value", [b"foo=1 , bar=2", b"foo=1\t,\tbar=2", b" foo=1,bar=2 ", b"foo=1,,bar=2", b"foo=1,bar=2,", b",foo=1, ,bar=2"]
)
async def test_white_space_and_empty_members_are_no_part_of_a_state(stage: Stage, value: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, b"tracestate: " + value)
    members = [member.strip(b" \t") for member in seen.one(b"tracestate").split(b",")]
    assert [member for member in members if member] == [b"foo=1", b"bar=2"]


@pytest.mark.parametrize(
    "value",
    [
        b"foo",
        b"foo=",
        b"=1",
        b"foo=1=2",
        b"FOO=1",
        b"foo =1",
        b"foo@=1,@foo=1",
        b"@foo=1",
        b"fo.o=1",
        b"foo=1;bar=2,a:b=1",
        b"foo=\x80",
        b"foo=a\tb",
        b"k" * 257 + b"=1",
        b"foo=" + b"v" * 257,
        b"good=1,BAD=2",
        b",".join(b"k%d=1" % number for number in range(33)),
    ],
)
async def test_one_illegal_member_discards_the_state_and_keeps_the_parent(stage: Stage, value: bytes) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, b"tracestate: " + value)
    assert parent_of(seen)[0] == TRACE
    assert not seen.has(b"tracestate")


async def test_thirty_three_members_over_several_fields_are_too_many(stage: Stage) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, *(b"tracestate: k%d=1" % number for number in range(33)))
    assert not seen.has(b"tracestate")


async def test_duplicate_keys_are_kept_or_become_one(stage: Stage) -> None:
    scene = await stage()
    seen = await sees(scene, VALID, b"tracestate: foo=1,foo=2")
    assert seen.one(b"tracestate") in (b"foo=1,foo=2", b"foo=1")


# ── baggage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_baggage_stays_here_unless_the_route_allows_it(stage: Stage, mode: str) -> None:
    scene = await stage()
    assert not (await sees(scene, b"baggage: a=1", b"Baggage: b=2")).has(b"baggage")


async def test_baggage_goes_to_a_route_that_may_have_it(stage: Stage, mode: str) -> None:
    scene = await stage(route={"baggage": True})
    seen = await sees(scene, b"baggage: a=1;p=2", b"Baggage: b=%C3%A9")
    members = [member.strip() for value in seen.all(b"baggage") for member in value.split(b",")]
    assert members == [b"a=1;p=2", b"b=%C3%A9"]


async def test_baggage_does_not_go_to_unknown_destinations(stage: Stage) -> None:
    scene = await stage(mode="forward", base="http://upstream.invalid", destinations={"allow_loopback": True})
    assert not (await sees(scene, b"baggage: a=1")).has(b"baggage")


# ── upgrades and answers ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_upgrade_is_traced_as_well(stage: Stage, mode: str) -> None:
    scene = await stage()
    await scene.client.sends(scene.request(b"GET", b"/ws", b"Connection: upgrade", b"Upgrade: websocket", VALID))
    connection = await scene.upstream.hears()
    assert parent_of(await connection.head())[0] == TRACE


async def test_trace_fields_of_a_response_are_passed_on_as_they_are(stage: Stage) -> None:
    scene = await stage()
    response = await scene.answered(OK.replace(b"\r\n\r\n", b"\r\ntraceparent: 00-1\r\ntracestate: x\r\nbaggage: y\r\n\r\n", 1))
    assert [response.one(name) for name in (b"traceparent", b"tracestate", b"baggage")] == [b"00-1", b"x", b"y"]

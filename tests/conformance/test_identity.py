"""Who calls: Proxy-Authorization, then x-agent-id and x-agent-task-id, then W3C baggage, then config or environment."""

import base64

import pytest

from sidecar.model.facts import ExchangeFinished
from tests.scene import Scene, Stage

USERS = {"users": {"robot": "s3cret:with colon", "other": "x"}}


def basic(user: str, password: str) -> bytes:
    """A Proxy-Authorization field (RFC 7617)."""
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode())


async def identified(scene: Scene, *fields: bytes) -> ExchangeFinished:
    """Make a call with these fields; returns the exchange as it was published."""
    count = len(scene.sidecar.exchanges)
    await scene.passes(scene.request(b"GET", b"/x", *fields))
    return await scene.sidecar.finished(count + 1)


# ── where a name comes from ──────────────────────────────────────────────────────────────────────────────────────────

ALL = [
    (basic("from-proxy", ""), "agent", "from-proxy"),
    (b"x-agent-id: from-header", "agent", "from-header"),
    (b"baggage: agent.id=from-baggage", "agent", "from-baggage"),
]


async def test_each_source_of_an_agents_name_goes_before_the_next(stage: Stage, mode: str) -> None:
    scene = await stage(identity={"agent": "from-config"})
    for place, (_, _, name) in enumerate(ALL):
        exchange = await identified(scene, *(field for field, _, _ in ALL[place:]))
        assert exchange.agent == name
    assert (await identified(scene)).agent == "from-config"


async def test_each_source_of_a_task_goes_before_the_next(stage: Stage, mode: str) -> None:
    scene = await stage(identity={"task": "from-config"})
    fields = [b"X-Agent-Task-Id: from-header", b"baggage: agent.task.id=from-baggage"]
    assert (await identified(scene, *fields)).task == "from-header"
    assert (await identified(scene, fields[1])).task == "from-baggage"
    assert (await identified(scene)).task == "from-config"


async def test_agent_and_task_may_come_from_different_sources(stage: Stage) -> None:
    scene = await stage()
    exchange = await identified(scene, basic("me", "whatever"), b"baggage: a=b, agent.task.id=t%201;ttl=3,agent.id=no")
    assert (exchange.agent, exchange.task) == ("me", "t 1")


async def test_the_attempt_carries_the_same_names_as_its_exchange(stage: Stage) -> None:
    scene = await stage()
    await identified(scene, b"x-agent-id: a", b"x-agent-task-id: t")
    assert [(attempt.agent, attempt.task) for attempt in scene.sidecar.attempts] == [("a", "t")]


async def test_the_environment_names_the_agent_where_nothing_else_does(stage: Stage) -> None:
    scene = await stage(environ={"SIDECAR_AGENT_ID": "from-env", "SIDECAR_AGENT_TASK_ID": "task-from-env"})
    exchange = await identified(scene)
    assert (exchange.agent, exchange.task) == ("from-env", "task-from-env")


async def test_nobody_is_nobody(stage: Stage) -> None:
    scene = await stage()
    exchange = await identified(scene)
    assert (exchange.agent, exchange.task) == ("", "")


@pytest.mark.parametrize(
    "field",
    [
        b"baggage: agent.id",
        b"baggage: agent.id=",
        b"baggage: =x",
        b"baggage: agent.id=%zz",
        b"baggage: " + b"x" * 9_000,
        b"baggage: agent.id=\xff",
        b"baggage: ;;,,=;",
    ],
)
async def test_malformed_baggage_never_fails_a_request(stage: Stage, field: bytes) -> None:
    scene = await stage()
    assert (await identified(scene, field)).status == 200


async def test_a_very_long_name_is_bounded(stage: Stage) -> None:
    scene = await stage()
    exchange = await identified(scene, b"x-agent-id: " + b"n" * 5_000)
    assert len(exchange.agent) <= 1_024


async def test_repeated_names_do_no_harm(stage: Stage) -> None:
    scene = await stage()
    exchange = await identified(scene, b"x-agent-id: one", b"x-agent-id: two")
    assert exchange.agent in ("one", "two", "one, two", "one,two")


# ── what the upstream sees of it ─────────────────────────────────────────────────────────────────────────────────────


async def test_identity_never_reaches_the_upstream(stage: Stage, mode: str) -> None:
    scene = await stage()
    seen = await scene.passes(
        scene.request(
            b"GET",
            b"/x",
            basic("me", "pw"),
            b"X-AGENT-ID: a",
            b"x-agent-task-id: t",
            b"baggage: agent.id=b,k=v",
            b"Authorization: Bearer keep",
        )
    )
    for name in (b"proxy-authorization", b"x-agent-id", b"x-agent-task-id", b"baggage"):
        assert not seen.has(name), name
    assert seen.one(b"authorization") == b"Bearer keep"


# ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_right_password_opens(stage: Stage, mode: str) -> None:
    scene = await stage(listener=USERS)
    exchange = await identified(scene, basic("robot", "s3cret:with colon"))
    assert exchange.agent == "robot"


@pytest.mark.parametrize(
    "field",
    [
        None,
        basic("robot", "wrong"),
        basic("nobody", "x"),
        basic("robot", ""),
        basic("", ""),
        basic("robot", "x"),
        b"Proxy-Authorization: Basic",
        b"Proxy-Authorization: Basic !!!",
        b"Proxy-Authorization: Basic cm9ib3Q=",
        b"Proxy-Authorization: Bearer s3cret",
        b"Proxy-Authorization:",
        b"Authorization: Basic " + base64.b64encode(b"robot:s3cret:with colon"),
        b"x-agent-id: robot",
    ],
)
async def test_without_the_right_password_it_is_a_407(stage: Stage, mode: str, field: bytes | None) -> None:
    """RFC 9110 section 11.7.1: with a challenge."""
    scene = await stage(listener=USERS)
    await scene.client.sends(scene.request(b"GET", b"/x", *([field] if field else [])))
    response = await scene.sidecar.refuses(scene.client, "proxy_auth_required")
    assert response.one(b"proxy-authenticate").lower().startswith(b"basic ")
    assert b"s3cret" not in response.head + response.body
    await scene.upstream.hears_nothing(for_s=0.02)


async def test_two_credentials_are_not_one_of_them(stage: Stage) -> None:
    scene = await stage(listener=USERS)
    await scene.client.sends(scene.request(b"GET", b"/x", basic("robot", "wrong"), basic("robot", "s3cret:with colon")))
    response = await scene.client.response()
    assert response.status in (400, 407)
    await scene.upstream.hears_nothing(for_s=0.02)


async def test_a_407_leaves_the_connection_open_for_the_second_try(stage: Stage) -> None:
    """Clients such as curl and Java try without credentials first, and then again on the same connection."""
    scene = await stage(listener=USERS)
    await scene.client.sends(scene.request())
    response = await scene.client.response()
    assert response.status == 407
    await identified(scene, basic("other", "x"))


async def test_connect_needs_the_password_as_well(stage: Stage) -> None:
    scene = await stage(listener=USERS)
    connect = b"CONNECT %s HTTP/1.1\r\nHost: a\r\n" % scene.upstream.authority.encode()
    await scene.client.sends(connect + b"\r\n")
    response = await scene.client.response(to=b"GET")
    assert response.status == 407
    assert response.has(b"proxy-authenticate")
    await scene.upstream.accepts_nothing(for_s=0.02)
    second = await scene.sidecar.connects()
    await second.sends(connect + basic("robot", "s3cret:with colon") + b"\r\n\r\n")
    far = await scene.upstream.accepts()
    assert (await second.head()).status == 200
    await second.closes()
    await far.closes()
    assert (await scene.sidecar.finished(2)).agent == "robot"


async def test_the_scheme_is_case_insensitive(stage: Stage) -> None:
    """RFC 9110 section 11.1."""
    scene = await stage(listener=USERS)
    exchange = await identified(scene, basic("other", "x").replace(b"Basic", b"bAsIc"))
    assert exchange.agent == "other"


async def test_a_name_in_unicode_is_read_as_utf_8(stage: Stage) -> None:
    scene = await stage()
    assert (await identified(scene, basic("ägent", ""))).agent == "ägent"

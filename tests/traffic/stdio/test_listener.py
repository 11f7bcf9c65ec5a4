from sidecar.dialects.mcp.questions import message_of
from sidecar.runtime.runtime import Runtime, State
from sidecar.traffic.places import Places
from sidecar.traffic.stdio.listener import MOST_PASSAGES, SERVICE, Config, build
from tests.traffic.stdio.session import Session, request


def test_the_command_finds_the_listener_among_the_services() -> None:
    runtime = Runtime()
    listener = build("mcp_stdio", Config(server="tools"), runtime)
    assert runtime.services[SERVICE] is listener and listener.exchanges() == []


async def test_it_lives_like_any_listener_of_the_plane() -> None:
    session = Session()
    listener = session.listener
    await listener.start()
    listener.limit_to(Places(1))
    listener.take_over(listener.hand_over())
    listener.forget(listener.graph)
    assert listener.health().state is State.OK and listener.endpoint == ("stdio", 0)
    session.relay.client_sends(request())
    assert len(listener.exchanges()) == 1
    listener.stop_accepting()
    assert (await listener.drain(1.0), listener.health().state, listener.exchanges()) == (1, State.STOPPED, [])
    await listener.stop()
    await listener.stop()
    assert [fact.error for fact in session.told()[1]] == ["client_gone"]


def test_calls_of_one_tool_share_what_is_known_of_them() -> None:
    listener = Session(environ={"SIDECAR_AGENT_ID": "bot"}).listener
    first, second = (listener.begin(message_of(request(raw_id))) for raw_id in ("1", "2"))
    assert first.passage is second.passage and (first.agent, first.passage.path) == ("bot", "t")
    for place in range(MOST_PASSAGES):
        listener.begin(message_of(request(name=f"t{place}")))
    assert listener.begin(message_of(request())).passage is not first.passage


def test_what_names_no_tool_has_no_path() -> None:
    exchange = Session().listener.begin(message_of(b'{"id":1,"method":"resources/read","params":{"uri":"memo://1"}}'))
    assert (exchange.passage.path, exchange.fields) == ("", [b"resources/read - MCP"])


def test_baggage_is_that_of_meta() -> None:
    exchange = Session().listener.begin(message_of(request(_meta={"baggage": "k=v"})))
    assert exchange.baggage == (b"k=v",)

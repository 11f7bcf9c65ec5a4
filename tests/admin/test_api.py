"""The paths, without a network: what each of them says, does, and refuses."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sidecar
from sidecar.admin.access import Access
from sidecar.admin.api import Api
from sidecar.admin.exchanges import Exchanges
from sidecar.admin.messages import PROTOBUF, Answer, Call
from sidecar.admin.refusals import ADMIN_CODES
from sidecar.admin.token import Token
from sidecar.model.errors import CODES, ConfigFault, ConfigInvalid
from sidecar.model.facts import OperationPerformed
from sidecar.pb.agent_sre.sidecar.admin.v1.exchanges_pb2 import FollowExchangesResponse, ListExchangesResponse
from sidecar.runtime.runtime import Health, State
from tests.admin.app import App
from tests.admin.seen import attempt_finished, exchange_finished, exchange_in_flight

LOCAL = Call(method="GET", target="/", headers=(("host", "localhost"),), local="127.0.0.1", caller="token from 127.0.0.1")
OVER_UNIX = Call(method="POST", target="/", caller="unix socket, uid 7")


@pytest.fixture
def exchanges(app: App) -> Exchanges:
    made = Exchanges(app.runtime)
    made.start()
    return made


@pytest.fixture
def api(app: App, exchanges: Exchanges, tmp_path: Path) -> Api:
    token = Token(tmp_path / "token")
    token.write()
    return Api(app.runtime, app.operations, app.views, exchanges, Access(token, is_loopback=True))


def body(answer: Answer) -> Any:
    assert answer.content_type == "application/json"
    return json.loads(answer.body)


async def get(api: Api, target: str, **headers: str) -> Answer:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return await api.answer(replace(LOCAL, target=target, headers=LOCAL.headers + fields))


async def post(api: Api, target: str, sent: bytes = b"", content_type: str = "application/json") -> Answer:
    return await api.answer(replace(OVER_UNIX, target=target, body=sent, headers=(("content-type", content_type),)))


async def test_healthz_says_that_the_process_is_alive(api: Api) -> None:
    answer = await get(api, "/healthz")
    assert (answer.status, body(answer)) == (200, {"status": "ok"})


async def test_readyz_shows_every_component_and_a_degraded_one_does_not_keep_traffic_out(api: Api) -> None:
    answer = await get(api, "/readyz")
    assert (answer.status, body(answer)) == (200, {
        "ready": True,
        "components": {
            "traffic.listeners.http": {"ready": True, "state": "ok", "reason": ""},
            "exporters.file": {"ready": True, "state": "degraded", "reason": "disk is slow"},
        },
    })  # fmt: skip


@pytest.mark.parametrize("health", [Health(State.STARTING), Health(State.STOPPED, "draining"), Health(State.FAILED, "no port")])
async def test_readyz_is_503_while_one_component_is_not_ready(api: Api, app: App, health: Health) -> None:
    app.components["traffic.listeners.http"] = health
    answer = await get(api, "/readyz")
    assert answer.status == 503
    assert body(answer)["ready"] is False
    assert body(answer)["components"]["traffic.listeners.http"] == {
        "ready": False, "state": health.state, "reason": health.reason,
    }  # fmt: skip


async def test_readyz_is_503_before_there_are_components(api: Api, app: App) -> None:
    app.components.clear()
    assert (await get(api, "/readyz")).status == 503


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_metrics_come_in_the_form_that_was_asked_for(api: Api, app: App, accept: str, content_type: str) -> None:
    app.live = [exchange_in_flight(), exchange_in_flight(1)]
    answer = await get(api, "/metrics", accept=accept)
    assert answer.pieces is not None
    text = "".join(answer.pieces)
    assert (answer.content_type, answer.headers["Vary"]) == (content_type, "Accept")
    assert "sidecar_build_info{" in text
    assert "process_open_fds " in text
    assert "http_server_active_requests 2\n" in text
    assert text.endswith("# EOF\n") is accept.startswith("application")


async def test_metrics_in_a_form_that_we_do_not_have_are_not_acceptable(api: Api) -> None:
    answer = await get(api, "/metrics", accept="application/json")
    assert (answer.status, body(answer)["error"]) == (406, "not_acceptable")


async def test_version_config_and_errors_are_shown(api: Api, app: App) -> None:
    assert body(await get(api, "/api/v1/version"))["version"] == sidecar.__version__
    assert body(await get(api, "/api/v1/config")) == app.config
    errors = body(await get(api, "/api/v1/errors"))
    assert set(errors["calls"]) == set(CODES)
    assert set(errors["admin"]) == set(ADMIN_CODES)
    assert errors["calls"]["dns_failed"] == {
        "status": 502, "fault": "upstream", "retry": True, "advice": CODES["dns_failed"].advice,
    }  # fmt: skip


async def test_exchanges_in_flight_stand_before_the_finished_ones(api: Api, app: App) -> None:
    for number in range(3):
        app.runtime.bus.publish(attempt_finished(number))
        app.runtime.bus.publish(exchange_finished(number))
    app.live = [exchange_in_flight(10), exchange_in_flight(11)]
    shown = body(await get(api, "/api/v1/exchanges"))["exchanges"]
    found = [(each["state"], int(each["span_id"], 16) - 1) for each in shown]
    assert found == [("live", 11), ("live", 10), ("finished", 2), ("finished", 1), ("finished", 0)]


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("state=live", ["live"]), ("state=finished", ["finished", "finished"]), ("limit=2", ["live", "finished"]),
        ("limit=0", []),
        ("agent=other", ["finished"]), ("status=error", ["finished"]), ("route=nowhere", []),
    ],
)  # fmt: skip
async def test_exchanges_are_filtered_alike_in_flight_and_finished(api: Api, app: App, query: str, states: list[str]) -> None:
    app.runtime.bus.publish(exchange_finished(0, agent="other", status=500))
    app.runtime.bus.publish(exchange_finished(1))
    app.live = [exchange_in_flight(2)]
    shown = body(await get(api, f"/api/v1/exchanges?{query}"))["exchanges"]
    assert [each["state"] for each in shown] == states


async def test_a_query_that_cannot_be_read_is_refused(api: Api) -> None:
    for path in ("/api/v1/exchanges?limit=all", "/api/v1/exchanges/stream?colour=red"):
        answer = await get(api, path)
        assert (answer.status, body(answer)["error"]) == (400, "bad_query")


async def test_the_stream_is_an_event_stream(api: Api, app: App, exchanges: Exchanges) -> None:
    app.runtime.bus.publish(exchange_finished(0))
    answer = await get(api, "/api/v1/exchanges/stream?limit=1")
    assert answer.content_type == "text/event-stream"
    assert answer.events is not None
    assert b"event: exchange" in await anext(answer.events)
    await answer.events.aclose()  # type: ignore[attr-defined]  # it is a generator
    head = await api.answer(replace(LOCAL, method="HEAD", target="/api/v1/exchanges/stream"))
    assert (head.content_type, head.events) == ("text/event-stream", None)


async def test_exchanges_come_as_protobuf_to_those_who_ask_for_it(api: Api, app: App) -> None:
    app.runtime.bus.publish(attempt_finished(0))
    app.runtime.bus.publish(exchange_finished(0))
    app.live = [exchange_in_flight(1)]
    answer = await get(api, "/api/v1/exchanges", accept="application/json;q=0.5, application/x-protobuf")
    in_json = await get(api, "/api/v1/exchanges", accept="application/x-protobuf;q=0.5, */*")
    assert (answer.content_type, answer.headers["Vary"], in_json.headers["Vary"]) == (PROTOBUF, "Accept", "Accept")
    read = ListExchangesResponse.FromString(answer.body)
    assert [each.span_id.hex() for each in read.exchanges] == [each["span_id"] for each in body(in_json)["exchanges"]]
    assert [len(each.attempts) for each in read.exchanges] == [0, 1]


async def test_the_stream_comes_as_protobuf_to_those_who_ask_for_it(api: Api, app: App) -> None:
    app.runtime.bus.publish(exchange_finished(0))
    answer = await get(api, "/api/v1/exchanges/stream?limit=1", accept=PROTOBUF)
    assert (answer.content_type, answer.headers["Vary"]) == (PROTOBUF, "Accept")
    assert answer.events is not None
    begin = await anext(answer.events)
    alive, piece = begin[1 : 1 + begin[0]], begin[1 + begin[0] :]
    assert FollowExchangesResponse.FromString(alive).WhichOneof("event") == "alive"
    assert FollowExchangesResponse.FromString(piece[2:]).exchange.span_id == (1).to_bytes(8, "big")
    await answer.events.aclose()  # type: ignore[attr-defined]  # it is a generator
    head = await api.answer(replace(LOCAL, method="HEAD", target="/api/v1/exchanges/stream"))
    assert (head.content_type, head.headers["Vary"]) == ("text/event-stream", "Accept")


@pytest.mark.parametrize("path", ["/api/v1/exchanges", "/api/v1/exchanges/stream"])
async def test_exchanges_in_a_form_that_we_do_not_have_are_not_acceptable(api: Api, path: str) -> None:
    answer = await get(api, path, accept="text/html")
    assert (answer.status, body(answer)["error"]) == (406, "not_acceptable")
    assert PROTOBUF in body(answer)["detail"]


async def test_reload_returns_the_changes_and_tells_who_and_why(api: Api, app: App) -> None:
    answer = await post(api, "/api/v1/reload", b'{"reason": "new prices"}')
    assert (answer.status, body(answer)) == (200, {"changes": ["traffic.default: changed"]})
    fact = app.told[0]
    assert isinstance(fact, OperationPerformed)
    assert (fact.verb, fact.who, fact.why, fact.outcome) == ("reload", "unix socket, uid 7", "new prices", "done")


async def test_reload_of_a_bad_config_returns_every_fault_with_its_place(api: Api, app: App) -> None:
    app.fails = ConfigInvalid([ConfigFault("traffic.default", 3, "is not known", "say forward", "sidecar.yaml")])
    answer = await post(api, "/api/v1/reload")
    assert answer.status == 422
    assert body(answer)["error"] == "config_invalid"
    assert body(answer)["faults"] == [
        {"path": "traffic.default", "line": 3, "problem": "is not known", "hint": "say forward", "source": "sidecar.yaml"}
    ]


async def test_an_operation_that_takes_too_long_is_a_504(api: Api, app: App) -> None:
    app.gate.clear()
    answers = await asyncio.gather(post(api, "/api/v1/reload"), post(api, "/api/v1/drain"))
    assert [(answer.status, body(answer)["error"]) for answer in answers] == [(504, "timed_out")] * 2


async def test_one_operation_too_many_is_busy(api: Api, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.control.operations.MOST_AT_ONCE", 0)
    for path in ("/api/v1/reload", "/api/v1/drain", f"/api/v1/exchanges/{'0' * 16}/stop"):
        answer = await post(api, path)
        assert (answer.status, body(answer)["error"]) == (503, "busy")
    assert app.done == []


async def test_an_exchange_in_flight_is_stopped_for_a_reason(api: Api, app: App) -> None:
    app.live = [exchange_in_flight(6)]
    answer = await post(api, "/api/v1/exchanges/0000000000000007/stop", b'{"reason": "too dear"}')
    assert (answer.status, body(answer)) == (200, {"stopped": "0000000000000007"})
    assert app.done == [("stop", (7).to_bytes(8, "big"), "too dear")]


@pytest.mark.parametrize("span_id", ["0000000000000009", "9", "x" * 16, "0000000000000007" * 2, "000000000000000A"])
async def test_what_is_not_in_flight_cannot_be_stopped(api: Api, app: App, span_id: str) -> None:
    app.live = [exchange_in_flight(6)]
    answer = await post(api, f"/api/v1/exchanges/{span_id}/stop")
    assert (answer.status, body(answer)["error"]) == (404, "exchange_unknown")


async def test_drain_is_accepted_and_begun(api: Api, app: App) -> None:
    answer = await post(api, "/api/v1/drain", b'{"reason": "node goes"}')
    assert (answer.status, body(answer)) == (202, {"draining": True})
    assert app.done == [("drain", "node goes")]


@pytest.mark.parametrize(
    ("sent", "content_type"),
    [
        (b"reason=x", "application/x-www-form-urlencoded"), (b'{"reason": "x"}', "text/plain"), (b'{"reason": "x"}', ""),
        (b"{", "application/json"), (b"\xff\xfe\xfd", "application/json"), (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b'{"reason": 5}', "application/json"), (b'{"why": "x"}', "application/json"), (b"[" * 10_000, "application/json"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_reason_is_refused_and_nothing_is_done(
    api: Api, app: App, sent: bytes, content_type: str
) -> None:
    answer = await post(api, "/api/v1/drain", sent, content_type)
    assert (answer.status, body(answer)["error"]) == (400, "bad_body")
    assert app.done == []


async def test_a_body_of_the_wrong_form_is_told_its_place(api: Api) -> None:
    assert "$.reason" in body(await post(api, "/api/v1/drain", b'{"reason": 5}'))["detail"]
    assert "byte 11" in body(await post(api, "/api/v1/drain", b'{"reason": x}'))["detail"]


async def test_the_content_type_may_have_parameters(api: Api) -> None:
    assert (await post(api, "/api/v1/drain", b"{}", "Application/JSON; charset=utf-8")).status == 202


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/api/v1", "/api/v2/config", "//healthz", "/healthz%20", "/api/v1/exchanges/a/b/stop"]
)
async def test_a_path_that_is_not_there_is_a_404_that_names_those_that_are(api: Api, path: str) -> None:
    answer = await get(api, path)
    assert (answer.status, body(answer)["error"]) == (404, "path_unknown")
    assert "/api/v1/exchanges" in body(answer)["detail"]


async def test_a_target_that_is_no_path_is_refused(api: Api) -> None:
    for target in ("http://localhost/healthz", "localhost:80", "*"):
        answer = await get(api, target)
        assert (answer.status, body(answer)["error"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/api/v1/exchanges", "GET, HEAD"),
        ("OPTIONS", "/api/v1/config", "GET, HEAD"),
        ("GET", "/api/v1/reload", "POST"), ("HEAD", "/api/v1/drain", "POST"), ("GET", "/api/v1/exchanges/0/stop", "POST"),
        ("get", "/healthz", "GET, HEAD"),
    ],
)  # fmt: skip
async def test_a_method_that_a_path_does_not_know_is_a_405_with_those_that_it_does(
    api: Api, app: App, method: str, path: str, allow: str
) -> None:
    answer = await api.answer(replace(LOCAL, method=method, target=path))
    assert (answer.status, body(answer)["error"], answer.headers["Allow"]) == (405, "method_not_allowed", allow)
    assert app.done == []


async def test_changes_over_tcp_need_the_token_and_reads_do_not(api: Api, app: App, tmp_path: Path) -> None:
    change = replace(LOCAL, method="POST", target="/api/v1/reload")
    answer = await api.answer(change)
    assert (answer.status, body(answer)["error"]) == (401, "token_missing")
    assert app.done == []
    bearer = ("authorization", f"Bearer {(tmp_path / 'token').read_text().strip()}")
    assert (await api.answer(replace(change, headers=(*change.headers, bearer)))).status == 200
    assert app.told[0].who == "token from 127.0.0.1"


async def test_refusals_are_counted_by_code(api: Api, app: App) -> None:
    await get(api, "/nowhere")
    await api.answer(replace(LOCAL, headers=(("host", "evil.example"),)))
    await api.answer(replace(LOCAL, headers=(("host", "evil.example"),)))
    assert app.count("admin.refused", code="path_unknown") == 1
    assert app.count("admin.refused", code="host_refused") == 2


async def test_an_error_that_nobody_thought_of_is_logged_and_not_shown(
    api: Api, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.fails = RuntimeError("secret detail")
    answer = await post(api, "/api/v1/reload")
    assert (answer.status, body(answer)["error"]) == (500, "failed")
    assert b"secret detail" not in answer.body
    assert "secret detail" in caplog.text

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.model.spec import Spec
from sidecar.runtime.components import SECTIONS, ComponentType, Declared
from sidecar.runtime.document import read_document
from sidecar.runtime.references import check_references


@dataclass(frozen=True, slots=True, kw_only=True)
class Listens(Spec):
    endpoint: str = "127.0.0.1:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested(Spec):
    grpc: Listens = field(default_factory=Listens)
    other: Listens | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(Spec):
    pass


def declare(section: str, name: str, spec: Any, **module: Any) -> Declared:
    return Declared(name, ComponentType(section, name, SimpleNamespace(**module), type(spec), lambda *_: None), spec)


def faults(text: str, *components: Declared, admin: Any = None) -> list[str]:
    document = read_document(text, source="", environ={}, folder=Path())
    found: dict[str, dict[str, Declared]] = {section: {} for section in SECTIONS}
    for one in components:
        found[one.kind.section][one.id] = one
    check_references(document, found, admin)
    return [f"{fault.line} {fault.path}: {fault.problem} ({fault.hint})" for fault in document.faults]


def route(text: str, *components: Declared) -> list[str]:
    return faults(
        "traffic:\n  upstreams: {http/a: , http/bcd: }\n  policies: {out: , in: , odd: , broken: }\n  routes:\n    r: " + text,
        *components,
    )


POLICIES = [declare("traffic.policies", name, Silent(), STAGE=stage) for name, stage in (("out", 10), ("in", 50))]


def test_what_refers_to_what_is_declared_is_right() -> None:
    assert route("{upstream: http/a, policies: [out, in], path: /a/}", *POLICIES) == []
    assert faults("") == faults("5") == faults("traffic: 5\nservice: 5") == []
    assert (
        faults(
            "traffic: {routes: {a: 5, b: {upstream: 5, policies: 5, path: 5}}}\nservice: {pipelines: {a: 5, b: {receivers: 5}}}"
        )
        == []
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "{upstream: http/bc}",
            "5 traffic.routes.r.upstream: 'http/bc' is not declared under traffic.upstreams (did you mean 'http/bcd'?)",
        ),
        (
            "{upstream: http/a, policies: [zzzz]}",
            "5 traffic.routes.r.policies[0]: 'zzzz' is not declared under traffic.policies (known: broken, in, odd, out)",
        ),
        (
            "{upstream: http/a, connect: intercept}",
            (
                "5 traffic.routes.r.connect: TLS interception is not available in this version"
                " (write tunnel or deny, or let the agent call through the route's path)"
            ),
        ),
        (
            "{upstream: http/a, policies: [in, out]}",
            "5 traffic.routes.r.policies[1]: 'out' has to stand before 'in' (what repeats a call stands above what each attempt takes)",
        ),
        ("{upstream: http/a, policies: [in, in]}", "5 traffic.routes.r.policies[1]: 'in' stands twice in this list ()"),
        (
            "{upstream: http/a, policies: [odd]}",
            "5 traffic.routes.r.policies[0]: the module of 'odd' has no STAGE (it says where a policy stands: STAGE = Stage.LIMIT)",
        ),
    ],
)
def test_a_route_that_leads_nowhere_is_a_fault(text: str, fault: str) -> None:
    assert route(text, *POLICIES, declare("traffic.policies", "odd", Silent())) == [fault]


def test_a_policy_with_faults_of_its_own_is_not_judged_again() -> None:
    assert route("{upstream: http/a, policies: [in, broken]}", *POLICIES) == []


def test_where_nothing_is_declared_the_hint_says_where_to_declare() -> None:
    assert faults("traffic: {routes: {r: {upstream: x}}}") == [
        "1 traffic.routes.r.upstream: 'x' is not declared under traffic.upstreams (declare it under traffic.upstreams)"
    ]


def test_two_routes_cannot_have_the_same_path() -> None:
    text = "traffic:\n  upstreams: {u: }\n  routes:\n    a: {upstream: u, path: /x/}\n    b: {upstream: u, path: /x/}\n    c: {upstream: u}\n    d: {upstream: u}\n"
    assert faults(text) == ["5 traffic.routes.b.path: the route 'a' has the path '/x/' already ()"]


PIPELINES = """
receivers: {otlp: }
processors: {redact: }
exporters: {debug: }
service:
  pipelines:
"""


def test_a_pipeline_names_what_is_declared() -> None:
    assert faults(PIPELINES + "    traces: {receivers: [otlp], processors: [redact], exporters: [debug]}") == []
    assert faults(PIPELINES + "    traces: {receivers: [otl], processors: [x], exporters: [debug, debugger]}") == [
        "7 service.pipelines.traces.receivers[0]: 'otl' is not declared under receivers (did you mean 'otlp'?)",
        "7 service.pipelines.traces.processors[0]: 'x' is not declared under processors (known: redact)",
        "7 service.pipelines.traces.exporters[1]: 'debugger' is not declared under exporters (did you mean 'debug'?)",
    ]


def test_a_component_stands_only_in_pipelines_of_signals_that_it_knows() -> None:
    receiver = declare("receivers", "otlp", Silent(), SIGNALS=("traces",))
    exporter = declare("exporters", "debug", Silent())
    text = (
        PIPELINES
        + "    traces: {receivers: [otlp], exporters: [debug]}\n    metrics/x: {receivers: [otlp], exporters: [debug]}\n"
    )
    assert faults(text, receiver, exporter) == [
        "8 service.pipelines.metrics/x.receivers[0]: 'otlp' knows no metrics (it can be used for traces)"
    ]


UPSTREAMS = "traffic:\n  upstreams:\n"


def test_a_dialect_is_one_that_we_read_or_somebody_elses_module() -> None:
    assert faults(UPSTREAMS + "    http/a: {url: http://a.test, dialect: plain}\n    http/b: {url: http://b.test}\n") == []
    assert faults(UPSTREAMS + "    http/a: {dialect: plan}\n    http/b:\n      url: http://b.test\n      dialect: cobol\n") == [
        "3 traffic.upstreams.http/a.dialect: unknown dialect 'plan' (did you mean 'plain'?)",
        "6 traffic.upstreams.http/b.dialect: unknown dialect 'cobol' (known: a2a, anthropic, auto, bedrock, cohere, gemini, mcp, ollama, openai, plain)",
    ]
    http = UPSTREAMS + "    http/a: {url: http://a.test, dialect: "
    assert faults(http + "tests.traffic.wire.parrot}\n") == []
    (fault,) = faults(http + "os.path}\n")
    assert fault.startswith("3 traffic.upstreams.http/a.dialect: 'os.path' is no dialect (name a module")


def test_what_somebody_elses_upstream_calls_a_dialect_is_its_own_business() -> None:
    assert faults(UPSTREAMS + "    their.upstream/a: {dialect: klingon}\n    http/b: 5\n    http/c: {dialect: 5}\n") == []


LISTENERS = "traffic:\n  listeners:\n    a: {endpoint: x}\n    b: {endpoint: x}\n"


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "localhost:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("[::]:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_listeners_cannot_share_an_address(one: str, other: str, clash: bool) -> None:
    listeners = [declare("traffic.listeners", name, Listens(endpoint=endpoint)) for name, endpoint in (("a", one), ("b", other))]
    expected = [
        f"4 traffic.listeners.b.endpoint: {other} is taken already by traffic.listeners.a.endpoint (give each its own port)"
    ]
    assert faults(LISTENERS, *listeners) == (expected if clash else [])


def test_admin_has_an_address_of_its_own() -> None:
    listener = declare("traffic.listeners", "a", Listens(endpoint="127.0.0.1:80"))
    assert faults(LISTENERS, listener, admin=Listens(endpoint="127.0.0.1:80")) == [
        "3 traffic.listeners.a.endpoint: 127.0.0.1:80 is taken already by admin.endpoint (give each its own port)"
    ], "the fault stands where something is written"


def test_receivers_listen_when_a_pipeline_uses_them() -> None:
    receiver = declare("receivers", "otlp", Nested(grpc=Listens(endpoint="127.0.0.1:80"), other=Listens(endpoint="127.0.0.1:81")))
    listener = declare("traffic.listeners", "a", Listens(endpoint="127.0.0.1:80"))
    text = LISTENERS + "receivers:\n  otlp: {grpc: {endpoint: x}}\nexporters: {debug: }\n"
    assert faults(text, receiver, listener) == []
    used = text + "service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n"
    assert faults(used, receiver, listener) == [
        "6 receivers.otlp.grpc.endpoint: 127.0.0.1:80 is taken already by traffic.listeners.a.endpoint (give each its own port)"
    ]

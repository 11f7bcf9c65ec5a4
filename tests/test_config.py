import json
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.config import Config, load, load_located, located, parse
from sidecar.model.errors import ConfigInvalid
from sidecar.model.spec import REDACTED
from sidecar.runtime.components import SECTIONS, types
from tests.repository import ROOT

GOOD = """
traffic:
  listeners: {http: {endpoint: 127.0.0.1:0, users: {planner: "${env:PASSWORD}"}}}
  upstreams:
    http/openai: {url: https://api.openai.com, proxy: "http://u:${env:PASSWORD}@proxy:3128"}
    http/spare: {url: http://spare}
  routes:
    openai: {path: /openai/, upstream: http/openai}
receivers: {traffic: , otlp: }
exporters: {otlp_http/phoenix: {endpoint: "http://localhost:6006", headers: {authorization: "Bearer ${PASSWORD}"}}, debug: }
service:
  pipelines:
    traces: {receivers: [traffic], exporters: [otlp_http/phoenix]}
admin: {endpoint: 127.0.0.1:0}
"""
ENVIRON = {"PASSWORD": "hunter2"}


def good() -> Config:
    return parse(GOOD, source="good.yaml", environ=ENVIRON)


def faults(text: str) -> list[tuple[int, str, str, str]]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, environ={})
    return [(fault.line, fault.path, fault.problem, fault.hint) for fault in caught.value.faults]


def test_a_good_config_is_read_whole() -> None:
    config = good()
    assert config.source == "good.yaml"
    assert config.traffic.routes["openai"].upstream == "http/openai"
    assert config.declared("traffic.upstreams", "http/openai").spec.url == "https://api.openai.com"
    assert config.declared("exporters", "otlp_http/phoenix").line == 10
    assert config.service.pipelines["traces"].exporters == ("otlp_http/phoenix",)
    assert config.admin.port == 0


def test_what_nothing_refers_to_is_validated_but_not_used() -> None:
    config = good()
    assert set(config.used("traffic.upstreams")) == {"http/openai"}
    assert set(config.used("traffic.listeners")) == {"http"}
    assert set(config.used("traffic.policies")) == set()
    assert set(config.used("receivers")) == {"traffic"}
    assert set(config.used("connectors")) == set()
    assert config.unused() == ("traffic.upstreams.http/spare", "receivers.otlp", "exporters.debug")
    assert faults("traffic: {upstreams: {http/spare: {url: 5}}}")[0][1] == "traffic.upstreams.http/spare"


@pytest.mark.parametrize("text", ["", "{}", "traffic:\n", "traffic: {listeners: }\nservice:\nadmin:\nreceivers:\n"])
def test_everything_has_a_default(text: str) -> None:
    config = parse(text, environ={})
    assert list(config.used("traffic.listeners")) == ["http"]
    assert config.declared("traffic.listeners", "http").spec.endpoint == "127.0.0.1:4140"
    assert config.service.pipelines == {}
    assert config.admin.endpoint == "127.0.0.1:4141"
    assert config.traffic.default == "forward"


def test_listeners_can_be_none_at_all() -> None:
    assert parse("traffic: {listeners: {}}", environ={}).used("traffic.listeners") == {}


def test_the_effective_config_has_all_defaults_and_no_secret() -> None:
    effective = good().effective()
    assert list(effective) == [
        "traffic",
        "prices",
        *(section for section in SECTIONS if "." not in section and types(section)),
        "service",
        "admin",
    ]
    assert effective["traffic"]["drain"] == "30s"
    assert effective["traffic"]["listeners"]["http"]["users"] == {"planner": REDACTED}
    assert effective["traffic"]["upstreams"]["http/openai"]["proxy"] == REDACTED
    assert effective["exporters"]["otlp_http/phoenix"]["headers"] == {"authorization": REDACTED}
    assert effective["receivers"]["traffic"]["flush_interval"] == "200ms"
    assert "hunter2" not in json.dumps(effective)
    assert "hunter2" not in repr(good())


def test_the_effective_config_is_a_config() -> None:
    config = parse(
        GOOD.replace("${env:PASSWORD}", "x").replace("${PASSWORD}", "x").replace('proxy: "http://u:x@proxy:3128"', ""), environ={}
    )
    effective = config.effective()
    assert parse(json.dumps(effective) + "\n", environ={}).effective() == effective


def test_configs_are_equal_when_they_mean_the_same() -> None:
    assert good() == parse("# a comment\n" + GOOD, source="other.yaml", environ=ENVIRON)
    assert good() != parse(GOOD, environ={"PASSWORD": "other"})


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("path: /openai/", "path: /llm/", {"traffic.routes.openai.path changed"}),
        (
            "http/spare: {url: http://spare}",
            "http/other: {url: http://o}",
            {"traffic.upstreams.http/spare removed", "traffic.upstreams.http/other added"},
        ),
        ("127.0.0.1:0, users", "127.0.0.1:1, users", {"traffic.listeners.http.endpoint changed"}),
        ("exporters: [otlp_http/phoenix]", "exporters: [debug]", {"service.pipelines.traces.exporters changed"}),
        ("traffic: , otlp", "traffic: {flush_interval: 1s}, otlp", {"receivers.traffic.flush_interval changed"}),
        ("admin: {endpoint: 127.0.0.1:0}", "admin: {endpoint: 127.0.0.1:1}", {"admin.endpoint changed"}),
        ("traffic:\n  listeners", "traffic:\n  drain: 5s\n  listeners", {"traffic.drain changed"}),
        ("Bearer ${PASSWORD}", "Basic ${PASSWORD}", {"exporters.otlp_http/phoenix.headers.authorization changed"}),
        ("a", "a", set()),
    ],
)
def test_changes_name_the_path_of_each_difference(old: str, new: str, changes: set[str]) -> None:
    assert old in GOOD
    assert set(parse(GOOD.replace(old, new, 1), environ=ENVIRON).changes_from(good())) == changes


BAD = """\
traffic:
  drain: 5
  lsteners: {}
  upstreams: {http/openai: {url: https://a}, htp/x: , http/y: {url: https://a, tmeout: 5s}}
  routes:
    a: {path: /a/, upstream: http/opnai}
    a: {path: /b/, upstream: http/openai}
    c: {path: /a/, upstream: "http/openai", connect: intercept}
    d: 5
prices: {rules: 5}
exportrs: {}
connectors: {count: }
receivers: {otlp/x: {protocls: }, traffic: "${env:GONE}"}
processors: 5
exporters: [debug]
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}, telemtry: {}}
admin: {endpoint: nowhere}
"""


def test_all_faults_are_found_at_once_in_the_order_of_the_file() -> None:
    found = faults(BAD)
    assert [(line, path) for line, path, _, _ in found] == sorted(
        ((line, path) for line, path, _, _ in found), key=lambda one: one[0]
    )
    assert {(line, path) for line, path, _, _ in found} == {
        (2, "traffic.drain"),
        (3, "traffic.lsteners"),
        (4, "traffic.upstreams.htp/x"),
        (4, "traffic.upstreams.http/y.tmeout"),
        (6, "traffic.routes.a.upstream"),
        (7, "traffic.routes.a"),
        (8, "traffic.routes.c.path"),
        (8, "traffic.routes.c.connect"),
        (9, "traffic.routes.d"),
        (10, "prices.rules"),
        (11, "exportrs"),
        (12, "connectors"),
        (13, "receivers.otlp/x.protocls"),
        (13, "receivers.traffic"),
        (14, "processors"),
        (15, "exporters"),
        (16, "service.pipelines.traces.receivers[0]"),
        (16, "service.pipelines.traces.exporters[0]"),
        (16, "service.telemtry"),
        (17, "admin"),
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("adminn: {}", (1, "adminn", "unknown key", "did you mean 'admin'?")),
        ("chaos: {}", (1, "chaos", "not available in this version", "leave it out")),
        ("workers: 4", (1, "workers", "not available in this version", "leave it out")),
        ("extensions: {}", (1, "extensions", "not available in this version", "leave it out")),
        ("traffic: 5", (1, "traffic", "has to be a mapping of settings", "")),
        ("traffic: {upstreams: 5}", (1, "traffic.upstreams", "has to be a mapping", "")),
        ("[a]", (1, "config", "has to be a mapping", "")),
        (
            "traffic: {listeners: {'htt p': }}",
            (
                1,
                "traffic.listeners.htt p",
                "'htt p' is no type of a component",
                "an id is a type, or type/name, as in 'http/openai'",
            ),
        ),
        ("receivers: {otpl: }", (1, "receivers.otpl", "unknown type 'otpl'", "did you mean 'otlp'?")),
        (
            "traffic: {upstreams: {no.such.module: }}",
            (
                1,
                "traffic.upstreams.no.such.module",
                "no.such.module cannot be imported: ModuleNotFoundError: No module named 'no'",
                "",
            ),
        ),
        ("traffic: [", (1, "config", "not YAML: did not find expected node content", "")),
    ],
)
def test_a_fault_says_where_what_and_what_instead(text: str, fault: tuple[int, str, str, str]) -> None:
    found = faults(text)
    assert fault in found
    assert len({path for _, path, _, _ in found}) == 1


EXPOSED = """
traffic:
  listeners:
    http: {endpoint: %s, users: {planner: secret}}
  destinations:
    allow_loopback: true
"""


@pytest.mark.parametrize("endpoint", ["0.0.0.0:4140", '"[::]:4140"', "10.1.2.3:4140", "sidecar.test:4140"])
def test_loopback_is_not_opened_to_those_who_come_from_elsewhere_without_a_word_of_its_own(endpoint: str) -> None:
    ((line, path, problem, hint),) = faults(EXPOSED % endpoint)
    assert (line, path) == (6, "traffic.destinations.allow_loopback")
    assert endpoint.strip('"') in problem
    assert "allow_loopback_from_elsewhere: true" in hint
    assert parse(EXPOSED % endpoint + "    allow_loopback_from_elsewhere: true\n").traffic.destinations.allow_loopback


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4140", '"[::1]:4140"', "localhost:4140"])
def test_loopback_is_open_to_those_who_are_on_it_anyway(endpoint: str) -> None:
    assert parse(EXPOSED % endpoint).traffic.destinations.allow_loopback


def test_a_file_is_loaded_with_the_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    (tmp_path / "c.yaml").write_text("\ufefftraffic: {listeners: {http: {users: {u: '${file:password}'}}}}\n", encoding="utf-8")
    config = load(tmp_path / "c.yaml", environ={})
    assert config.declared("traffic.listeners", "http").spec.users["u"].reveal() == "geheim"
    assert config.files == (tmp_path / "password",)
    assert config.source == str(tmp_path / "c.yaml")


def test_a_text_with_a_line_break_is_a_config_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT", "127.0.0.1:7")
    assert load("admin: {endpoint: '${ENDPOINT}'}\n").admin.port == 7


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("gone.yaml", "No such file or directory", "name a file with --config"),
        ("binary.yaml", "not UTF-8 text", ""),
        ("folder", "regular file", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, name: str, problem: str, hint: str) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigInvalid) as caught:
        load(str(tmp_path / name))
    only = caught.value.faults[0]
    assert problem in only.problem
    assert (only.hint, only.source) == (hint, str(tmp_path / name))


def test_bytes_that_are_no_text_are_a_fault_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"admin:\n  endpoint: 127.0.0.1:0\n# \xe9\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "latin.yaml")
    assert caught.value.faults[0].line == 3


def test_the_config_is_found_where_people_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located(None, {}) is None
    assert load_located(None, {}).source == "built-in config"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sidecar.yaml").write_text("admin: {endpoint: 127.0.0.1:9}\n")
    assert load_located(None, {}).admin.port == 9
    assert located(None, {"SIDECAR_CONFIG": "other.yaml"}) == Path("other.yaml")
    assert located("given.yaml", {"SIDECAR_CONFIG": "other.yaml"}) == Path("given.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_good_config(path: Path) -> None:
    config = load(path, environ={})
    assert set(config.unused()) <= {"exporters.debug"}
    assert config.used("traffic.upstreams")


def test_the_full_example_shows_every_component_that_we_have() -> None:
    config = load(ROOT / "config/full.yaml", environ={})
    shown = {section: {one.kind.name for one in held.values()} for section, held in config.components.items()}
    assert shown == {section: set(types(section)) for section in SECTIONS}


def test_validating_imports_nothing_heavy_and_only_what_is_named() -> None:
    program = """
import sys
from sidecar.config import parse
parse(sys.argv[1], environ={"PASSWORD": "x"})
heavy = {"grpc", "aiohttp", "opentelemetry", "google", "uvloop", "pydantic"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy), [name for name in sys.modules if name.endswith(("exporters.file", "otlp_grpc"))])
"""
    done = subprocess.run([sys.executable, "-c", program, GOOD], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[] []"


@pytest.mark.parametrize(
    "text",
    ["traffic: {upstreams: {http/a: {url: 'http://x', proxy: '${env:PROXY}'}}}", "traffic: {proxy: {url: '${env:PROXY}'}}"],
)
def test_secrets_do_not_show_in_faults(text: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, environ={"PROXY": "ftp://user:hunter2@proxy"})
    assert "hunter2" not in str(caught.value)

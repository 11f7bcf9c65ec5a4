import ast
import re

import pytest

from sidecar.model.errors import CODES, ConfigFault, ConfigInvalid, Fault, Refused, UpstreamFailed
from sidecar.traffic.wire.answer import error_response
from tests.repository import name, sources, tree


@pytest.mark.parametrize("code", CODES)
def test_every_code_says_how_to_answer_and_what_to_do(code: str) -> None:
    meaning = CODES[code]
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", code)
    assert 400 <= meaning.status < 600
    assert re.fullmatch(r"[A-Z].*[.]", meaning.advice)


def test_the_status_says_whose_fault_it_is() -> None:
    upstream = {code for code, meaning in CODES.items() if meaning.fault is Fault.UPSTREAM}
    assert {CODES[code].status for code in upstream} <= {502, 503, 504}
    assert all(
        meaning.status < 500 or meaning.status in {501, 503, 505} for meaning in CODES.values() if meaning.fault is Fault.CLIENT
    )


def test_every_code_is_used_and_no_other() -> None:
    here = [path for path in sources() if name(path) != "sidecar/model/errors.py"]
    nodes = [node for path in here for node in ast.walk(tree(path))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert set(CODES) <= texts, "a code that nothing has is a promise that nothing keeps"
    raised = {
        call.args[0].value
        for call in nodes
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("Refused", "UpstreamFailed")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    assert raised <= set(CODES)
    assert raised


@pytest.mark.parametrize("code", sorted(set(CODES) - {"client_gone"}))  # nobody is there to read that one
def test_every_answer_has_the_reason_of_its_status(code: str) -> None:
    answer = error_response(Refused(code), date=b"", via=b"Via: 1.1 a", keep_alive=True, is_head=True)
    status_line = answer.partition(b"\r\n")[0]
    assert re.fullmatch(rb"HTTP/1\.1 %d [A-Z][A-Za-z ]+" % CODES[code].status, status_line)
    assert not status_line.endswith(b" Error") or status_line.endswith(b" Internal Server Error")


def test_an_unknown_code_cannot_be_raised() -> None:
    with pytest.raises(AssertionError):
        Refused("no_such_code")


def test_refused_tells_code_detail_and_meaning() -> None:
    refused = Refused("body_bytes", "17 MiB", retry_after_s=2.5)
    assert str(refused) == "body_bytes: 17 MiB"
    assert str(Refused("draining")) == "draining"
    assert refused.meaning is CODES["body_bytes"]
    assert refused.retry_after_s == 2.5


def test_what_the_upstream_did_is_caught_with_what_we_refuse() -> None:
    with pytest.raises(Refused) as caught:
        raise UpstreamFailed("dns_failed", "nowhere.example")
    assert caught.value.code == "dns_failed"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            ConfigFault("admin.endpoint", 7, "no port", "write host:port", "a.yaml"),
            "a.yaml:7: admin.endpoint: no port (write host:port)",
        ),
        (ConfigFault("admin.endpoint", 7, "no port"), "line 7: admin.endpoint: no port"),
        (ConfigFault("config", 0, "not YAML", source="a.yaml"), "config: not YAML"),
    ],
)
def test_a_config_fault_says_where_and_what(fault: ConfigFault, text: str) -> None:
    assert str(fault) == text


def test_an_invalid_config_tells_all_its_faults_in_order() -> None:
    faults = [ConfigFault("a", 1, "wrong"), ConfigFault("b", 2, "wrong, too")]
    invalid = ConfigInvalid(faults)
    assert invalid.faults is faults
    assert str(invalid) == "line 1: a: wrong\nline 2: b: wrong, too"

import dataclasses
import json
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.document import Document, read_document
from sidecar.runtime.reading import read_spec


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tls(Spec):
    ca_file: str | None = None
    """PEM file."""
    server_name: str = "default"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example(Spec):
    name: str = "x"
    """Its name."""
    count: int = 1
    """How many."""
    ratio: float = 0.5
    on: bool = False
    timeout: Duration = Duration("30s")
    """How long."""
    limit: Size | None = None
    password: Secret = Secret("")
    mode: Literal["tunnel", "deny"] = "tunnel"
    colour: Colour = Colour.RED
    tls: Tls = dataclasses.field(default_factory=Tls)
    maybe: Tls | None = None
    names: tuple[str, ...] = ()
    numbers: list[int] = dataclasses.field(default_factory=list)
    pair: tuple[int, str] = (1, "a")
    by_name: dict[str, Tls] = dataclasses.field(default_factory=dict)
    either: int | str | None = None
    anything: Any = None
    nothing: None = None

    def __post_init__(self) -> None:
        if self.count > 10:
            raise ValueError("count is at most 10")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Strict(Spec):
    url: str
    """Base URL."""
    inner: Example = dataclasses.field(default_factory=Example)


def read(kind: type, text: str) -> tuple[Any, Document]:
    document = read_document(text, source="c.yaml", environ={}, folder=Path())
    return read_spec(kind, document.value, document, ("top",)), document


def fault(text: str, kind: type = Example) -> tuple[str, str, str]:
    spec, document = read(kind, text)
    assert spec is None
    assert len(document.faults) == 1, document.faults
    only = document.faults[0]
    return only.path, only.problem, only.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Example()),
        ("{}", Example()),
        ("name: 0123", Example(name="0123")),
        ("name: 1.10", Example(name="1.10")),
        ("count: '7'", Example(count=7)),
        ("count: 7.0", Example(count=7)),
        ("ratio: 2", Example(ratio=2.0)),
        ("on: yes", Example(on=True)),
        ("on: true", Example(on=True)),
        ("timeout: 1h", Example(timeout=Duration("1h"))),
        ("timeout: 0", Example(timeout=Duration("0"))),
        ("limit: 1KiB", Example(limit=Size("1KiB"))),
        ("limit: null", Example(limit=None)),
        ("password: 0123", Example(password=Secret("0123"))),
        ("mode: deny", Example(mode="deny")),
        ("colour: blue", Example(colour=Colour.BLUE)),
        ("names: [a, 1]", Example(names=("a", "1"))),
        ("numbers: [1, '2']", Example(numbers=[1, 2])),
        ("pair: [3, b]", Example(pair=(3, "b"))),
        ("by_name: {a: {ca_file: x}, b: }", Example(by_name={"a": Tls(ca_file="x"), "b": Tls()})),
        ("either: 5", Example(either=5)),
        ("either: five", Example(either="five")),
        ("maybe: {ca_file: x}", Example(maybe=Tls(ca_file="x"))),
    ],
)
def test_what_is_written_becomes_a_spec(text: str, expected: Example) -> None:
    spec, document = read(Example, text)
    assert not document.faults
    assert spec == expected


def test_null_stands_for_the_defaults_of_what_holds_settings() -> None:
    spec, _ = read(Example, "tls:\nmaybe:\nby_name:\nnames:\n")
    assert spec == Example(maybe=Tls())


def test_a_null_setting_was_not_written() -> None:
    spec, document = read(Strict, "url: x\ninner: {name: , count: ~, tls: {server_name: }}\n")
    assert not document.faults
    assert spec == Strict(url="x")


def test_what_may_be_anything_is_plain() -> None:
    spec, _ = read(Example, "anything: {a: [0123, 1.10], b: }")
    assert spec.anything == {"a": [123, 1.1], "b": None}
    assert type(spec.anything["a"][0]) is int


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x", ("top.nam", "unknown setting", "did you mean 'name'?")),
        ("tls: {ca_fil: x}", ("top.tls.ca_fil", "unknown setting", "did you mean 'ca_file'?")),
        ("maybe: {zzz: x}", ("top.maybe.zzz", "unknown setting", "known: ca_file, server_name")),
        ("by_name: {a: {zzz: x}}", ("top.by_name.a.zzz", "unknown setting", "known: ca_file, server_name")),
        ("name: true", ("top.name", "has to be a text", "put it in quotes")),
        ("name: [a]", ("top.name", "has to be a text", "Its name.")),
        ("count: many", ("top.count", "has to be a whole number", "How many.")),
        ("count: 1.5", ("top.count", "has to be a whole number", "How many.")),
        ("count: true", ("top.count", "has to be a number", "How many.")),
        ("count: 11", ("top", "count is at most 10", "")),
        ("ratio: .inf", ("top.ratio", "has to be a finite number", "")),
        ("ratio: x", ("top.ratio", "has to be a number", "")),
        ("on: maybe", ("top.on", "has to be true or false", "")),
        ("mode: dney", ("top.mode", "has to be 'tunnel' or 'deny'", "did you mean 'deny'?")),
        ("mode: 7", ("top.mode", "has to be 'tunnel' or 'deny'", "")),
        ("colour: green", ("top.colour", "has to be 'red' or 'blue'", "")),
        ("names: a", ("top.names", "has to be a list", "")),
        ("names: [a, [b]]", ("top.names[1]", "has to be a text", "")),
        ("numbers: 5", ("top.numbers", "has to be a list", "")),
        ("pair: [1]", ("top.pair[1]", "this setting is missing", "")),
        ("by_name: 5", ("top.by_name", "has to be a mapping", "")),
        ("tls: 5", ("top.tls", "has to be a mapping of settings", "")),
        ("either: [1]", ("top.either", "has to be whole number or text", "")),
        ("nothing: 1", ("top.nothing", "has to be None", "")),
        ("5", ("top", "has to be a mapping of settings", "")),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_hint(text: str, expected: tuple[str, str, str]) -> None:
    assert fault(text) == expected


def test_a_unit_that_is_missing_says_which_there_are() -> None:
    path, problem, hint = fault("timeout: 30")
    assert (path, hint) == ("top.timeout", "How long.")
    assert "'30s'" in problem


def test_a_missing_setting_says_what_it_is() -> None:
    assert fault("{}", Strict) == ("top.url", "this setting is missing", "Base URL.")


def test_all_faults_of_a_spec_are_found_at_once() -> None:
    spec, document = read(Strict, "inner: {name: [1], count: x, tls: {q: 1}}\nzzz: 1\n")
    assert spec is None
    assert {one.path for one in document.faults} == {"top.url", "top.zzz", "top.inner.name", "top.inner.count", "top.inner.tls.q"}


class Foreign(BaseModel, extra="forbid"):
    """Somebody else's settings."""

    port: int = 5
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unusual(Spec):
    port: Annotated[int, Field(gt=0)] = 5


def test_settings_of_somebody_else_are_read_by_the_whole_of_pydantic() -> None:
    spec, document = read(Foreign, "{name: x, port: 7}")
    assert (spec.name, spec.port, document.faults) == ("x", 7, [])
    assert fault("{name: x, prt: 7}", Foreign)[:2] == ("top.prt", "Extra inputs are not permitted")
    assert read(Unusual, "port: 7")[0] == Unusual(port=7)
    assert fault("port: 0", Unusual)[:2] == ("top.port", "has to be greater than 0")


def test_pydantic_itself_agrees_about_our_specs() -> None:
    written = {
        "name": "a",
        "count": 3,
        "timeout": "5s",
        "limit": "1KiB",
        "mode": "deny",
        "tls": {"ca_file": "x"},
        "names": ["a"],
        "either": "b",
    }
    assert TypeAdapter(Example).validate_python(written) == read(Example, json.dumps(written))[0]


def test_our_own_specs_are_read_without_the_whole_of_pydantic() -> None:
    program = (
        "import sys; from sidecar.config import parse; parse('admin: {endpoint: 127.0.0.1:1}\\ntraffic: {listeners: {}}\\n', environ={});"
        "print(sorted(name for name in sys.modules if name == 'pydantic' or name.startswith('pydantic.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

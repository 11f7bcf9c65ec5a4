import dataclasses
from enum import StrEnum
from typing import Any

import pytest

from sidecar.model.spec import REDACTED, Duration, Secret, Size, Spec
from sidecar.runtime.tree import changes, shown


class Colour(StrEnum):
    RED = "red"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inner(Spec):
    password: Secret = Secret("")
    timeout: Duration = Duration("30s")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example(Spec):
    inner: Inner = dataclasses.field(default_factory=Inner)
    names: tuple[str, ...] = ()
    limit: Size | None = None
    users: dict[str, Secret] = dataclasses.field(default_factory=dict)
    colour: Colour = Colour.RED
    url: str = ""


def test_a_spec_is_shown_with_units_and_without_secrets() -> None:
    spec = Example(inner=Inner(password=Secret("hunter2")), names=("a",), limit=Size("1KiB"), users={"u": Secret("p")})
    assert shown(spec) == {
        "inner": {"password": REDACTED, "timeout": "30s"},
        "names": ["a"],
        "limit": "1KiB",
        "users": {"u": REDACTED},
        "colour": "red",
        "url": "",
    }
    assert shown(Inner())["password"] == "", "that there is none is no secret"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://user:pw@host:80/x", f"http://{REDACTED}@host:80/x"),
        ("http://user:p@w@host/x", f"http://{REDACTED}@host/x"),
        ("http://token@host", f"http://{REDACTED}@host"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host/?x=a@b", "http://host/?x=a@b"),
        ("a@b", "a@b"),
        ("see http://u:p@h and http://v:q@i", f"see http://{REDACTED}@h and http://{REDACTED}@i"),
    ],
)
def test_who_logs_in_is_not_shown_in_urls(url: str, safe: str) -> None:
    assert shown(Example(url=url))["url"] == safe


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (1.5, 1.5),
        ({1: (2,)}, {"1": [2]}),
        (frozenset({1}), [1]),
        (object, "<class 'object'>"),
    ],
)
def test_everything_is_shown_as_json_can_hold_it(value: Any, expected: Any) -> None:
    assert shown(value) == expected


def test_changes_are_told_by_path() -> None:
    old = {"traffic": Example(names=("a",)), "gone": {"x": 1}, "same": Inner()}
    new = {"traffic": Example(names=("b",), inner=Inner(timeout=Duration("5s"))), "come": {"x": 1}, "same": Inner()}
    assert set(changes(old, new)) == {"traffic.names changed", "traffic.inner.timeout changed", "gone removed", "come added"}
    assert list(changes(old, old)) == []


def test_a_changed_secret_is_a_change_that_tells_no_secret() -> None:
    assert list(changes(Inner(password=Secret("a")), Inner(password=Secret("b")))) == ["password changed"]


def test_another_kind_of_value_is_a_change() -> None:
    assert list(changes({"a": {"b": 1}}, {"a": [1]})) == ["a changed"]
    assert list(changes({"a": None}, {"a": Inner()})) == ["a changed"]

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sidecar.model.spec import REDACTED, Duration, Secret, Size, Spec


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0), ("200ms", 0.2), ("1h30m", 5400.0), ("30d", 2_592_000.0), ("24h", 86_400.0), ("1.5s", 1.5),
        ("250us", 0.00025), ("250µs", 0.00025), ("0s", 0.0), ("0", 0.0), ("1m500ms", 60.5),
    ],
)  # fmt: skip
def test_duration_is_seconds(written: str, seconds: float) -> None:
    assert Duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["30", "", "s", "30 s", "-5s", "1.s", ".5s", "1y", "30S", "5s ", "1e3s", 30, 1.5, True, None, [], "200000d"]
)
def test_duration_without_a_sensible_unit_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"unit|100 years"):
        Duration(written)


@pytest.mark.parametrize(
    ("written", "shown"),
    [("30s", "30s"), ("90s", "1m30s"), ("24h", "24h"), ("48h", "2d"), ("30d", "30d"), ("0", "0s"), ("1.5s", "1500ms"), ("60m", "1h"),
     ("49h", "2d1h"), ("250us", "250us"), ("1h200ms", "1h200ms")],
)  # fmt: skip
def test_duration_shows_itself_as_people_write_it(written: str, shown: str) -> None:
    duration = Duration(written)
    assert str(duration) == f"{duration}" == shown
    assert repr(duration) == f"Duration('{shown}')"
    assert f"{Duration('1.5s'):.2f}" == "1.50"


@given(st.integers(min_value=0, max_value=10**15))
def test_what_a_duration_shows_is_read_back_as_the_same_duration(micros: int) -> None:
    duration = Duration(f"{micros}us")
    assert float(Duration(str(duration))) == pytest.approx(float(duration), rel=1e-12)


@pytest.mark.parametrize("value", [Duration("1h30m"), Size("256KiB")])
def test_units_survive_copies_and_pickles(value: Any) -> None:
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), type(value)(value)):
        assert other == value
        assert type(other) is type(value)


@pytest.mark.parametrize(
    ("written", "size"),
    [("256KiB", 262_144), ("1MB", 1_000_000), ("1kB", 1000), ("1KB", 1000), ("512B", 512), ("0", 0), ("1.5KiB", 1536), ("64 KiB", 65_536),
     ("2GiB", 2**31), ("1TB", 10**12), ("1TiB", 2**40), ("0.001kB", 1)],
)  # fmt: skip
def test_size_is_bytes(written: str, size: int) -> None:
    assert Size(written) == size


@pytest.mark.parametrize("written", ["30", "", "KiB", "-1B", "1kib", "1.0001B", "1Mb", "9999999TiB", 30, 1.5, False, None])
def test_size_without_a_sensible_unit_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"unit|whole number|64 bits"):
        Size(written)


@pytest.mark.parametrize(
    ("written", "shown"),
    [("1024B", "1KiB"), ("256KiB", "256KiB"), ("1000000B", "1MB"), ("7B", "7B"), ("0", "0B"), ("1GiB", "1GiB")],
)
def test_size_shows_itself_in_the_largest_unit_that_fits(written: str, shown: str) -> None:
    size = Size(written)
    assert str(size) == f"{size}" == shown
    assert repr(size) == f"Size('{shown}')"
    assert f"{Size('1KiB'):,}" == "1,024"


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_what_a_size_shows_is_read_back_as_the_same_size(size: int) -> None:
    assert Size(str(Size(f"{size}B"))) == size


def test_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert str(secret) == repr(secret) == f"{secret}" == REDACTED
    assert "hunter2" not in repr({"password": secret})
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        "Bearer " + secret  # type: ignore[operator]  # this is what must not work
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_are_equal_when_their_texts_are() -> None:
    assert Secret("a") == Secret(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Example(Spec):
    timeout: Duration = Duration("30s")
    limit: Size = Size("1MiB")
    password: Secret = Secret("")
    name: str = ""


def test_a_spec_with_a_secret_can_be_copied_inside_the_process() -> None:
    spec = _Example(password=Secret("hunter2"))
    assert copy.copy(spec.password) is spec.password
    assert copy.deepcopy(spec) == dataclasses.replace(spec) == spec
    assert dataclasses.asdict(spec)["password"].reveal() == "hunter2"


def test_pydantic_reads_a_spec_and_its_units() -> None:
    adapter = TypeAdapter(_Example)
    spec = adapter.validate_python({"timeout": "5s", "limit": "2KiB", "password": "x", "name": 7})
    assert spec == _Example(timeout=Duration("5s"), limit=Size("2KiB"), password=Secret("x"), name="7")
    assert adapter.validate_python({"password": Secret("y")}).password == Secret("y")
    assert adapter.validate_python({"password": 12}).password == Secret("12")


@pytest.mark.parametrize("written", [{"timeout": 5}, {"limit": 5}, {"password": True}, {"password": None}, {"unknown": 1}])
def test_pydantic_refuses_what_no_spec_would_take(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(_Example).validate_python(written)

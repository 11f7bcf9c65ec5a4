import dataclasses
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest

from sidecar.model.spec import Duration, Secret, Size, Spec
from sidecar.runtime.settings import alternatives, docs_of, inner, is_spec, settings_of, spec_in, type_text, walk


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tls(Spec):
    """TLS."""

    ca_file: str | None = None
    """PEM file of the
    authorities."""
    undocumented: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Base(Spec):
    limit: Size = Size("1KiB")
    """Of the base."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example(Base):
    url: str
    """Where to."""
    timeout: Duration = Duration("5s")
    """How long."""
    tls: Tls = dataclasses.field(default_factory=Tls)
    maybe: Tls | None = None
    """A second one."""
    routes: dict[str, Tls] = dataclasses.field(default_factory=dict)
    """By name."""
    several: tuple[Tls, ...] = ()
    pair: tuple[int, str] = (1, "a")


def test_settings_come_in_the_order_of_the_source_with_their_defaults() -> None:
    settings = settings_of(Example)
    assert list(settings) == ["limit", "url", "timeout", "tls", "maybe", "routes", "several", "pair"]
    assert settings["url"].is_required
    assert settings["timeout"].default == 5.0
    assert settings["routes"].default == {}
    assert not settings["tls"].is_required


def test_the_text_under_a_field_is_its_documentation() -> None:
    assert docs_of(Example)["url"] == "Where to."
    assert docs_of(Example)["limit"] == "Of the base."
    assert docs_of(Tls) == {"ca_file": "PEM file of the authorities."}


def test_a_class_without_source_has_no_documentation() -> None:
    assert docs_of(dataclasses.make_dataclass("Made", [("a", int)])) == {}


def test_walking_names_every_setting_by_its_path() -> None:
    walked = {path: doc for path, _, doc in walk(Example)}
    assert list(walked) == [
        "limit", "url", "timeout", "tls.ca_file", "tls.undocumented", "maybe", "maybe.ca_file", "maybe.undocumented",
        "routes", "routes.*.ca_file", "routes.*.undocumented", "several", "several.*.ca_file", "several.*.undocumented", "pair",
    ]  # fmt: skip
    assert walked["tls.ca_file"] == "PEM file of the authorities."
    assert walked["tls.undocumented"] == ""


@pytest.mark.parametrize(
    ("annotation", "key", "held"),
    [
        (Example, "url", str),
        (Tls | None, "ca_file", str | None),
        (dict[str, int], "x", int),
        (dict[str, Tls] | None, "x", Tls),
        (tuple[int, ...], 7, int),
        (list[Tls], 0, Tls),
        (tuple[int, str], 1, str),
        (Annotated[Tls | None, 5], "ca_file", str | None),
        (tuple[int, str], 2, None),
        (tuple[int, str], "x", None),
        (Example, "unknown", None),
        (str, "x", None),
        (Any, "x", None),
    ],
)
def test_what_a_setting_holds_is_known_from_its_annotation(annotation: Any, key: Any, held: Any) -> None:
    assert inner(annotation, key) == held


def test_specs_are_found_in_unions() -> None:
    assert spec_in(Tls | None) is Tls
    assert spec_in(str | None) is None
    assert is_spec(Tls)
    assert not is_spec(Spec)
    assert not is_spec("Tls")
    assert alternatives(int | str) == (int, str)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "text"), (int, "whole number"), (float, "number"), (bool, "true or false"), (Duration, "duration"), (Size, "size"),
        (Secret, "secret"), (Any, "anything"), (Tls, "mapping"), (Literal["a", "b"], "'a' or 'b'"), (dict[str, Size], "map of size"),
        (tuple[str, ...], "list of text"), (list[int], "list of whole number"), (Size | None, "size"), (int | str, "whole number or text"),
        (Colour, "'red' or 'blue'"), (Annotated[int, 5], "whole number"), (type(None), "null"), (bytes, "bytes"),
    ],
)  # fmt: skip
def test_annotations_are_told_in_words(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text

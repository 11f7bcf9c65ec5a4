import sys
from pathlib import Path

import pytest

from sidecar.model.errors import ConfigInvalid
from sidecar.runtime.components import SECTIONS, ComponentUnusable, Declared, closest, load_type, meant, type_of, types
from sidecar.runtime.runtime import Runtime

MODULE = """
from dataclasses import dataclass
from sidecar.model.spec import Spec

@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Spec):
    limit: int = 1

def build(name, config, runtime):
    if config.limit < 0:
        raise ValueError("limit is negative")
    return (name, config.limit)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with a package `elsewhere`, in which modules can be put."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/__init__.py").touch()
    (tmp_path / "elsewhere/limit.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("elsewhere")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("written", "kind"), [("http", "http"), ("http/openai", "http"), ("http/a/b.c-d", "http"), ("a.b.c/x", "a.b.c"), ("x/ü", "x")]
)
def test_an_id_is_a_type_and_maybe_a_name(written: str, kind: str) -> None:
    assert type_of(written) == kind


@pytest.mark.parametrize(
    "written",
    [
        "",
        "/x",
        "1a",
        "a-b",
        "a" * 64,
        "http/",
        "http/a b",
        "http/\x01",
        "http/a+b",
        "http/" + "n" * 1025,
        ".a",
        "a.",
        "a..b",
        "a.1b",
        "über",
    ],
)
def test_an_id_that_breaks_the_grammar_is_refused(written: str) -> None:
    with pytest.raises(ComponentUnusable) as caught:
        type_of(written)
    assert caught.value.hint


def test_the_types_of_a_section_are_its_modules() -> None:
    assert "http" in types("traffic.upstreams")
    assert all(not name.startswith("_") for section in SECTIONS for name in types(section))
    assert types("extensions") == [], "no code yet"


def test_listing_types_imports_none_of_them(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (foreign / "broken.py").write_text("raise RuntimeError('imported')")
    (foreign / "_private.py").touch()
    monkeypatch.setitem(SECTIONS, "exporters", "elsewhere")
    assert types("exporters") == ["broken", "limit"]
    monkeypatch.setitem(SECTIONS, "exporters", "nowhere.at.all")
    assert types("exporters") == []
    monkeypatch.setitem(SECTIONS, "exporters", "elsewhere.limit")
    assert types("exporters") == [], "a module is no folder"


def test_a_type_of_ours_is_loaded_from_its_folder() -> None:
    found = load_type("traffic.upstreams", "http")
    assert found.module.__name__ == "sidecar.traffic.upstreams.http"
    assert (found.section, found.name) == ("traffic.upstreams", "http")
    assert found.config is found.module.Config


def test_a_type_with_a_dot_is_somebody_elses_module(foreign: Path) -> None:
    found = load_type("traffic.policies", "elsewhere.limit")
    declared = Declared("elsewhere.limit/x", found, found.config(limit=3))
    assert declared.build(Runtime()) == ("elsewhere.limit/x", 3)
    assert declared.path == "traffic.policies.elsewhere.limit/x"


def test_components_with_equal_settings_are_equal_wherever_they_stand(foreign: Path) -> None:
    found = load_type("traffic.policies", "elsewhere.limit")
    assert Declared("a", found, found.config(), 3, "x.yaml") == Declared("a", found, found.config(), 9, "y.yaml")
    assert Declared("a", found, found.config()) != Declared("a", found, found.config(limit=2))


def test_what_cannot_be_built_is_a_fault_at_its_place(foreign: Path) -> None:
    found = load_type("traffic.policies", "elsewhere.limit")
    with pytest.raises(ConfigInvalid) as caught:
        Declared("elsewhere.limit", found, found.config(limit=-1), 7, "c.yaml").build(Runtime())
    assert str(caught.value) == "c.yaml:7: traffic.policies.elsewhere.limit: limit is negative"
    fault = Declared("a", found, found.config(), 7).invalid("taken", "free it", setting="endpoint").faults[0]
    assert (fault.path, fault.hint) == ("traffic.policies.a.endpoint", "free it")


@pytest.mark.parametrize(
    ("section", "name", "source", "problem", "hint"),
    [
        ("traffic.upstreams", "htp", "", "unknown type 'htp'", "did you mean 'http'?"),
        ("extensions", "x", "", "extensions are not available in this version", ""),
        ("exporters", "elsewhere.gone", "", "ModuleNotFoundError", ""),
        ("exporters", "elsewhere.bad", "raise RuntimeError('no')", "cannot be imported: RuntimeError: no", ""),
        ("exporters", "elsewhere.bad", "x = 1", "is no component", "build(name, config, runtime)"),
        ("exporters", "elsewhere.bad", "Config = int", "is no component", ""),
        ("exporters", "elsewhere.bad", "Config = 5\ndef build(): pass", "is no component", ""),
    ],
)
def test_what_is_no_component_says_so(foreign: Path, section: str, name: str, source: str, problem: str, hint: str) -> None:
    (foreign / "bad.py").write_text(source)
    with pytest.raises(ComponentUnusable) as caught:
        load_type(section, name)
    assert problem in str(caught.value)
    assert hint in caught.value.hint


def test_a_wrong_word_is_answered_with_the_right_one() -> None:
    assert closest("exportres", ["exporters", "receivers"]) == "did you mean 'exporters'?"
    assert closest("zzz", ["b", "a"]) == "known: a, b"
    assert closest("zzz", []) == ""
    assert meant("zzz", ["a"]) == ""

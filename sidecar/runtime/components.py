"""
The loader: a YAML section is a folder, a component's type is a module in it, and only what is named is imported.

    traffic.policies.cost_guard/team  ->  sidecar/traffic/policies/cost_guard.py, instance `cost_guard/team`

A type with a dot is somebody else's module, found on Python's path. There is no list of components to edit.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.runtime.runtime import Runtime

SECTIONS = {
    "traffic.listeners": "sidecar.traffic.listeners",
    "traffic.policies": "sidecar.traffic.policies",
    "traffic.upstreams": "sidecar.traffic.upstreams",
    "receivers": "sidecar.telemetry.receivers",
    "processors": "sidecar.telemetry.processors",
    "exporters": "sidecar.telemetry.exporters",
    "connectors": "sidecar.telemetry.connectors",
    "extensions": "sidecar.telemetry.extensions",
}
"""Each section of the config that holds components, and the package of their modules."""

_TYPE = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,62}")
_DOTTED_TYPE = re.compile(r"[A-Za-z_]\w{0,62}(?:\.[A-Za-z_]\w{0,62}){1,15}")
_MAX_NAME = 1024


class ComponentUnusable(Exception):
    """An id names no component that can be loaded; `hint` says what to write instead."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ComponentType:
    """A loaded module: its `config` (the spec of its settings) and its `build(name, config, runtime)`."""

    section: str
    name: str
    module: Any
    config: type
    build: Callable[[str, Any, Runtime], Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """
    One component of a config: its id, as in `http/openai`, its type and its settings.

    Equal ones are interchangeable, wherever they stand: `line` and `source` are for faults only.
    """

    id: str
    kind: ComponentType
    spec: Any
    line: int = field(default=0, compare=False)
    source: str = field(default="", compare=False)

    @property
    def path(self) -> str:
        """Where it stands in the config, as in `traffic.upstreams.http/openai`."""
        return f"{self.kind.section}.{self.id}"

    def build(self, runtime: Runtime) -> Any:
        """Make the component; cheap, because what weighs is loaded by its `start`. Raises ConfigInvalid."""
        try:
            return self.kind.build(self.id, self.spec, runtime)
        except (ValueError, OSError) as error:
            raise self.invalid(str(error)) from error

    def invalid(self, problem: str, hint: str = "", *, setting: str = "") -> ConfigInvalid:
        """The error that says what is wrong with this component, or with one of its settings."""
        path = f"{self.path}.{setting}" if setting else self.path
        return ConfigInvalid([ConfigFault(path, self.line, problem, hint, self.source)])


def type_of(component_id: str) -> str:
    """The type in an id `type` or `type/name` (the Collector's grammar, component/identifiable.go); raises ComponentUnusable."""
    kind, slash, name = component_id.partition("/")
    if not (_TYPE.fullmatch(kind) or _DOTTED_TYPE.fullmatch(kind)):
        raise ComponentUnusable(f"{kind!r} is no type of a component", "an id is a type, or type/name, as in 'http/openai'")
    if slash and not _is_name(name):
        hint = f"a name has 1 to {_MAX_NAME} characters, without white space, control characters and symbols"
        raise ComponentUnusable(f"{name[:80]!r} is no name of a component", hint)
    return kind


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_NAME and not any(unicodedata.category(character)[0] in "ZCS" for character in name)


def types(section: str) -> list[str]:
    """The types that a section knows, sorted, without importing any; empty where the section has no code yet."""
    return modules_in(SECTIONS[section])


def modules_in(name: str) -> list[str]:
    """The modules of a package, sorted, without importing any; empty where there is no such package."""
    try:
        package = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return []
    if package is None or package.submodule_search_locations is None:
        return []
    names = (found.name for found in pkgutil.iter_modules(package.submodule_search_locations))
    return sorted(name for name in names if not name.startswith("_"))


def load_type(section: str, component_type: str) -> ComponentType:
    """Import the module of a type; raises ComponentUnusable where there is none, or where it is no component."""
    is_foreign = "." in component_type
    known = types(section)
    if not is_foreign and not known:
        raise ComponentUnusable(f"{section} are not available in this version")
    if not is_foreign and component_type not in known:
        raise ComponentUnusable(f"unknown type {component_type!r}", closest(component_type, known))
    name = component_type if is_foreign else f"{SECTIONS[section]}.{component_type}"
    try:
        module = importlib.import_module(name)
    except Exception as error:  # somebody else's module may raise anything when it is imported
        raise ComponentUnusable(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    config, build = getattr(module, "Config", None), getattr(module, "build", None)
    if not isinstance(config, type) or not callable(build):
        raise ComponentUnusable(f"{name} is no component", "a component has `Config` and `build(name, config, runtime)`")
    return ComponentType(section, component_type, module, config, build)


def meant(word: str, known: Iterable[str]) -> str:
    """The hint for a word that is nearly one of the known ones."""
    nearest = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def closest(word: str, known: Iterable[str]) -> str:
    """The hint for a word that is not among the known ones: the one that was meant, or else all of them."""
    known = sorted(known)
    return meant(word, known) or (f"known: {', '.join(known)}" if known else "")

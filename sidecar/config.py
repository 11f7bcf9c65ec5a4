"""
From YAML to a checked config: every component's settings, every reference, every order, and all faults at once.

    config = load("config/sidecar.yaml")        # raises ConfigInvalid, whose faults have path, line and hint

The grammar is the OpenTelemetry Collector's. Only the modules of the components that the config names are imported, and
nothing is built or started.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar.admin.spec import AdminSpec
from sidecar.engines.prices.spec import PricesSpec
from sidecar.model.authority import read_endpoint
from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.model.own_hosts import is_loopback
from sidecar.runtime.components import SECTIONS, ComponentUnusable, Declared, closest, load_type, type_of, types
from sidecar.runtime.document import Document, KeyPath, read_document
from sidecar.runtime.reading import read_spec
from sidecar.runtime.references import check_references
from sidecar.runtime.settings import settings_of
from sidecar.runtime.substitution import read_bounded
from sidecar.runtime.tree import changes, shown
from sidecar.telemetry.spec import ServiceSpec
from sidecar.traffic.spec import TrafficSpec

TOP_LEVEL = (
    "traffic", "prices", "chaos", "recordings", "store", "control", "admin", "workers",
    "receivers", "processors", "exporters", "connectors", "extensions", "service",
)  # fmt: skip
"""The closed list of keys at the top of a config."""

DEFAULT_FILE = Path("config/sidecar.yaml")

_NOT_YET = ("chaos", "recordings", "store", "control", "workers")
_TRAFFIC = settings_of(TrafficSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    A config that is good: `components` holds every declared component by section and id, `files` what is to be watched.

    Two configs are equal when nothing in them would make the sidecar behave differently; where they came from does not count.
    """

    traffic: TrafficSpec
    prices: PricesSpec
    service: ServiceSpec
    admin: AdminSpec
    components: Mapping[str, Mapping[str, Declared]]
    source: str = field(default="", compare=False)
    files: tuple[Path, ...] = field(default=(), compare=False)

    def declared(self, section: str, component_id: str) -> Declared:
        """The component of this id, as in `declared("exporters", "otlp_http/phoenix")`."""
        return self.components[section][component_id]

    def used(self, section: str) -> dict[str, Declared]:
        """Those components of a section that something refers to; every listener is used."""
        routes, pipelines = self.traffic.routes.values(), self.service.pipelines.values()
        match section:
            case "traffic.listeners":
                names = set(self.components[section])
            case "traffic.policies":
                names = {policy for route in routes for policy in route.policies}
            case "traffic.upstreams":
                names = {route.upstream for route in routes}
            case _:
                names = {name for pipeline in pipelines for name in getattr(pipeline, section, ())}
        return {name: declared for name, declared in self.components[section].items() if name in names}

    def unused(self) -> tuple[str, ...]:
        """The paths of components that are declared, and will not be built because nothing refers to them."""
        return tuple(
            declared.path
            for section, components in self.components.items()
            for name, declared in components.items()
            if name not in self.used(section)
        )

    def effective(self) -> dict[str, Any]:
        """The whole config with all defaults, in the order of the documentation; secrets are redacted."""
        traffic = shown(self.traffic)
        for name in ("listeners", "policies", "upstreams"):
            traffic[name] = self._shown_components(f"traffic.{name}")
        return {
            "traffic": traffic,
            "prices": shown(self.prices),
            **{section: self._shown_components(section) for section in SECTIONS if "." not in section and types(section)},
            "service": shown(self.service),
            "admin": shown(self.admin),
        }

    def _shown_components(self, section: str) -> dict[str, Any]:
        return {name: shown(declared.spec) for name, declared in self.components[section].items()}

    def changes_from(self, old: "Config") -> tuple[str, ...]:
        """What is different from an older config, as YAML paths with a word on what happened to each."""
        return tuple(changes(_comparable(old), _comparable(self)))


def _comparable(config: Config) -> dict[str, Any]:
    """A config as it was written, with real secrets: only for comparing."""
    components = {section: {name: one.spec for name, one in held.items()} for section, held in config.components.items()}
    traffic: dict[str, Any] = {name: getattr(config.traffic, name) for name in _TRAFFIC}
    traffic |= {section.partition(".")[2]: held for section, held in components.items() if "." in section}
    telemetry = {section: held for section, held in components.items() if "." not in section}
    return {"traffic": traffic, "prices": config.prices, **telemetry, "service": config.service, "admin": config.admin}


def load(path_or_text: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Config:
    """Read a config file, or a config itself (a text with a line break); raises ConfigInvalid with all faults."""
    if isinstance(path_or_text, str) and "\n" in path_or_text:
        return parse(path_or_text, environ=environ)
    path = Path(path_or_text)
    try:
        text = read_bounded(path).decode("utf-8-sig")
    except OSError as error:
        hint = "name a file with --config" if isinstance(error, FileNotFoundError) else ""
        raise ConfigInvalid([ConfigFault("config", 0, f"{path} cannot be read: {error.strerror}", hint, str(path))]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigInvalid([ConfigFault("config", line, "not UTF-8 text", source=str(path))]) from None
    return parse(text, source=str(path), folder=path.parent, environ=environ)


def parse(
    text: str, *, source: str = "", folder: str | os.PathLike[str] = ".", environ: Mapping[str, str] | None = None
) -> Config:
    """Read a config's text; `folder` is where `${file:…}` starts. Raises ConfigInvalid with all its faults."""
    environ = os.environ if environ is None else environ
    document = read_document(text, source=source, environ=environ, folder=Path(folder))
    config = _Reading(document).config()
    document.raise_faults()
    assert config is not None
    return config


def located(given: str | None, environ: Mapping[str, str]) -> Path | None:
    """The config file: what is given, else $SIDECAR_CONFIG, else config/sidecar.yaml if there is one, else None (built-in)."""
    chosen = given or environ.get("SIDECAR_CONFIG")
    if chosen:
        return Path(chosen)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def load_located(given: str | None, environ: Mapping[str, str]) -> Config:
    """Load the config that `located` finds, or the built-in one: a forward proxy with all defaults."""
    path = located(given, environ)
    return parse("", source="built-in config", environ=environ) if path is None else load(path, environ=environ)


class _Reading:
    """One pass over a document; faults are collected in it, so that all of them are seen at once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._top = self._mapping((), document.value)
        self._components: dict[str, dict[str, Declared]] = {}

    def config(self) -> Config | None:
        """The config, or None where the document has faults now."""
        for key in self._top:
            self._check_key(key)
        for section in SECTIONS:
            self._components[section] = self._read_section(section)
        traffic = self._read(TrafficSpec, "traffic", self._traffic_without_components())
        prices = self._read(PricesSpec, "prices", self._top.get("prices"))
        service = self._read(ServiceSpec, "service", self._top.get("service"))
        admin = self._read(AdminSpec, "admin", self._top.get("admin"))
        check_references(self._document, self._components, admin)
        if traffic is not None:
            self._check_loopback(traffic)
        if self._document.faults:
            return None
        return Config(
            traffic=traffic, prices=prices, service=service, admin=admin, components=self._components,
            source=self._document.source, files=self._document.files,
        )  # fmt: skip

    def _check_loopback(self, traffic: TrafficSpec) -> None:
        """Nobody from elsewhere reaches this machine's loopback, unless the config says so in a word of its own."""
        destinations = traffic.destinations
        if not destinations.allow_loopback or destinations.allow_loopback_from_elsewhere:
            return
        for name, declared in self._components["traffic.listeners"].items():
            endpoint = getattr(declared.spec, "endpoint", "")
            if endpoint and not is_loopback(read_endpoint(endpoint)[0]):
                self._document.fault(
                    ("traffic", "destinations", "allow_loopback"),
                    f"the listener {name!r} ({endpoint}) can be reached from elsewhere, and loopback through it",
                    "name upstreams for what is to be reached, or set `allow_loopback_from_elsewhere: true` beside it",
                )
                return

    def _check_key(self, key: str) -> None:
        if key not in TOP_LEVEL:
            self._document.fault((key,), "unknown key", closest(key, TOP_LEVEL))
        elif key in _NOT_YET or (key in SECTIONS and not types(key)):
            self._document.fault((key,), "not available in this version", "leave it out")

    def _mapping(self, path: KeyPath, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._document.fault(path, "has to be a mapping")
            return {}
        return value

    def _read(self, kind: type, key: str, value: Any) -> Any:
        return read_spec(kind, value, self._document, (key,))

    def _section(self, section: str) -> dict[str, Any]:
        """The bodies of a section's components by id."""
        value: Any = self._top
        for depth, key in enumerate(path := tuple(section.split("."))):
            value = self._mapping(path[:depth], value).get(key)
        if value is None and section.startswith("traffic."):
            return dict(_TRAFFIC[path[-1]].default)
        return self._mapping(path, value)

    def _read_section(self, section: str) -> dict[str, Declared]:
        found = {}
        for component_id, body in self._section(section).items() if "." in section or types(section) else ():
            path = (*section.split("."), component_id)
            try:
                kind = load_type(section, type_of(component_id))
            except ComponentUnusable as error:
                self._document.fault(path, str(error), error.hint)
                continue
            spec = read_spec(kind.config, body, self._document, path)
            if spec is not None:
                found[component_id] = Declared(component_id, kind, spec, self._document.line(path), self._document.source)
        return found

    def _traffic_without_components(self) -> Any:
        """What `TrafficSpec` reads: of the components only the ids, because their bodies are no business of its."""
        traffic = self._top.get("traffic")
        if not isinstance(traffic, dict):
            return traffic
        sections = [section.partition(".")[2] for section in SECTIONS if section.startswith("traffic.")]
        return {**traffic, **{name: dict.fromkeys(self._section(f"traffic.{name}")) for name in sections}}

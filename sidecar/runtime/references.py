"""
What the parts of a config say about each other: every id that is named exists, every order is right, no address is taken twice.

The checks look at the document as it was written, so that a fault in one place hides none in another.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.dialects.recognition import AUTO, IN_ORDER, PLAIN, is_dialect
from sidecar.model.spec import Spec
from sidecar.runtime.components import Declared, closest
from sidecar.runtime.document import Document, KeyPath, path_text

Components = Mapping[str, Mapping[str, Declared]]


def check_references(document: Document, components: Components, admin: Any) -> None:
    """Note in the document every reference, order and address that is wrong; `admin` is its spec, or None where it has faults."""
    _check_routes(document, components)
    _check_dialects(document)
    _check_pipelines(document, components)
    _check_endpoints(document, components, admin)


def _at(document: Document, *path: str) -> dict[str, Any]:
    """The mapping at this path of the document; empty where there is none."""
    value = document.value
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _names(value: Any) -> list[tuple[int, str]]:
    """The texts in a list with their places in it."""
    return [(index, name) for index, name in enumerate(value) if isinstance(name, str)] if isinstance(value, list) else []


def _check_exists(document: Document, path: KeyPath, name: str, *section: str) -> bool:
    declared = _at(document, *section)
    if name not in declared:
        what = ".".join(section)
        hint = closest(name, declared) or f"declare it under {what}"
        document.fault(path, f"{name!r} is not declared under {what}", hint)
    return name in declared


def _check_routes(document: Document, components: Components) -> None:
    seen: dict[str, str] = {}
    for name, route in _at(document, "traffic", "routes").items():
        if not isinstance(route, dict):
            continue
        path = ("traffic", "routes", name)
        if isinstance(upstream := route.get("upstream"), str):
            _check_exists(document, (*path, "upstream"), upstream, "traffic", "upstreams")
        if route.get("connect") == "intercept":
            hint = "write tunnel or deny, or let the agent call through the route's path"
            document.fault((*path, "connect"), "TLS interception is not available in this version", hint)
        if isinstance(prefix := route.get("path"), str):
            if prefix in seen:
                document.fault((*path, "path"), f"the route {seen[prefix]!r} has the path {prefix!r} already")
            seen.setdefault(prefix, name)
        _check_policies(document, (*path, "policies"), route.get("policies"), components["traffic.policies"])


def _check_policies(document: Document, path: KeyPath, policies: Any, declared: Mapping[str, Declared]) -> None:
    """A route's policies exist, stand once, and stand in the order of their stages, outermost first."""
    outer, outer_stage = "", 0
    seen = set()
    for index, name in _names(policies):
        here = (*path, index)
        if not _check_exists(document, here, name, "traffic", "policies"):
            continue
        if name in seen:
            document.fault(here, f"{name!r} stands twice in this list")
        seen.add(name)
        if name not in declared:
            continue  # its own fault is known
        stage = getattr(declared[name].kind.module, "STAGE", None)
        if stage is None:
            document.fault(here, f"the module of {name!r} has no STAGE", "it says where a policy stands: STAGE = Stage.LIMIT")
        elif stage < outer_stage:
            order = "what repeats a call stands above what each attempt takes"
            document.fault(here, f"{name!r} has to stand before {outer!r}", order)
        else:
            outer, outer_stage = name, stage


def _check_dialects(document: Document) -> None:
    """What an upstream of ours says that its endpoint speaks is one that we read, or somebody else's module."""
    known = (AUTO, PLAIN, *IN_ORDER)
    for name, upstream in _at(document, "traffic", "upstreams").items():
        dialect = upstream.get("dialect") if isinstance(upstream, dict) else None
        is_foreign = "." in name.partition("/")[0]  # what its settings mean is its own business
        if not isinstance(dialect, str) or dialect in known or is_foreign:
            continue
        here = ("traffic", "upstreams", name, "dialect")
        if "." not in dialect:
            document.fault(here, f"unknown dialect {dialect!r}", closest(dialect, known))
        elif not is_dialect(dialect):
            hint = "name a module that can be imported and has the functions of sidecar.dialects.dialect.Dialect"
            document.fault(here, f"{dialect!r} is no dialect", hint)


def _check_pipelines(document: Document, components: Components) -> None:
    for pipeline, parts in _at(document, "service", "pipelines").items():
        for section in ("receivers", "processors", "exporters"):
            for index, name in _names(parts.get(section)) if isinstance(parts, dict) else ():
                here = ("service", "pipelines", pipeline, section, index)
                if _check_exists(document, here, name, section) and name in components[section]:
                    _check_signal(document, here, pipeline, components[section][name])


def _check_signal(document: Document, path: KeyPath, pipeline: str, declared: Declared) -> None:
    signal = pipeline.partition("/")[0]
    signals = getattr(declared.kind.module, "SIGNALS", None)
    if signals is not None and signal not in signals:
        document.fault(path, f"{declared.id!r} knows no {signal}", f"it can be used for {', '.join(sorted(signals))}")


def _check_endpoints(document: Document, components: Components, admin: Any) -> None:
    """Two that listen do not want the same address; port 0 is free whatever happens."""
    pipelines = _at(document, "service", "pipelines").values()
    received = {name for parts in pipelines if isinstance(parts, dict) for _, name in _names(parts.get("receivers"))}
    listening: list[tuple[KeyPath, Any]] = [
        (("traffic", "listeners", name), declared.spec) for name, declared in components["traffic.listeners"].items()
    ]
    listening += [(("receivers", name), one.spec) for name, one in components["receivers"].items() if name in received]
    listening += [(("admin",), admin)]
    taken: list[tuple[str, str, KeyPath]] = []
    for path, spec in listening:
        for here, endpoint in _endpoints(spec, path):
            host, _, port = endpoint.rpartition(":")
            for other_host, other_port, other in taken:
                if port == other_port != "0" and _overlap(host, other_host):
                    first, second = (other, here) if document.line(here) else (here, other)
                    document.fault(second, f"{endpoint} is taken already by {path_text(first)}", "give each its own port")
            taken.append((host, port, here))


def _endpoints(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every setting called `endpoint` in a spec, however deep."""
    if not isinstance(value, Spec):
        return
    for field in dataclasses.fields(value):  # type: ignore[arg-type]  # specs are dataclasses
        held = getattr(value, field.name)
        if field.name == "endpoint" and isinstance(held, str):
            yield (*path, field.name), held
        yield from _endpoints(held, (*path, field.name))


_EVERYWHERE = frozenset({"", "*", "0.0.0.0", "[::]"})  # noqa: S104 - compared with, not bound to
_SAME = {"localhost": "127.0.0.1"}


def _overlap(one: str, other: str) -> bool:
    return _SAME.get(one, one) == _SAME.get(other, other) or one in _EVERYWHERE or other in _EVERYWHERE

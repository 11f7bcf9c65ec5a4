"""List every component type with its settings, their types, defaults and meaning, section by section."""

import argparse
import json
import sys
import textwrap
from typing import Any

HELP = "list all component types with their settings, defaults and units"

_INDENT = " " * 6
_WIDTH = 110


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--json` for programs, and which sections to list."""
    parser.add_argument("section", nargs="*", help="only these, as in: exporters traffic.policies (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the list; 1 where a section is not known."""
    listed = {**_parts(), **_components()}
    unknown = [name for name in arguments.section if name not in listed]
    if unknown:
        print(f"no such section: {', '.join(unknown)} (known: {', '.join(listed)})", file=sys.stderr)
        return 1
    chosen = {name: types for name, types in listed.items() if name in (arguments.section or listed)}
    if arguments.json:
        print(json.dumps(chosen, indent=2))
        return 0
    for section, types in chosen.items():
        print(f"\n{section}")
        for name, described in types.items():
            _print_type(name, described)
    return 0


def _parts() -> dict[str, dict[str, Any]]:
    """What stands in a config beside components."""
    from sidecar.admin.spec import AdminSpec
    from sidecar.telemetry.spec import ServiceSpec
    from sidecar.traffic.spec import TrafficSpec

    return {
        name: {"": {"doc": kind.__doc__ or "", "settings": _settings(kind)}}
        for name, kind in (("traffic", TrafficSpec), ("service", ServiceSpec), ("admin", AdminSpec))
    }


def _components() -> dict[str, dict[str, Any]]:
    from sidecar.runtime.components import SECTIONS, ComponentUnusable, load_type, types

    listed: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        for name in types(section):
            try:
                found = load_type(section, name)
            except ComponentUnusable as error:  # a library that is an extra may be missing; the others are still of use
                listed.setdefault(section, {})[name] = {"doc": str(error), "settings": []}
                continue
            described = {"doc": found.module.__doc__ or "", "settings": _settings(found.config)}
            listed.setdefault(section, {})[name] = described
    return listed


def _settings(kind: type) -> list[dict[str, Any]]:
    from sidecar.runtime.settings import is_spec, type_text, walk
    from sidecar.runtime.tree import shown

    if not is_spec(kind):
        return []
    return [
        {"name": path, "type": type_text(setting.annotation), "doc": doc}
        | ({"required": True} if setting.is_required else {"default": shown(setting.default)})
        for path, setting, doc in walk(kind)
    ]


def _print_type(name: str, described: dict[str, Any]) -> None:
    doc = textwrap.dedent(described["doc"]).strip()
    print(f"\n  {name}\n" if name else "")
    print(textwrap.indent(doc, "    "))
    for setting in described["settings"]:
        value = "required" if setting.get("required") else f"default {json.dumps(setting['default'], ensure_ascii=False)}"
        print(f"\n    {setting['name']}: {setting['type']}, {value}")
        if setting["doc"]:
            print(textwrap.fill(setting["doc"], _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT))

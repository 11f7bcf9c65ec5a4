"""
The blocks of README.md and docs/ that are written by a program, so that they cannot grow old: `make docs` writes them.

A block stands between `<!-- generated: NAME -->` and `<!-- /generated -->`; a test compares it with what would be written now.
"""

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import sidecar.cli
from sidecar.admin.spec import AdminSpec
from sidecar.engines.prices.spec import PricesSpec
from sidecar.model.errors import CODES, Fault
from sidecar.runtime.components import SECTIONS, load_type, types
from sidecar.runtime.settings import is_spec, type_text, walk
from sidecar.telemetry.spec import ServiceSpec
from sidecar.traffic.spec import TrafficSpec
from tests.repository import ROOT

_BLOCK = re.compile(r"(?P<begin><!-- generated: (?P<name>[a-z]+) -->\n).*?(?P<end><!-- /generated -->)", re.DOTALL)

_WHOSE = {
    Fault.CLIENT: "the client",
    Fault.OPERATOR: "whoever runs the sidecar",
    Fault.UPSTREAM: "the upstream",
    Fault.SIDECAR: "the sidecar",
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def errors() -> str:
    """Every error that the sidecar itself makes."""
    rows = (
        (f"`{name}`", str(code.status), _WHOSE[code.fault], "yes" if code.retry else "no", code.advice)
        for name, code in CODES.items()
    )
    return _table(("code", "status", "who can mend it", "retry", "what to do"), rows)


def commands() -> str:
    """Every command, with the line that `sidecar --help` shows for it."""
    modules = {name: importlib.import_module(f"sidecar.cli.{name}") for name in sidecar.cli.commands()}
    return _table(("command", "what it does"), ((f"`sidecar {name}`", module.HELP) for name, module in modules.items()))


def settings() -> str:
    """Every setting of every component of this version, and of the sections that are not components."""
    parts = [_settings("`traffic`", TrafficSpec, skip=("listeners", "policies", "upstreams"))]
    parts.append(_settings("`prices`", PricesSpec))
    for section in SECTIONS:
        for name in types(section):
            kind = load_type(section, name)
            parts.append(_settings(f"`{section}.{name}`", kind.config, about=_first_sentence(kind.module.__doc__)))
    parts += [_settings("`service`", ServiceSpec), _settings("`admin`", AdminSpec)]
    return "\n".join(parts)


def _settings(title: str, kind: type, *, about: str = "", skip: tuple[str, ...] = ()) -> str:
    rows = [
        (f"`{path}`", type_text(setting.annotation), _default(setting), doc)
        for path, setting, doc in walk(kind)
        if path.partition(".")[0] not in skip
    ]
    text = f"### {title}\n\n{about or _first_sentence(kind.__doc__)}\n\n"
    return text + (_table(("setting", "is", "default", "meaning"), rows) if rows else "It has no settings.\n")


def _default(setting: Any) -> str:
    if setting.is_required:
        return "required"
    default = setting.default
    if is_spec(type(default)) or default is None or default in ("", (), {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


def _first_sentence(text: str | None) -> str:
    paragraph = (text or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split())


BLOCKS: dict[str, Callable[[], str]] = {"commands": commands, "errors": errors, "settings": settings}

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rewritten(text: str) -> str:
    """The document as it should be; raises KeyError for a block that nobody knows how to write."""
    return _BLOCK.sub(lambda found: f"{found['begin']}{BLOCKS[found['name']]()}{found['end']}", text)


def main() -> None:
    """Write every block anew."""
    for path in DOCUMENTS:
        path.write_text(rewritten(path.read_text()))


if __name__ == "__main__":
    main()

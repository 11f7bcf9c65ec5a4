"""The house has floors, and imports go down only; lazy imports and those for type checkers count like any other."""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from tests.repository import PACKAGE, ROOT, files, imports, name, sources

FLOORS = {
    "model": 1, "pb": 1,
    "engines": 2, "dialects": 2, "store": 2,
    "runtime": 3,
    "traffic": 4, "telemetry": 4, "control": 4,
    "admin": 5,
    "app": 6, "config": 6, "sre": 6,
    "cli": 7, "demo": 7, "terminal": 7,
    "__main__": 8,
}  # fmt: skip
"""Each folder (and file) of `sidecar/` and the floor that it stands on."""

NEIGHBOURS = {("app", "config"), ("cli", "demo"), ("cli", "terminal"), ("demo", "terminal")}
"""Who may look next door, on floors that hold no planes: the app is built from the config, commands share a screen and a demo."""

KEPT_TO = {
    "aiohttp": {"admin", "telemetry", "demo"},
    "grpc": {"telemetry", "traffic"},
    "brotli": {"traffic"},
    "backports": {"traffic"},
    "compression": {"traffic"},
    "google": {"telemetry", "pb", "demo"},
    "opentelemetry": {"telemetry", "demo"},
    "httptools": {"traffic"},
    "pydantic": {"config", "runtime"},
    "pydantic_core": {"config", "runtime"},
    "yaml": {"config", "runtime", "cli"},
    "uvloop": {"cli", "app"},
    "msgspec": {"dialects", "store", "traffic", "telemetry", "control", "admin", "cli"},
}
"""Which folders may lean on which library: whoever replaces one knows where to look, and the fast path stays lean."""

PURE = {"engines", "dialects"}
"""No I/O and no clock: what they know comes in through their arguments."""

IMPURE = {
    "aiohttp",
    "asyncio",
    "grpc",
    "http",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uvloop",
}


def place(path: Path) -> str:
    """The folder (or the file) directly under sidecar/ that a source file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def above(module: str) -> str:
    """The place that `sidecar.traffic.spec` names: `traffic`."""
    return module.split(".")[1]


def ours(path: Path) -> list[tuple[str, int]]:
    """Our modules that a file imports, each with its line; `from sidecar import __version__` is nobody's floor."""
    found: list[tuple[str, int]] = []
    for each in imports(path):
        if each.module == "sidecar":
            found += [(f"sidecar.{one}", each.line) for one in each.names if not one.startswith("__")]
        elif each.module.startswith("sidecar."):
            found.append((each.module, each.line))
    return found


def stands_on(here: str, there: str) -> bool:
    """Whether `here` may import from `there`."""
    return here == there or FLOORS[there] < FLOORS[here] or (here, there) in NEIGHBOURS


ON_A_FLOOR = [path for path in sources() if place(path) != "__init__"]


def test_every_folder_stands_on_a_floor() -> None:
    homeless = sorted({place(path) for path in ON_A_FLOOR} - FLOORS.keys())
    assert not homeless, f"give {homeless} a floor, here and in the architecture, before anybody imports from it"


def test_imports_go_down_only() -> None:
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in ON_A_FLOOR
        for module, line in ours(path)
        if not stands_on(place(path), above(module))
    ]
    assert not wrong


def test_the_root_package_imports_nothing_at_once() -> None:
    at_once = [each.module for each in imports(PACKAGE / "__init__.py") if each.at_once and each.module.startswith("sidecar")]
    assert not at_once, "`import sidecar` is paid by every command; load public names lazily (PEP 562)"


def test_no_import_is_relative_or_takes_everything() -> None:
    wrong = [f"{name(path)}:{each.line}" for path in sources() for each in imports(path) if each.level or "*" in each.names]
    assert not wrong


def foreign(path: Path) -> list[tuple[str, int]]:
    tops = [(each.module.split(".")[0], each.line) for each in imports(path)]
    return [(top, line) for top, line in tops if top != "sidecar" and top not in sys.stdlib_module_names]


def test_a_library_is_used_where_it_belongs() -> None:
    wrong = [
        f"{name(path)}:{line} imports {top}, which only {sorted(KEPT_TO.get(top, set()))} may"
        for path in ON_A_FLOOR
        for top, line in foreign(path)
        if place(path) not in KEPT_TO.get(top, set())
    ]
    assert not wrong


def test_the_model_needs_the_standard_library_only() -> None:
    assert not [(name(path), foreign(path)) for path in sources() if place(path) == "model" and foreign(path)]


def test_engines_and_dialects_have_no_clock_and_no_network() -> None:
    pure = [path for path in sources() if place(path) in PURE]
    assert not [f"{name(path)}:{each.line}" for path in pure for each in imports(path) if each.module.split(".")[0] in IMPURE]


BROUGHT_BY = {
    "a2a": "a2a-sdk",
    "backports": "backports.zstd",
    "compression": "backports.zstd",
    "google": "protobuf",
    "grpc": "grpcio",
    "opentelemetry": "opentelemetry-sdk",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
}
"""Libraries whose name on the index is another one; `compression.zstd` is what Python 3.14 brings itself."""


def declared(*lists: list[str]) -> set[str]:
    """Names of requirements, without their versions."""
    return {re.split(r"[<>=~!\[ ]", line)[0] for each in lists for line in each}


def used(paths: Iterable[Path]) -> set[str]:
    """Names on the index of the libraries that files import."""
    tops = {top for path in paths for top, _ in foreign(path)} - {"tests"}
    return {BROUGHT_BY.get(top, top.replace("_", "-")) for top in tops}


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    at_run_time, for_tests = project["dependencies"], [*extras["test"], *extras["sdks"]]
    assert used(sources()) <= declared(at_run_time)
    tests = [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    assert used(tests) <= declared(at_run_time, for_tests)

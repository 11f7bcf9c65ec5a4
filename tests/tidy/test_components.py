"""Each component keeps the contract: `Config`, `build`, an example that is right, and a life that can end twice."""

import ast
import asyncio
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.model.spec import Spec
from sidecar.runtime.components import SECTIONS, ComponentType, load_type, type_of, types
from sidecar.runtime.document import read_document
from sidecar.runtime.reading import read_spec
from sidecar.runtime.runtime import HasHealth, Health, Runtime, Starts, State, Stops
from sidecar.runtime.settings import docs_of, settings_of
from tests.repository import PACKAGE, name, sources, tree

EVERY = [(section, each) for section in SECTIONS for each in types(section)]

every_component = pytest.mark.parametrize(
    ("section", "component_type"), EVERY, ids=[f"{section}.{each}" for section, each in EVERY]
)


def blocks(text: str) -> Iterator[str]:
    """The indented blocks of a docstring: what stands between less indented lines."""
    block: list[str] = []
    for line in [*inspect.cleandoc(text).splitlines(), ""]:
        if line.startswith("    "):
            block.append(line)
        elif block and line:
            yield textwrap.dedent("\n".join(block))
            block = []
    if block:
        yield textwrap.dedent("\n".join(block))


def examples(kind: ComponentType) -> list[tuple[str, Any]]:
    """The components of this very type in the YAML examples of a module's docstring, each as id and settings."""
    found: list[tuple[str, Any]] = []
    for block in blocks(kind.module.__doc__ or ""):
        try:
            read = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        if isinstance(read, dict):
            found += [(key, body) for key, body in read.items() if str(key).partition("/")[0] == kind.name]
    return found


def read(kind: ComponentType, component_id: str, body: Any) -> Any:
    document = read_document(yaml.safe_dump({component_id: body}), source="docstring", environ={}, folder=Path())
    spec = read_spec(kind.config, document.value[component_id], document, (component_id,))
    document.raise_faults()
    return spec


def test_there_are_components_to_look_at() -> None:
    sections = {section for section, _ in EVERY}
    assert {"traffic.listeners", "traffic.upstreams", "receivers", "exporters"} <= sections


@every_component
def test_a_component_has_config_build_and_a_docstring(section: str, component_type: str) -> None:
    kind = load_type(section, component_type)
    assert issubclass(kind.config, Spec)
    assert dataclasses.is_dataclass(kind.config)
    assert kind.config.__dataclass_params__.frozen  # type: ignore[attr-defined]  # every dataclass has it
    assert not hasattr(kind.config, "__dict__") or "__slots__" in kind.config.__dict__
    assert list(inspect.signature(kind.build).parameters) == ["name", "config", "runtime"]


@every_component
def test_every_setting_of_a_component_says_what_it_is(section: str, component_type: str) -> None:
    config = load_type(section, component_type).config
    assert settings_of(config).keys() == docs_of(config).keys(), "a string under each field documents it"


@every_component
def test_the_example_in_the_docstring_is_right(section: str, component_type: str) -> None:
    kind = load_type(section, component_type)
    found = examples(kind)
    assert found, f"show {component_type} as YAML in the docstring, indented by four spaces"
    for component_id, body in found:
        assert type_of(component_id) == component_type
        assert isinstance(read(kind, component_id, body), kind.config)


@every_component
def test_a_component_is_imported_without_doing_anything(section: str, component_type: str) -> None:
    module = load_type(section, component_type).module
    assert module.__file__
    harmless = (
        ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
        ast.If, ast.Try,
    )  # fmt: skip
    for node in tree(Path(module.__file__)).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert is_text or isinstance(node, harmless), f"{name(Path(module.__file__))}:{node.lineno} runs at import"


def on_free_ports(body: Any) -> Any:
    """The same settings on ports that are free, so that two suites can run at once."""
    if isinstance(body, dict):
        return {key: on_free_ports(value) for key, value in body.items()}
    if isinstance(body, str) and body.startswith("127.0.0.1:"):
        return "127.0.0.1:0"
    return body


def connected(built: Any, kind: ComponentType) -> Any:
    """The component with what its plane gives it before `start`: receivers and processors are told where to send."""
    connect = getattr(built, "connect", None)
    if connect is not None:
        from sidecar.telemetry.signals import Signal

        connect(dict.fromkeys(getattr(kind.module, "SIGNALS", tuple(Signal)), lambda batch: True))
    return built


@every_component
async def test_a_component_stops_without_a_start_and_twice_after_one(
    section: str, component_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kind = load_type(section, component_type)
    for component_id, body in examples(kind):
        spec = read(kind, component_id, on_free_ports(body))
        never_started = connected(kind.build(component_id, spec, _runtime(tmp_path)), kind)
        await _stop(never_started)
        await _stop(never_started)

        built = connected(kind.build(component_id, spec, _runtime(tmp_path)), kind)
        if isinstance(built, HasHealth):
            assert isinstance(built.health(), Health)
        if isinstance(built, Starts):
            async with asyncio.timeout(10):
                await built.start()
        if isinstance(built, HasHealth):
            assert built.health().state is not State.FAILED
        await _stop(built)
        await _stop(built)


def _runtime(folder: Path) -> Runtime:
    return Runtime(environ={"HOME": str(folder)})


async def _stop(built: Any) -> None:
    if isinstance(built, Stops):
        async with asyncio.timeout(10):
            await built.stop()


def test_every_module_in_a_folder_of_components_is_one() -> None:
    folders = [PACKAGE.joinpath(*package.split(".")[1:]) for package in SECTIONS.values()]
    modules = {path for path in sources() if path.parent in folders and path.name != "__init__.py"}
    packages = {path for path in sources() if path.parent.parent in folders and path.name == "__init__.py"}
    wrong = [
        name(path)
        for path in sorted(modules | packages)
        if not {"Config", "build"}
        <= {
            *(node.name for node in tree(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)),
            *(alias.asname or alias.name for node in tree(path).body if isinstance(node, ast.ImportFrom) for alias in node.names),
        }
    ]
    assert not wrong, "what several components share lives one floor up"

"""Where files stand and what they are called: a newcomer finds everything without searching."""

import ast
from pathlib import Path

from tests.repository import PACKAGE, ROOT, files, name, sources, tree

LONGEST = 420
"""Lines: a longer file asks for a second noun."""

NOT_NOUNS = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "lib", "base", "core", "impl"}
"""A file of this name says nothing about what is in it, so that everything ends up there."""

TESTS = [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]


def has_code(path: Path) -> bool:
    """A guide may export names; it is code, and tested by a file of its own, from its first function on."""
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree(path).body)


def mirrors(path: Path) -> list[Path]:
    """
    Where the test of a source file stands: `sidecar/model/trace.py` is tested by `tests/model/test_trace.py`.

    What makes a package out of a folder is tested beside the folder: `sidecar/cli/__init__.py` by `tests/cli/test_cli.py` or
    `tests/test_cli.py`.
    """
    inside = path.relative_to(PACKAGE)
    folder = ROOT / "tests" / inside.parent
    if path.name == "__init__.py":
        return [folder / f"test_{path.parent.name}.py", folder.parent / f"test_{path.parent.name}.py"]
    return [folder / f"test_{path.name}"]


def test_every_source_file_has_a_test_of_its_name() -> None:
    with_code = [path for path in sources() if path.name not in {"__init__.py", "__main__.py"} or has_code(path)]
    missing = [name(mirrors(path)[0]) for path in with_code if not any(mirror.is_file() for mirror in mirrors(path))]
    assert not missing


def test_every_mirrored_test_has_a_source_file() -> None:
    folders = {path.parent.relative_to(PACKAGE) for path in sources()}
    expected = {mirror for path in sources() for mirror in mirrors(path)}
    orphans = [
        name(path)
        for path in TESTS
        if path.name.startswith("test_")
        and path.parent.relative_to(ROOT / "tests") in folders - {Path()}
        and path not in expected
    ]
    assert not orphans, "a test of several files belongs into tests/scenarios or tests/conformance"


def test_the_map_of_the_wire_names_each_of_its_files() -> None:
    folder = PACKAGE / "traffic" / "wire"
    text = (folder / "__init__.py").read_text()
    assert not [path.name for path in sources() if path.parent == folder and path.stem != "__init__" and path.name not in text]


def test_no_file_is_longer_than_one_noun() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in sources()}
    assert not {path: count for path, count in lines.items() if count > LONGEST}


def test_a_file_is_called_by_its_noun() -> None:
    wrong = [
        name(path)
        for path in [*sources(), *TESTS]
        if NOT_NOUNS & {part.removesuffix(".py").removeprefix("test_").strip("_") for part in path.relative_to(ROOT).parts}
    ]
    assert not wrong


def test_every_folder_of_the_package_has_a_guide_at_its_door() -> None:
    folders = {path.parent for path in sources()}
    missing = [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert not missing
    silent = [name(folder) for folder in sorted(folders) if not ast.get_docstring(tree(folder / "__init__.py"))]
    assert not silent, "say what lives here, the contract, and the smallest template"


def test_every_file_says_what_it_is() -> None:
    assert not [name(path) for path in sources() if not ast.get_docstring(tree(path))]


def test_no_folder_of_tests_is_a_package() -> None:
    assert not [name(path) for path in TESTS if path.name == "__init__.py"], "pytest imports by path (importlib mode)"


def test_private_names_stay_in_their_file() -> None:
    wrong = [
        f"{name(path)}:{node.lineno} takes {alias.name} from {node.module}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sidecar")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not wrong


def test_the_top_of_the_repository_is_what_the_architecture_says() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in files()}
    expected = {
        ".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md",
        "config", "deploy", "docs", "proto", "pyproject.toml", "sidecar", "tests",
    }  # fmt: skip
    assert top <= expected, f"does {sorted(top - expected)} belong at the top?"
    assert expected <= top, f"missing: {sorted(expected - top)}"

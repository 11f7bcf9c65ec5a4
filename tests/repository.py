"""The repository as the tests of its own tidiness see it: its files, their syntax trees, their imports."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sidecar"

_NOT_OURS = {".git", "__pycache__", "build", "dist", "htmlcov"}


@cache
def files() -> tuple[Path, ...]:
    """Every file that is committed or would be; without git (an unpacked archive) every file that nobody generated."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _generated(path.relative_to(ROOT))]
    return tuple(sorted(path for path in found if path.is_file()))


def _generated(path: Path) -> bool:
    return any(
        part in _NOT_OURS or part.startswith((".venv", ".cov")) or part.endswith((".egg-info", "_cache")) for part in path.parts
    )


@cache
def sources() -> tuple[Path, ...]:
    """Every Python file of the package, without what a compiler wrote."""
    return tuple(path for path in files() if path.suffix == ".py" and path.is_relative_to(PACKAGE) and "pb" not in path.parts)


def name(path: Path) -> str:
    """A path as people say it, from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(), filename=str(path))


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: its full `module` name, the `names` taken from it, and whether it is imported with the file itself."""

    module: str
    names: tuple[str, ...]
    line: int
    level: int
    at_once: bool


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file: at the top, inside functions, and for type checkers only (those are not `at_once`)."""
    yield from _imports(tree(path).body, at_once=True)


def _imports(body: list[ast.stmt], *, at_once: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, 0, at_once)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.lineno, node.level, at_once)
        else:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_type_checkers(node)
            for inner in _bodies(node):
                yield from _imports(inner, at_once=at_once and not later)


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        inner = getattr(node, field, None)
        if isinstance(inner, list):
            yield inner
    for handler in getattr(node, "handlers", []):
        yield handler.body
    for case in getattr(node, "cases", []):
        yield case.body

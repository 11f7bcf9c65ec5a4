"""Rules of style that no linter knows, each with its reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository import PACKAGE, ROOT, files, name, sources, tree

SILENCED = re.compile(r"#\s*(?:noqa:?\s*[A-Z0-9, ]*|type:\s*ignore\S*|pragma:\s*no cover)(?P<rest>.*)")
REASON = re.compile(r"\w+\s+\w+")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|NotImplementedError")
PYTHON = [path for path in files() if path.suffix == ".py" and "pb" not in path.parts]


def calls(path: Path) -> list[tuple[str, int]]:
    """Each dotted name that a file mentions, with its line: `time.monotonic`, called or passed on."""
    return [(ast.unparse(node), node.lineno) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]


CLOCKS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now", "datetime.date.today",
}  # fmt: skip

MAY_READ_A_CLOCK = {
    "model/clock.py": CLOCKS,  # it is the clock
    "traffic/meter.py": {"time.time_ns", "time.monotonic_ns"},
    "traffic/wire/": {"time.monotonic_ns"},
    "traffic/grpc/": {"time.monotonic_ns"},
}
"""
Time is an argument (architecture, 'Style'). The fast path measures for its facts when real bytes came and went, which decides
nothing, and where one more call a call is CPU; its deadlines, which do decide, come from the listener's Clock.
"""


def allowed(path: Path) -> set[str]:
    """The clocks that a source file may read itself."""
    inside = path.relative_to(PACKAGE).as_posix()
    return set().union(*(clocks for place, clocks in MAY_READ_A_CLOCK.items() if inside.startswith(place)))


def test_only_the_clock_reads_clocks() -> None:
    wrong = [
        f"{name(path)}:{line} reads {called}"
        for path in sources()
        for called, line in calls(path)
        if called in CLOCKS - allowed(path)
    ]
    assert not wrong, "take a Clock (sidecar.model.clock) as an argument"


def test_no_clock_comes_in_under_another_name() -> None:
    harmless = {"sleep", "strftime", "gmtime"}
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and node.module == "time"
        and {f"time.{alias.name}" for alias in node.names if alias.name not in harmless} - allowed(path)
    ]
    assert not wrong


def test_every_reason_to_read_a_clock_still_stands() -> None:
    used = {path.relative_to(PACKAGE).as_posix() for path in sources() for called, _ in calls(path) if called in CLOCKS}
    unused = [place for place in MAY_READ_A_CLOCK if not any(path.startswith(place) for path in used)]
    assert not unused, "remove the exceptions that nobody needs any more"


def test_chance_comes_in_through_the_door() -> None:
    wrong = [
        f"{name(path)}:{line} {called}"
        for path in sources()
        for called, line in calls(path)
        if called.startswith("random.") and called not in {"random.Random", "random.SystemRandom"}
    ]
    assert not wrong, "take a random.Random as an argument, so that a test can give its own"


FACTS = {node.name for node in tree(PACKAGE / "model" / "facts.py").body if isinstance(node, ast.ClassDef)}
HEARD = re.compile(r"\b(?:fact|attempt_finished|exchange_finished|finished)\b")


def test_facts_have_slots_and_what_they_share_has_no_state() -> None:
    for node in tree(PACKAGE / "model" / "facts.py").body:
        if not isinstance(node, ast.ClassDef) or any("Enum" in ast.unparse(base) for base in node.bases):
            continue
        decorators = [ast.unparse(each) for each in node.decorator_list]
        is_without_state = "__slots__ = ()" in map(ast.unparse, node.body)
        assert [each for each in decorators if each != "final"] == ["dataclass(slots=True)"] or (not decorators and is_without_state), node.name


def _facts_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names that hold a fact in a function: parameters annotated with a fact's type, or called `fact`."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    named = {
        argument.arg
        for argument in every
        if argument.arg == "fact" or (argument.annotation and FACTS & set(re.findall(r"\w+", ast.unparse(argument.annotation))))
    }
    made = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).split(".")[-1] in FACTS
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return named | made


def _changed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for node in ast.walk(function):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        found += [
            (target.value.id, node.lineno)
            for target in targets
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
        ]
    return found


def test_nobody_changes_a_fact() -> None:
    wrong = [
        f"{name(path)}:{line} changes {variable}"
        for path in sources()
        for function in ast.walk(tree(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for variable, line in _changed(function)
        if variable in _facts_in(function)
    ]
    assert not wrong, "a fact is the past; make a new one"


def lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Each line of the files, with its place; this file is left out, because it names what it forbids."""
    for path in paths:
        if path != Path(__file__):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                yield f"{name(path)}:{number}", line


def test_what_is_silenced_has_its_reason_beside_it() -> None:
    silenced = [(place, line, SILENCED.search(line)) for place, line in lines(list(sources()))]
    assert not [f"{place}: {line.strip()}" for place, line, found in silenced if found and not REASON.search(found["rest"])]


def test_nothing_is_unfinished() -> None:
    assert not [f"{place}: {line.strip()}" for place, line in lines(PYTHON) if UNFINISHED.search(line)]


def test_a_skipped_test_asks_the_machine_first() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in PYTHON
        if path.is_relative_to(ROOT / "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"pytest.mark.skip", "pytest.mark.xfail"}
    ]
    assert not wrong, "use skipif with a condition and a reason; a broken test is mended or removed"


def test_no_task_is_without_an_owner() -> None:
    """`asyncio.create_task` forgets its task unless somebody keeps it; the loop holds weak references only."""
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).split(".")[-1] in {"create_task", "ensure_future"}
        and "group" not in ast.unparse(node.value.func)
    ]
    assert not wrong


def test_no_group_of_a_regular_expression_is_possessive_or_atomic() -> None:
    """Before Python 3.11.5 (Debian 12 has 3.11.2) such a group may match what it does not (gh-106052); `[…]*+` is sound."""
    character_class = re.compile(r"\[\^?(?:\\.|[^\]\\])+\]")
    possessive = re.compile(r"\)(?:[*+?]|\{[\d,%]+d?\})\+|\(\?>")
    assert possessive.search("(a=b)*+") and possessive.search("(?:a){0,%d}+") and possessive.search("(?>a)")
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if possessive.search(
            character_class.sub("x", node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
        )
    ]
    assert not wrong

"""What is committed in sidecar/pb is what a compiler makes of proto/, goes into the wheel, and asks for no newer protobuf than we do."""

import importlib
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor

from tests.repository import ROOT

PROTO, PB = ROOT / "proto", ROOT / "sidecar" / "pb"
SOURCES = sorted(PROTO.rglob("*.proto"))

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def generated(source: Path, suffix: str, *, under: Path = PB) -> Path:
    inside = source.relative_to(PROTO)
    return under / inside.parent / f"{inside.stem}_pb2{suffix}"


def comparable(text: str) -> str:
    """Without what differs between releases of the compiler: its own version, and how stubs write an optional bool."""
    text = re.sub(r"(?m)^# Protobuf Python Version: .*$", "", text)
    text = re.sub(r"(Domain\.PUBLIC,)\s*\d+,\s*\d+,\s*\d+,\s*'[^']*'", r"\1", text)
    return text.replace("_Optional[bool]", "bool")


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything as the compiler of the tests writes it."""
    folder = tmp_path_factory.mktemp("pb")
    names = [str(path.relative_to(PROTO)) for path in SOURCES]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={folder}", f"--pyi_out={folder}", *names]
    subprocess.run(command, cwd=PROTO, check=True, timeout=60)
    return folder


def test_there_is_something_to_compile() -> None:
    assert SOURCES


@every_source
@pytest.mark.parametrize("suffix", [".py", ".pyi"])
def test_what_is_committed_is_what_the_compiler_writes(source: Path, suffix: str, anew: Path) -> None:
    committed, fresh = generated(source, suffix), generated(source, suffix, under=anew)
    assert comparable(committed.read_text()) == comparable(fresh.read_text()), "make proto"


def test_nothing_else_is_there() -> None:
    found = {path for path in PB.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert found == {PB / "__init__.py", *(generated(source, suffix) for source in SOURCES for suffix in (".py", ".pyi"))}


@every_source
def test_the_package_says_folder_and_version(source: Path) -> None:
    folder = source.relative_to(PROTO).parent
    assert re.fullmatch(r"v\d+", folder.name)
    assert f"package {'.'.join(folder.parts)};" in source.read_text()


@every_source
def test_every_message_field_and_value_says_what_it_is(source: Path) -> None:
    lines = [line.strip() for line in source.read_text().splitlines()]
    silent = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"(?:message|enum|(?:repeated |optional )?[\w.]+ \w+ = \d+;)", line) and not before.startswith("//")
    ]
    assert [line for line in silent if not re.match(r"[A-Z_]+ = \d+;|oneof|syntax", line)] == []


@every_source
def test_the_generated_code_is_content_with_the_oldest_protobuf_that_we_allow(source: Path) -> None:
    text = generated(source, ".py").read_text()
    wanted = re.search(r"Domain\.PUBLIC,\s*(\d+),\s*(\d+)", text)
    assert wanted
    (floor,) = (
        line for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"] if line.startswith("protobuf")
    )
    assert tuple(map(int, wanted.groups())) <= tuple(map(int, floor.partition(">=")[2].split(".")))


def test_names_are_as_protobuf_style_asks() -> None:
    for source in SOURCES:
        inside = source.relative_to(PROTO)
        module = importlib.import_module(".".join(("sidecar.pb", *inside.parent.parts, f"{inside.stem}_pb2")))
        for message in messages(module.DESCRIPTOR):
            assert re.fullmatch(r"[A-Z][A-Za-z]+", message.name)
            assert all(re.fullmatch(r"[a-z]+(?:_[a-z]+)*", field.name) for field in message.fields)
        for enum in module.DESCRIPTOR.enum_types_by_name.values():
            assert enum.values_by_number[0].name == f"{enum.name.upper()}_UNSPECIFIED"
            assert all(value.name.startswith(f"{enum.name.upper()}_") for value in enum.values)


def messages(file: FileDescriptor) -> list[Descriptor]:
    found = list(file.message_types_by_name.values())
    return found + [inner for message in found for inner in message.nested_types]


def test_it_all_goes_into_the_wheel(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "sidecar", tmp_path / "sidecar", ignore=shutil.ignore_patterns("__pycache__"))
    program = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in PB.rglob("*.py*") if "__pycache__" not in path.parts}
    assert wanted | {"sidecar/py.typed"} <= names
    assert not [each for each in names if not each.startswith(("sidecar/", "agent_sre_sidecar-"))]

"""The Dockerfile, read instruction by instruction: what it promises can be seen without a container engine."""

import json
import re
import tomllib
from fnmatch import fnmatch
from io import BytesIO
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from tests.repository import ROOT, files

RELEASE = re.compile(r"python:3\.13-slim-[a-z]+")


@pytest.fixture(scope="module")
def instructions() -> list[dict[str, Any]]:
    parser = DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes()))
    return [each for each in parser.structure if each["instruction"] != "COMMENT"]


def values(instructions: list[dict[str, Any]], kind: str) -> list[str]:
    return [each["value"] for each in instructions if each["instruction"] == kind]


@pytest.fixture(scope="module")
def final(instructions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The instructions of the last stage, which is what ships."""
    last = max(index for index, each in enumerate(instructions) if each["instruction"] == "FROM")
    return instructions[last:]


def test_both_stages_stand_on_the_same_pinned_python(instructions: list[dict[str, Any]]) -> None:
    (base,) = values(instructions, "ARG")
    assert RELEASE.fullmatch(base.removeprefix("PYTHON_IMAGE="))
    assert values(instructions, "FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_the_process_runs_as_a_user_that_is_a_number_and_not_root(final: list[dict[str, Any]]) -> None:
    (user,) = values(final, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes' runAsNonRoot cannot look a name up"
    kinds = [each["instruction"] for each in final]
    assert "RUN" not in kinds[kinds.index("USER") :] and "COPY" not in kinds[kinds.index("USER") :]


def test_the_final_stage_installs_nothing_and_has_no_installer(final: list[dict[str, Any]]) -> None:
    (run,) = values(final, "RUN")
    assert "pip uninstall" in run and "ensurepip" in run
    assert not re.search(r"\b(?:pip3?|apt-get|apt)\s+install\b|\b(?:curl|wget)\b", run)


def test_it_writes_to_its_run_folder_only(final: list[dict[str, Any]]) -> None:
    environment = " ".join(values(final, "ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert "XDG_RUNTIME_DIR=/run/sidecar" in environment, "that is where the admin token goes"
    assert values(final, "WORKDIR") == ["/run/sidecar"]
    assert "/run/sidecar" in values(final, "RUN")[0]


def test_everything_that_is_copied_is_there_and_reaches_the_builder(instructions: list[dict[str, Any]]) -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for value in values(instructions, "COPY"):
        *sources, _ = [part for part in value.split() if not part.startswith("--")]
        if "--from=" in value:
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == rule.rstrip("/") or fnmatch(source, f"{rule}*") for rule in let_in), f"{source} is ignored"


def test_everything_that_the_build_of_the_package_reads_is_copied(instructions: list[dict[str, Any]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = {part for value in values(instructions, "COPY") for part in value.split()}
    assert {project["readme"], *project["license-files"], "pyproject.toml", "sidecar"} <= copied


def test_the_health_check_runs_our_probe(final: list[dict[str, Any]]) -> None:
    (check,) = values(final, "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command == ["python", "-IS", "/opt/sidecar/bin/probe", "/readyz"]


def test_the_entry_point_is_our_command_and_its_config_is_in_the_image(final: list[dict[str, Any]]) -> None:
    assert json.loads(values(final, "ENTRYPOINT")[0]) == ["sidecar"]
    command = json.loads(values(final, "CMD")[0])
    assert command == ["run", "--config", "/etc/sidecar/sidecar.yaml"]
    assert f"config/sidecar.yaml {command[-1]}" in values(final, "COPY")


def test_the_base_image_is_the_same_everywhere() -> None:
    named = {
        found
        for path in files()
        if path.is_relative_to(ROOT / "deploy") or path.name == "Dockerfile"
        for found in re.findall(r"\bpython:3[\w.-]+", path.read_text())
    }
    assert len(named) == 1 and RELEASE.fullmatch(named.pop())

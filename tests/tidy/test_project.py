"""The files around the code: each says what is so, and says the same as the others."""

import os
import re
import subprocess
import tomllib
from typing import Any

import pytest

import sidecar
from sidecar.config import load
from tests.repository import ROOT, name

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def test_licence_is_the_one_that_is_declared(project: Any) -> None:
    assert project["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")


def test_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## (.*)$", changelog(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", each) for each in headings[1:])


def test_changelog_sorts_changes_as_keep_a_changelog_does() -> None:
    kinds = set(re.findall(r"^### (.*)$", changelog(), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_version_is_semantic_and_the_same_everywhere(project: Any) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", sidecar.__version__)
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sidecar.__version__"}


def test_readme_is_short_and_shows_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 160
    assert re.search(r"^make demo\b", readme, re.MULTILINE)
    assert re.search(r"^make test\b", readme, re.MULTILINE)


def test_readme_has_room_for_the_numbers() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(re.findall(r"<!-- bench:begin -->\n.*?<!-- bench:end -->", readme, re.DOTALL)) == 1
    assert "](docs/bench.svg)" in readme or "Not published yet" in readme


def test_readme_names_the_ports_of_the_defaults() -> None:
    from sidecar.admin.spec import AdminSpec
    from sidecar.traffic.listeners.http import Config

    readme = (ROOT / "README.md").read_text()
    assert Config().endpoint in readme
    assert AdminSpec().endpoint in readme


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_every_example_config_is_good_without_any_environment(path: Any) -> None:
    assert load(path, environ={})  # raises ConfigInvalid with every fault


def test_make_run_has_its_config_and_starts_all_of_it() -> None:
    assert load(ROOT / "config" / "sidecar.yaml", environ={}).unused() == ()


def test_python_versions_agree(project: Any) -> None:
    oldest = project["project"]["requires-python"].removeprefix(">=")
    named = [each.rpartition(" ")[2] for each in project["project"]["classifiers"] if "Python ::" in each]
    assert named[0] == oldest == project["tool"]["mypy"]["python_version"]
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    tried = re.search(r"for each in ([^;]+);", (ROOT / "Makefile").read_text())
    assert tried
    assert set(tried[1].split()) == {"python3", *(f"python{version}" for version in named)}


def test_every_rule_that_ruff_leaves_out_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    ignored = re.findall(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    per_file = re.findall(r"^\"tests/\*\*\" = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in ignored + per_file for line in block.splitlines()]
    assert lines
    assert all(re.search(r"# \S+ \S+", line) for line in lines)


def test_every_dependency_has_its_purpose_and_its_floor() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (block,) = re.findall(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert all(re.fullmatch(r'    "[a-z.-]+>=[\d.]+(?:,<\d+)?(?:; python_version<\'[\d.]+\')?", *# .+', line) for line in block.splitlines())


def test_every_marker_of_pytest_is_run_by_some_target(project: Any) -> None:
    markers = {each.partition(":")[0] for each in project["tool"]["pytest"]["ini_options"]["markers"]}
    makefile = (ROOT / "Makefile").read_text()
    assert markers == set(re.findall(r"pytest -m (\w+)", makefile))
    left_out = re.search(r"-m '([^']+)'", project["tool"]["pytest"]["ini_options"]["addopts"])
    assert left_out
    assert markers == set(re.findall(r"not (\w+)", left_out[1]))


def test_make_says_what_each_target_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True, timeout=30).stdout
    assert set(re.findall(r"^  make (\S+)", shown, re.MULTILINE)) == set(phony[1].split())


def test_make_works_without_a_network_once_it_has_run(tmp_path: Any) -> None:
    """A stamp of this very pyproject.toml stands for a finished venv: then nothing but the command itself is left to do."""
    for each in ("Makefile", "pyproject.toml"):
        (tmp_path / each).write_text((ROOT / each).read_text())
    stamp = subprocess.run(
        "cksum < pyproject.toml | tr ' ' -", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    command = ["make", "-C", str(tmp_path), "--dry-run", "--no-print-directory", "demo"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    fresh = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, timeout=30).stdout
    assert "pip install" in fresh
    (tmp_path / ".venv" / f"stamp-run-{stamp.stdout.strip()}").touch()
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, timeout=30).stdout
    assert again.strip() == ".venv/bin/sidecar demo"


def test_ci_is_a_program_that_bash_can_read() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    assert "set -euo pipefail" in script.read_text()


def test_ci_runs_what_has_to_pass() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for target in ("test", "lint", "validate", "demo", "test-backends"):
        assert re.search(rf"^make {target}\b", script, re.MULTILINE), target


def test_the_command_is_where_the_project_says(project: Any) -> None:
    import sidecar.__main__
    import sidecar.cli

    assert project["project"]["scripts"] == {"sidecar": "sidecar.cli:main"}
    assert sidecar.__main__.main is sidecar.cli.main, "`python -m sidecar` is the same command"


def test_only_the_command_line_prints_and_only_it_exits() -> None:
    wrong = [
        f"{name(path)}:{number}"
        for path in (ROOT / "sidecar").rglob("*.py")
        if path.relative_to(ROOT).parts[1] not in {"cli", "terminal", "demo", "pb", "__main__.py"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*(?:print\(|sys\.exit\(|exit\()", line)
    ]
    assert not wrong

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import __version__, cli
from tests.repository import ROOT, tree


def test_help_lists_every_command_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    listed = re.findall(r"^  (\w+) +(.+)$", shown.partition("commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == cli.commands()
    assert {"run", "exec", "validate", "components", "demo", "version"} <= set(cli.commands())
    assert all(len(text) > 5 for _, text in listed)


def test_every_command_is_a_module_of_the_same_shape() -> None:
    for name in cli.commands():
        module = __import__(f"sidecar.cli.{name}", fromlist=["run"])
        assert isinstance(module.HELP, str)
        assert callable(module.arguments)
        assert callable(module.run)
        assert tree(Path(module.__file__))


@pytest.mark.parametrize("command", cli.commands())
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: sidecar")


def test_the_version_is_told_by_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"sidecar {__version__}\n"


def test_no_command_at_all_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "hint"), [("vresion", "did you mean 'version'?"), ("zzz", "known: components")])
def test_an_unknown_command_is_answered_with_the_right_one(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 2
    assert hint in capsys.readouterr().err


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["version", "--what"])
    assert ended.value.code == 2
    assert "--what" in capsys.readouterr().err


def test_an_interrupted_command_ends_as_shells_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sidecar.cli.version.run", interrupt)
    assert cli.main(["version"]) == 130


def test_a_broken_pipe_ends_a_command_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_pipe(arguments: object) -> int:
        raise BrokenPipeError

    silenced: list[tuple[int, int]] = []
    monkeypatch.setattr("sidecar.cli.version.run", break_pipe)
    monkeypatch.setattr("sidecar.cli.os.open", lambda path, mode: 77)
    monkeypatch.setattr("sidecar.cli.os.dup2", lambda one, other: silenced.append((one, other)))
    monkeypatch.setattr("sidecar.cli.sys.stdout", sys.stderr)
    assert cli.main(["version"]) == 1
    assert [one for one, _ in silenced] == [77]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    program = f"{sys.executable} -m sidecar components --json | head -c 10"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == '{\n  "traff'
    assert done.stderr == ""


def test_help_imports_no_library_and_no_command() -> None:
    program = (
        "import sys; from sidecar import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'pydantic_core', 'yaml', 'uvloop', 'asyncio', 'aiohttp', 'grpc', 'httptools', 'msgspec'}\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in heavy or name.startswith('sidecar.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "['sidecar.cli']"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_caller_may_close_the_standard_descriptors(closed: str) -> None:
    """Whoever takes their numbers next is never a socket: libuv would abort."""
    script = f'exec "$0" -c "$1" {closed}'
    code = (
        "import os, sys\n"
        "from sidecar.cli import main\n"
        "code = main(['version'])\n"
        "os._exit(code or 7 * (os.dup(0) > 2 and os.dup(1) > 2 and os.dup(2) > 2))"
    )
    ended = subprocess.run(["sh", "-c", script, sys.executable, code], cwd=ROOT, capture_output=True, check=False, timeout=30)
    assert ended.returncode == 7


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "sidecar", "version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith(f"sidecar {__version__} (Python ")

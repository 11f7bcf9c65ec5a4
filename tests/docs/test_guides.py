"""README and guides are true: their configs are good, their commands work, their links lead somewhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.config import parse
from tests.docs.guide import Block, blocks
from tests.generated import BLOCKS, DOCUMENTS, rewritten
from tests.repository import ROOT, files, name

KINDS = {"", "json", "python", "sh", "text", "yaml"}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name)


@every_document
def test_every_generated_block_is_fresh(path: Path) -> None:
    assert path.read_text() == rewritten(path.read_text()), "make docs"


def test_every_generated_block_stands_somewhere() -> None:
    text = "".join(path.read_text() for path in DOCUMENTS)
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == BLOCKS.keys()


@every_document
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert not [link for link in links if not (path.parent / link).exists()]


@every_document
def test_every_link_to_a_heading_finds_it(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]*)\)", path.read_text()):
        there = (path.parent / target) if target else path
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_guide_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [name(path) for path in DOCUMENTS if path.parent.name == "docs" and f"({name(path)})" not in readme]


@every_document
def test_every_block_has_a_language_that_is_checked(path: Path) -> None:
    assert not [f"{name(path)}:{block.line}" for block in blocks(path) if block.kind not in KINDS]


@every_document
def test_every_config_that_is_shown_is_good(path: Path, tmp_path: Path) -> None:
    for block in blocks(path):
        if block.kind == "yaml" and block.what != "not run":
            parse(
                block.text,
                source=f"{name(path)}:{block.line}",
                folder=_with_files(tmp_path),
                environ={"PASSWORD": "not-a-real-one"},
            )


@every_document
def test_every_json_that_is_shown_is_json(path: Path) -> None:
    for block in blocks(path):
        if block.kind == "json":
            json.loads(block.text)


def test_every_target_of_make_that_is_mentioned_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    everything = [path for path in files() if path.suffix == ".md" or path.is_relative_to(ROOT / ".ci")]
    mentioned = {target for path in everything for target in re.findall(r"(?:`|^|\n)make ([a-z-]+)", path.read_text())}
    assert mentioned
    assert mentioned <= targets


def test_every_command_that_is_mentioned_is_there() -> None:
    import sidecar.cli

    mentioned = {command for path in DOCUMENTS for command in re.findall(r"`sidecar ([a-z]+)", path.read_text())}
    assert mentioned == set(sidecar.cli.commands()), "the README's table has them all"


def _with_files(folder: Path) -> Path:
    """Files that the configs of the guides name."""
    (folder / "password").write_text("not-a-real-one\n")
    return folder


# --- commands ---

LLM = "https://api.openai.com"
NEEDED = ("bash", "curl")

needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"the guides use {' and '.join(NEEDED)}; not all of them are installed"
)


@pytest.fixture
def model() -> Iterator[str]:
    """The base URL of a stand-in for the provider that the guides name."""
    environ = {**os.environ, "HOST": "127.0.0.1", "PORT": "0"}
    command = [sys.executable, "-IB", str(ROOT / "deploy" / "example" / "llm.py")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        yield f"http://127.0.0.1:{port}"
        process.terminate()


class Session:
    """A folder, free ports in the place of the documented ones, and the stand-in in the place of the provider."""

    def __init__(self, folder: Path, model: str, free_port: Callable[[], int]) -> None:
        self.folder = folder
        self._places = {LLM: model} | {f":{port}": f":{free_port()}" for port in (4140, 4141, 4317, 4318, 8080)}
        self._places["PORT=8080"] = f"PORT={self._places[':8080'].removeprefix(':')}"
        programs = folder / ".bin"
        programs.mkdir()
        for program, arguments in {"python": "", "sidecar": " -m sidecar"}.items():
            (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
            (programs / program).chmod(0o755)
        for part in ("config", "deploy"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path in folder.rglob("*.yaml"):
            path.write_text(self.here(path.read_text()))
        (folder / "agent.py").write_text((ROOT / "deploy" / "example" / "agent.py").read_text())
        self.environ = {
            **{key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith("OTEL_")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "OPENAI_API_KEY": "not-a-key",
            "OPENAI_BASE_URL": f"{model}/v1",  # for agent.py, the reader's own
            "QUESTIONS": "2",
            "PERIOD_S": "0",
        }

    def here(self, text: str) -> str:
        """The text of a block, for this machine."""
        for documented, real in self._places.items():
            text = text.replace(documented, real)
        return text

    def run(self, command: list[str]) -> None:
        """Run to the end, with everything that was started stopped; shows the output of what failed."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=45)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 0, output


SHELL = """
set -euo pipefail
stop() { jobs -p | xargs -r kill 2> /dev/null || true; wait; }
trap stop EXIT
"""


def _script(path: Path, session: Session) -> str:
    """All blocks of a guide that are part of its session, as one program for bash."""
    parts = [SHELL]
    for block in blocks(path):
        match block:
            case Block(what="not run" | "run in"):
                continue
            case Block(what="file"):
                parts.append(f"cat > {block.about} <<'END OF FILE'\n{session.here(block.text)}END OF FILE\n")
            case Block(kind="sh"):
                parts.append(session.here(block.text))
            case Block(kind="python"):
                parts.append(f"python - <<'END OF PROGRAM'\n{session.here(block.text)}END OF PROGRAM\n")
    return "\n".join(parts)


@needs_programs
@every_document
def test_the_commands_of_a_guide_work_in_their_order(
    path: Path, tmp_path: Path, model: str, free_port: Callable[[], int]
) -> None:
    session = Session(tmp_path, model, free_port)
    session.run(["bash", "-c", _script(path, session)])


@needs_programs
@every_document
def test_what_a_guide_does_beside_a_running_sidecar_works(
    path: Path, tmp_path: Path, model: str, free_port: Callable[[], int]
) -> None:
    beside = [block for block in blocks(path) if (block.what, block.about) == ("run in", "sidecar")]
    session = Session(tmp_path, model, free_port)
    start = session.here(
        textwrap.dedent("""
            sidecar run --config config/sidecar.yaml > sidecar.log 2>&1 &
            until curl --silent --fail -o /dev/null http://127.0.0.1:4141/readyz; do sleep 0.1; done
        """)
    )
    for block in beside:
        text = session.here(block.text)
        program = text if block.kind == "sh" else f"python - <<'END OF PROGRAM'\n{text}END OF PROGRAM\n"
        session.run(["bash", "-c", f"{SHELL}{start}{program}"])

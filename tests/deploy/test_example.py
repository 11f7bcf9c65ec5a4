"""The example agent and the example model, first face to face, then with the sidecar of the examples between them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.repository import ROOT

EXAMPLE = ROOT / "deploy" / "example"
FIRST_ANSWER = "What is a service level objective? That is a good question: What is a service level objective?"

CONFIGS = {
    "kubernetes": ROOT / "deploy" / "kubernetes" / "sidecar.yaml",
    "compose": ROOT / "deploy" / "compose" / "config" / "sidecar.yaml",
}


def environ(**more: str) -> dict[str, str]:
    """The environment without what would lead elsewhere."""
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith("OTEL_")}
    return {**kept, **more}


@pytest.fixture
def model() -> Iterator[str]:
    """Address of the example model, as in `127.0.0.1:34567`."""
    command = [sys.executable, "-IB", str(EXAMPLE / "llm.py")]
    with subprocess.Popen(command, env=environ(HOST="127.0.0.1", PORT="0"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().split()[-1]}"
        process.terminate()


def agent(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run the example agent for two questions."""
    command = [sys.executable, "-IB", str(EXAMPLE / "agent.py")]
    return subprocess.run(
        command, env=environ(QUESTIONS="2", PERIOD_S="0", **variables), capture_output=True, text=True, check=False, timeout=30
    )


def test_agent_and_model_understand_each_other(model: str) -> None:
    done = agent(OPENAI_BASE_URL=f"http://{model}/v1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == FIRST_ANSWER
    assert len(done.stdout.splitlines()) == 2


def test_agent_says_what_failed_and_goes_on(model: str) -> None:
    done = agent(OPENAI_BASE_URL=f"http://{model}/elsewhere")
    assert done.returncode == 1
    assert [line.partition(" failed: ")[2] for line in done.stdout.splitlines()] == ["HTTP Error 404: Not Found"] * 2


def on_this_machine(config: Path, folder: Path, model: str, free_port: Callable[[], int]) -> tuple[Path, int, int]:
    """The config with this machine's addresses in the place of the cluster's, and where proxy and admin are then."""
    document = yaml.safe_load(config.read_text())
    proxy, admin = free_port(), free_port()
    document["traffic"]["listeners"]["http"]["endpoint"] = f"127.0.0.1:{proxy}"
    document["traffic"]["upstreams"]["http/llm"]["url"] = f"http://{model}"
    document["admin"]["endpoint"] = re.sub(r":\d+$", f":{admin}", document["admin"]["endpoint"])
    document["exporters"] = {"file": {"path": str(folder / "spans.jsonl")}}
    document["service"]["pipelines"]["traces"]["exporters"] = ["file"]
    path = folder / "sidecar.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, proxy, admin


@pytest.mark.parametrize("where", CONFIGS)
def test_agent_works_through_the_sidecar_of_the_example(
    where: str, model: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config, proxy, admin = on_this_machine(CONFIGS[where], tmp_path, model, free_port)
    inside = environ(
        XDG_RUNTIME_DIR=str(tmp_path), SIDECAR_AGENT_ID="example-agent", POD_NAME="example-agent-7d4b9", PYTHONPATH=str(ROOT)
    )
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(config)]
    with subprocess.Popen(command, env=inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            probe = f'until "{sys.executable}" -IS "{ROOT}/deploy/probe.py" /readyz 127.0.0.1:{admin}; do sleep 0.1; done'
            subprocess.run(["sh", "-c", probe], capture_output=True, check=True, timeout=20)
            done = agent(OPENAI_BASE_URL=f"http://{model}/v1", HTTP_PROXY=f"http://127.0.0.1:{proxy}")
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=20)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, FIRST_ANSWER), said
    assert process.returncode == 0, said
    spans = (tmp_path / "spans.jsonl").read_text()
    assert spans.count('"/v1/chat/completions"') >= 2
    assert "example-agent-7d4b9" in spans, "the downward API is in the resource"
    assert '"llm"' in spans, "the proxied call took the route of its destination"

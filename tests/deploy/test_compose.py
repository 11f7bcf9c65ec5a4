"""The Compose example: its schema, its references, and that its parts agree with the image and the config."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import sidecar
from sidecar.config import load
from tests.repository import ROOT

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


@pytest.fixture
def written() -> Any:
    return yaml.safe_load((FOLDER / "config" / "sidecar.yaml").read_text())


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=30).returncode == 0


def test_it_follows_the_schema_of_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_compose_itself_reads_it() -> None:
    checked = subprocess.run(
        ["docker", "compose", "--file", str(FILE), "config", "--quiet"], capture_output=True, check=False, timeout=50
    )
    assert checked.returncode == 0, checked.stderr


def test_every_mounted_path_is_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            source, target, mode = volume.split(":")
            assert (FOLDER / source).is_dir(), source
            assert Path(target).is_absolute() and mode == "ro"
        if service.get("command"):
            *_, program = service["command"]
            mounts = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
            assert (FOLDER / mounts[str(Path(program).parent)] / Path(program).name).is_file()


def test_every_service_that_is_waited_for_is_there_and_can_be_healthy(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in services
            if condition["condition"] == "service_healthy":
                assert "build" in services[name] and "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_config_is_good_and_mounted_where_the_image_reads_it(services: dict[str, Any]) -> None:
    assert load(FOLDER / "config" / "sidecar.yaml", environ={})
    assert "./config:/etc/sidecar:ro" in services["sidecar"]["volumes"]
    assert '"/etc/sidecar/sidecar.yaml"' in (ROOT / "Dockerfile").read_text()


def test_the_agent_shares_the_loopback_on_which_the_proxy_listens(services: dict[str, Any], written: Any) -> None:
    endpoint = written["traffic"]["listeners"]["http"]["endpoint"]
    assert endpoint.startswith("127.0.0.1:")
    assert services["agent"]["network_mode"] == "service:sidecar"
    assert services["agent"]["environment"]["HTTP_PROXY"] == f"http://{endpoint}"
    assert "ports" not in services["sidecar"]


def test_names_of_peers_are_names_of_services(services: dict[str, Any], written: Any) -> None:
    upstream = written["traffic"]["upstreams"]["http/llm"]["url"]
    assert upstream == "http://llm:8080"
    assert services["agent"]["environment"]["OPENAI_BASE_URL"] == f"{upstream}/v1"
    assert written["exporters"]["otlp_grpc/jaeger"]["endpoint"] == "http://jaeger:4317"
    assert {"llm", "jaeger"} <= services.keys()


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_our_containers_are_read_only_and_without_capabilities(services: dict[str, Any]) -> None:
    for name in ("sidecar", "agent", "llm"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    user = services["agent"]["user"]
    assert f"USER {user}\n" in (ROOT / "Dockerfile").read_text()
    (folder,) = services["sidecar"]["tmpfs"]
    assert folder.startswith(f"/run/sidecar:uid={user.split(':')[0]},gid={user.split(':')[1]},mode=0700")


def test_images_are_pinned_and_ours_has_this_version(services: dict[str, Any]) -> None:
    assert services["sidecar"]["image"] == f"agent-sre-sidecar:{sidecar.__version__}"
    assert all(":" in service["image"] and not service["image"].endswith(":latest") for service in services.values())


def test_compose_waits_longer_than_the_sidecar_drains(services: dict[str, Any]) -> None:
    drain = load(FOLDER / "config" / "sidecar.yaml", environ={}).traffic.drain
    assert float(services["sidecar"]["stop_grace_period"].removesuffix("s")) > drain + 10

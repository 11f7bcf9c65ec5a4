"""The Kubernetes example: schemas, references, and that its parts agree with each other, the image and the config."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import sidecar
from sidecar.config import load
from tests.repository import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST = "1.29"
"""The first release whose API servers know `restartPolicy` of init containers by default."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kustomization(folder: Path) -> dict[str, Any]:
    (found,) = documents(folder / "kustomization.yaml")
    return found


def folders() -> list[Path]:
    """The kustomization and every one that it stands on."""
    found, todo = [], [FOLDER]
    while todo:
        folder = todo.pop()
        found.append(folder)
        todo += [(folder / each).resolve() for each in kustomization(folder)["resources"] if (folder / each).is_dir()]
    return found


def resources() -> list[dict[str, Any]]:
    return [
        document
        for folder in folders()
        for each in kustomization(folder)["resources"]
        if (folder / each).is_file()
        for document in documents(folder / each)
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in resources() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.fixture
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", "example-agent")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def beside(pod: dict[str, Any]) -> dict[str, Any]:
    """The sidecar's container."""
    (found,) = [each for each in pod["initContainers"] if each["name"] == "sidecar"]
    return dict(found)


@pytest.fixture
def config() -> Any:
    return load(FOLDER / "sidecar.yaml", environ={})


@pytest.mark.parametrize("version", [OLDEST, "1.31", kubernetes_validate.latest_version().rpartition(".")[0]])
def test_every_resource_follows_the_schema(version: str) -> None:
    for document in resources():
        kubernetes_validate.validate(document, version, strict=True)


def test_every_reference_of_the_kustomizations_leads_somewhere() -> None:
    for folder in folders():
        found = kustomization(folder)
        generated = [name for each in found.get("configMapGenerator", []) for name in each["files"]]
        missing = [name for name in [*found["resources"], *generated] if not (folder / name).exists()]
        assert not missing
        outside = [name for name in generated if not (folder / name).resolve().is_relative_to(folder)]
        assert not outside, "kustomize reads files of its own folder only"


def test_every_config_map_that_is_mounted_is_generated() -> None:
    generated = {each["name"] for folder in folders() for each in kustomization(folder).get("configMapGenerator", [])}
    mounted = {
        volume["configMap"]["name"]
        for document in resources()
        if document["kind"] == "Deployment"
        for volume in document["spec"]["template"]["spec"].get("volumes", [])
        if "configMap" in volume
    }
    assert mounted == generated


def test_every_mount_has_its_volume_and_every_volume_is_mounted() -> None:
    for document in resources():
        if document["kind"] != "Deployment":
            continue
        spec = document["spec"]["template"]["spec"]
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        mounts = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
        assert mounts == {volume["name"] for volume in spec.get("volumes", [])}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it_and_resolves_every_name() -> None:
    built = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True, timeout=50)
    found = [each for each in yaml.safe_load_all(built.stdout) if each]
    maps = {each["metadata"]["name"]: each["data"] for each in found if each["kind"] == "ConfigMap"}
    (agent,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == ("Deployment", "example-agent")]
    volumes = {each["name"]: each for each in agent["spec"]["template"]["spec"]["volumes"]}
    config = maps[volumes["sidecar-config"]["configMap"]["name"]]
    assert config == {"sidecar.yaml": (FOLDER / "sidecar.yaml").read_text()}
    assert maps[volumes["programs"]["configMap"]["name"]].keys() == {"agent.py", "llm.py"}
    assert {each["metadata"].get("namespace", "agents") for each in found} == {"agents"}


def test_the_sidecar_is_a_native_one_that_starts_before_the_agent(beside: dict[str, Any]) -> None:
    assert beside["restartPolicy"] == "Always"
    assert "startupProbe" in beside, "without it the agent starts before the proxy listens"


def test_the_config_is_mounted_where_the_command_reads_it(pod: dict[str, Any], beside: dict[str, Any]) -> None:
    path = Path(beside["args"][beside["args"].index("--config") + 1])
    mounts = {mount["name"]: mount for mount in beside["volumeMounts"]}
    assert mounts["sidecar-config"]["mountPath"] == str(path.parent)
    assert mounts["sidecar-config"]["readOnly"] is True
    assert "subPath" not in mounts["sidecar-config"], "a subPath never sees a changed ConfigMap"
    (generator,) = kustomization(FOLDER)["configMapGenerator"]
    assert generator["files"] == [path.name]


def test_the_config_is_good(config: Any) -> None:
    assert config is not None  # load raises ConfigInvalid with every fault


def test_the_probes_reach_admin_where_the_config_binds_it(beside: dict[str, Any], config: Any) -> None:
    assert config.admin.host == "0.0.0.0", "a kubelet comes from outside of the pod's loopback"
    assert config.admin.open_probes
    assert beside["ports"] == [{"name": "admin", "containerPort": config.admin.port}]
    probes = {kind: beside[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {each["port"] for each in probes.values()} == {"admin"}
    assert {kind: each["path"] for kind, each in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }, "what is not ready is not dead"


def test_prometheus_finds_the_metrics(config: Any) -> None:
    notes = named("Deployment", "example-agent")["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(config.admin.port)
    assert notes["prometheus.io/path"] == "/metrics"


def test_the_agent_is_pointed_at_the_proxy_on_loopback(pod: dict[str, Any]) -> None:
    document = yaml.safe_load((FOLDER / "sidecar.yaml").read_text())
    endpoint = document["traffic"]["listeners"]["http"]["endpoint"]
    assert endpoint.startswith("127.0.0.1:"), "other pods must not find a proxy here"
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        assert environment[name] == environment[name.lower()] == f"http://{endpoint}"
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert "169.254.169.254" in environment["NO_PROXY"] and "localhost" not in environment["NO_PROXY"]


def test_the_agent_and_the_route_find_the_model_by_its_service(pod: dict[str, Any]) -> None:
    service = named("Service", "llm")
    authority = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["OPENAI_BASE_URL"] == f"http://{authority}/v1"
    document = yaml.safe_load((FOLDER / "sidecar.yaml").read_text())
    assert document["traffic"]["upstreams"]["http/llm"]["url"] == f"http://{authority}"
    template = named("Deployment", "llm")["spec"]["template"]
    assert template["metadata"]["labels"].items() >= service["spec"]["selector"].items()


def test_the_downward_api_is_what_telemetry_reads(beside: dict[str, Any]) -> None:
    source = (ROOT / "sidecar" / "telemetry" / "resource.py").read_text()
    read = set(re.findall(r'"((?:POD|NODE|CONTAINER)_[A-Z]+)"', source))
    given = {each["name"] for each in beside["env"]}
    assert read, "telemetry/resource.py names the variables of the downward API"
    assert read <= given | {"POD_IP"}


def test_the_containers_keep_to_the_restricted_pod_security_standard(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() == {"memory"}, "a limit on CPU is added latency"
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_user_and_the_writable_folder_are_those_of_the_image(pod: dict[str, Any], beside: dict[str, Any]) -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in image
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    writable = [mount["mountPath"] for mount in beside["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/run/sidecar"] and f"XDG_RUNTIME_DIR={writable[0]}" in image


def test_the_image_has_this_version() -> None:
    (image,) = kustomization(FOLDER)["images"]
    assert image["newTag"] == sidecar.__version__
    used = {
        container["image"] for container in named("Deployment", "example-agent")["spec"]["template"]["spec"]["initContainers"]
    }
    assert used == {image["name"]}


def test_the_pod_waits_longer_than_the_sidecar_drains(pod: dict[str, Any], config: Any) -> None:
    assert pod["terminationGracePeriodSeconds"] > config.traffic.drain + 10


def test_every_resource_can_be_read_as_json_too() -> None:
    assert json.dumps(resources())  # no dates and no keys that are numbers crept in through YAML

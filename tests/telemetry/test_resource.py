import os
import uuid
from pathlib import Path

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.sdk.resources import OTELResourceDetector
from opentelemetry.semconv._incubating.attributes import (
    host_attributes,
    k8s_attributes,
    os_attributes,
    process_attributes,
    service_attributes,
    telemetry_attributes,
)

import sidecar
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.resource import attributes, enrich, resource_of, serialized, written_attributes
from tests.otlp_collector import attributes_of

NOWHERE = Path("/nonexistent")


def test_without_environment_it_says_who_we_are() -> None:
    found = attributes({}, pod_info=NOWHERE)
    assert found["service.name"] == "agent-sre-sidecar"
    assert found["service.version"] == found["telemetry.sdk.version"] == sidecar.__version__
    assert uuid.UUID(str(found["service.instance.id"])).version == 4
    assert found["process.pid"] == os.getpid()
    assert not [key for key in found if key.startswith("k8s.")]
    modules = (host_attributes, os_attributes, process_attributes, service_attributes, telemetry_attributes)
    assert found.keys() <= {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_the_environment_wins_and_the_service_name_wins_twice() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=prod,host.name=h", "OTEL_SERVICE_NAME": "b"}
    found = attributes(environ, pod_info=NOWHERE)
    assert (found["service.name"], found["deployment.environment.name"], found["host.name"]) == ("b", "prod", "h")
    del environ["OTEL_SERVICE_NAME"]
    assert attributes(environ, pod_info=NOWHERE)["service.name"] == "a"


@pytest.mark.parametrize("text", ["", "a=1", "a=1,b=2", " a = 1 , b=x%20y%2Cz%3D ", "a=b=c", "k%20=v", "a=", "a=1,,b=2,"])
def test_written_attributes_are_read_as_the_sdk_reads_them(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", text)
    theirs = {key: value for key, value in OTELResourceDetector().detect().attributes.items() if key != "service.name"}
    ours = {key: value for key, value in written_attributes(text).items() if key != "k "}
    assert ours == {key: value for key, value in theirs.items() if key != "k%20"}


@pytest.mark.parametrize("text", ["a", "a=1,b", "=1", "a=1, =2"])
def test_a_list_with_a_mistake_is_discarded_as_a_whole(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert written_attributes(text) == {}
    assert "OTEL_RESOURCE_ATTRIBUTES is not used" in caplog.text


def test_the_downward_api_is_read_from_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("pod-of-file\n")
    (tmp_path / "namespace").write_text("agents")
    (tmp_path / "labels").write_text('app="bot"\nnote="a \\"b\\" c"\n')
    environ = {"POD_NAME": "pod-of-variable", "NODE_NAME": "n1", "POD_UID": "u1", "POD_IP": "10.0.0.7", "CONTAINER_NAME": "sidecar"}
    found = attributes(environ, pod_info=tmp_path)
    assert {key: value for key, value in found.items() if key.startswith("k8s.")} == {
        k8s_attributes.K8S_POD_NAME: "pod-of-variable",
        k8s_attributes.K8S_NAMESPACE_NAME: "agents",
        k8s_attributes.K8S_POD_UID: "u1",
        k8s_attributes.K8S_POD_IP: "10.0.0.7",
        k8s_attributes.K8S_NODE_NAME: "n1",
        k8s_attributes.K8S_CONTAINER_NAME: "sidecar",
        f"{k8s_attributes.K8S_POD_LABEL_TEMPLATE}.app": "bot",
        f"{k8s_attributes.K8S_POD_LABEL_TEMPLATE}.note": 'a "b" c',
    }


def test_every_component_of_a_process_has_the_same_resource() -> None:
    runtime = Runtime(environ={})
    assert resource_of(runtime) is resource_of(runtime)
    assert resource_of(runtime)["service.instance.id"] != resource_of(Runtime())["service.instance.id"]


def test_what_detectors_found_comes_on_top_and_makes_another_resource_only_where_it_is_another() -> None:
    runtime = Runtime(environ={"OTEL_SERVICE_NAME": "me"})
    own = resource_of(runtime)
    enrich(runtime, {})
    assert resource_of(runtime) is own
    enrich(runtime, {"service.name": "theirs", "cloud.provider": "acme"})
    found = resource_of(runtime)
    assert found == {**own, "cloud.provider": "acme"}
    enrich(runtime, {"cloud.provider": "acme"})
    assert resource_of(runtime) is found
    enrich(runtime, {"cloud.region": "here"})
    assert resource_of(runtime) == {**own, "cloud.region": "here"}


def test_every_value_that_a_detector_may_find_is_serialized() -> None:
    found = {"a": "text", "b": True, "c": False, "d": -5, "e": 2**70, "f": 0.25, "g": ("x", 1, False), "h": ()}
    read = {one.key: one.value for one in Resource.FromString(serialized(found)).attributes}
    assert (read["a"].string_value, read["b"].bool_value, read["d"].int_value, read["f"].double_value) == ("text", True, -5, 0.25)
    assert (read["c"].WhichOneof("value"), read["c"].bool_value, read["e"].int_value) == ("bool_value", False, 2**63 - 1)
    assert [each.WhichOneof("value") for each in read["g"].array_value.values] == ["string_value", "int_value", "bool_value"]
    assert read["h"].WhichOneof("value") == "array_value"


def test_it_is_serialized_as_a_resource() -> None:
    found = attributes({}, pod_info=NOWHERE)
    assert attributes_of(Resource.FromString(serialized(found))) == found

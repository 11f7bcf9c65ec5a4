"""
Who we are: the resource that stands above all our own spans.

Read from the environment as the OpenTelemetry specification says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES:
opentelemetry.io/docs/specs/otel/resource/sdk), from the process, and from Kubernetes' downward API (environment, or files
mounted at /etc/podinfo), of which the SDK's own detectors know nothing. What those find out, where they are asked for
(detectors.py), comes on top and never replaces anything.
"""

import logging
import os
import re
import secrets
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import sidecar
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.wire import field, utf8, varint

SERVICE_NAME = "agent-sre-sidecar"
"""service.name where nobody chose one."""

_POD_VARIABLES = {
    "POD_NAME": "k8s.pod.name",
    "POD_NAMESPACE": "k8s.namespace.name",
    "POD_UID": "k8s.pod.uid",
    "POD_IP": "k8s.pod.ip",
    "NODE_NAME": "k8s.node.name",
    "CONTAINER_NAME": "k8s.container.name",
}
_POD_FILES = {"name": "k8s.pod.name", "namespace": "k8s.namespace.name", "uid": "k8s.pod.uid"}
_POD_INFO = Path("/etc/podinfo")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LABEL = re.compile(r'([^=\s]+)="((?:[^"\\]|\\.)*)"')
_MOST_FILE_BYTES = 64 * 1024

_SERVICE = "telemetry.resource"

Value = str | bool | int | float | tuple[str | bool | int | float, ...]
Attributes = dict[str, Value]

_log = logging.getLogger(__name__)


def resource_of(runtime: Runtime) -> Attributes:
    """The attributes of this process; the same for every component, and over reloads. Another mapping means that they changed."""
    if _SERVICE not in runtime.services:
        runtime.services[_SERVICE] = attributes(runtime.environ)
    found: Attributes = runtime.services[_SERVICE]
    return found


def enrich(runtime: Runtime, detected: Attributes) -> None:
    """Add what detectors have found out, instead of what earlier ones had; what we know by ourselves wins."""
    own: Attributes = runtime.services.setdefault(f"{_SERVICE}.own", resource_of(runtime))
    if {**detected, **own} != resource_of(runtime):
        runtime.services[_SERVICE] = {**detected, **own}


def attributes(environ: Mapping[str, str], *, pod_info: Path = _POD_INFO) -> Attributes:
    """All attributes that can be found out; what the environment says explicitly wins over what was detected."""
    found: Attributes = {
        "service.name": SERVICE_NAME,
        "service.version": sidecar.__version__,
        "service.instance.id": _uuid4(),
        "telemetry.sdk.name": "agent-sre-sidecar",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sidecar.__version__,
        "host.name": socket.gethostname(),
        "host.arch": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "os.type": sys.platform.rstrip("0123456789"),
        "process.pid": os.getpid(),
        "process.executable.name": os.path.basename(sys.executable),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": ".".join(map(str, sys.version_info[:3])),
    }
    found |= _pod(environ, pod_info)
    found |= written_attributes(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := environ.get("OTEL_SERVICE_NAME", ""):
        found["service.name"] = name
    return {key: value for key, value in found.items() if value != ""}


def written_attributes(text: str) -> dict[str, str]:
    """
    Read `key=value,key=value` with percent-encoded values (W3C Baggage without properties).

    As the specification asks, a list with a mistake in it is discarded as a whole, and the mistake logged.
    """
    found = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        key, mark, value = entry.partition("=")
        if not mark or not key.strip():
            _log.error("OTEL_RESOURCE_ATTRIBUTES is not used: %r is not of the form key=value", entry)
            return {}
        found[unquote(key.strip())] = unquote(value.strip())
    return found


def serialized(attributes: Attributes) -> bytes:
    """The attributes as an opentelemetry.proto.resource.v1.Resource."""
    return b"".join(field(1, field(1, utf8(key)) + field(2, _any_value(value))) for key, value in attributes.items())


def _any_value(value: Value) -> bytes:
    """An opentelemetry.proto.common.v1.AnyValue."""
    if isinstance(value, str):
        return field(1, utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(min(max(value, -(2**63)), 2**63 - 1) % 2**64)  # two's complement
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return field(5, b"".join(field(1, _any_value(each)) for each in value))


def _uuid4() -> str:
    """RFC 9562 section 5.4; importing uuid and platform would cost every start 2 ms."""
    number = secrets.randbits(128) & ~(0xF000 << 64 | 0xC000 << 48) | 0x4000 << 64 | 0x8000 << 48
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _pod(environ: Mapping[str, str], pod_info: Path) -> dict[str, str]:
    """What Kubernetes' downward API tells (kubernetes.io/docs/concepts/workloads/pods/downward-api), by files or variables."""
    found = {}
    for name, attribute in _POD_FILES.items():
        if text := _read(pod_info / name):
            found[attribute] = text
    for key, value in _LABEL.findall(_read(pod_info / "labels")):
        found[f"k8s.pod.label.{key}"] = re.sub(r"\\(.)", r"\1", value)
    return found | {attribute: environ[name] for name, attribute in _POD_VARIABLES.items() if environ.get(name)}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""

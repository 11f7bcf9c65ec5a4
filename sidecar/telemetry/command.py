"""
The span of a command that `sidecar exec` has run: the root of its trace, whose id the command got as TRACEPARENT.

Names are those of opentelemetry.io/docs/specs/semconv/cli/cli-spans, kind INTERNAL. Of the command line only its first word is
told: arguments may hold secrets. To agent-sre it is the agent's task, which its exit code says to have succeeded or not.
"""

from sidecar.model.facts import CommandFinished
from sidecar.telemetry import agents
from sidecar.telemetry.attributes import SCHEMA_URL
from sidecar.telemetry.semconv import SpanKind
from sidecar.telemetry.wire import field, int_attribute, text_attribute, utf8, varint

_KIND_INTERNAL, _STATUS_ERROR = b"\x30\x01", field(15, b"\x18\x02")
_PARENT_LOCAL = 0x100  # of Span.flags: it is known that no parent is remote


def command_request(fact: CommandFinished, resource: bytes, *, scope_version: str) -> bytes:
    """A serialized ExportTraceServiceRequest with this one span; `resource` is a serialized Resource."""
    scope = field(1, b"sidecar.exec") + field(2, utf8(scope_version))
    spans = field(1, scope) + field(2, command_span(fact)) + field(3, SCHEMA_URL.encode())
    return field(1, field(1, resource) + field(2, spans) + field(3, SCHEMA_URL.encode()))


def command_span(fact: CommandFinished) -> bytes:
    """A serialized Span."""
    failed = text_attribute("error.type", str(fact.exit_code)) + _STATUS_ERROR if fact.exit_code else b""
    return b"".join(
        (
            field(1, fact.trace_id), field(2, fact.span_id), field(5, utf8(fact.name)), _KIND_INTERNAL,
            b"\x39" + fact.started_ns.to_bytes(8, "little"), b"\x41" + fact.ended_ns.to_bytes(8, "little"),
            text_attribute("process.command", fact.command), text_attribute("process.executable.name", fact.name),
            int_attribute("process.exit.code", fact.exit_code), agents.identity(fact.agent),
            agents.span_kind(SpanKind.AGENT_TASK), agents.task_success(fact.exit_code == 0), failed,
            varint(16 << 3 | 5) + (fact.flags & 0xFF | _PARENT_LOCAL).to_bytes(4, "little"),
        )
    )  # fmt: skip

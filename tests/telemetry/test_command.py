"""The span of a command, read back with OpenTelemetry's own messages."""

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, process_attributes

from sidecar.model.facts import CommandFinished
from sidecar.telemetry.command import command_request, command_span
from tests.otlp_collector import attributes_of

FACT = CommandFinished(
    started_ns=1_700_000_000_000_000_000, ended_ns=1_700_000_009_000_000_000, trace_id=b"t" * 16, span_id=b"s" * 8, flags=3,
    command="/usr/bin/python3", name="python3", agent="planner", exit_code=0,
)  # fmt: skip


def span(**changes: Any) -> Span:
    return Span.FromString(command_span(replace(FACT, **changes)))


def test_it_is_a_root_with_the_commands_name() -> None:
    read = span()
    assert (read.trace_id, read.span_id, read.parent_span_id) == (FACT.trace_id, FACT.span_id, b"")
    assert (read.name, read.kind, read.status.code, read.flags) == ("python3", Span.SPAN_KIND_INTERNAL, 0, 0x103)
    assert (read.start_time_unix_nano, read.end_time_unix_nano) == (FACT.started_ns, FACT.ended_ns)
    assert attributes_of(read) == {
        process_attributes.PROCESS_COMMAND: "/usr/bin/python3",
        process_attributes.PROCESS_EXECUTABLE_NAME: "python3",
        process_attributes.PROCESS_EXIT_CODE: 0,
        gen_ai_attributes.GEN_AI_AGENT_ID: "planner",
        "agent.span.kind": "AGENT_TASK",
        "agent.task.success": True,
    }


@pytest.mark.parametrize("code", [1, 143])
def test_a_command_that_failed_is_an_error(code: int) -> None:
    read = span(exit_code=code, agent="")
    assert (read.status.code, attributes_of(read)["error.type"], attributes_of(read)["process.exit.code"]) == (2, str(code), code)
    assert gen_ai_attributes.GEN_AI_AGENT_ID not in attributes_of(read)
    assert attributes_of(read)["agent.task.success"] is False


def test_a_name_that_is_no_text_is_written_all_the_same() -> None:
    assert span(name="a\udcffb").name == "a?b"


def test_the_request_has_resource_scope_and_schema() -> None:
    resource = Resource(dropped_attributes_count=7).SerializeToString()
    (of_resource,) = ExportTraceServiceRequest.FromString(command_request(FACT, resource, scope_version="1.2.3")).resource_spans
    (of_scope,) = of_resource.scope_spans
    assert of_resource.resource.dropped_attributes_count == 7
    assert (of_scope.scope.name, of_scope.scope.version) == ("sidecar.exec", "1.2.3")
    assert of_scope.schema_url == of_resource.schema_url != ""
    assert list(of_scope.spans) == [span()]

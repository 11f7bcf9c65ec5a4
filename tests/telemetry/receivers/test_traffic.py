import asyncio
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.model.content import Content, Kind, Message, Part
from sidecar.model.facts import CommandFinished
from sidecar.model.spec import Duration
from sidecar.runtime.metrics import Counter
from sidecar.runtime.runtime import Runtime
from sidecar.telemetry.detectors import Detection
from sidecar.telemetry.receivers.traffic import AT_ONCE, Config, TrafficReceiver, build
from sidecar.telemetry.resource import enrich
from sidecar.telemetry.signals import Batch, Signal
from sidecar.telemetry.spec import ContentSpec, OwnTelemetrySpec
from sidecar.telemetry.waiting import MOST_CONTENT_BYTES
from tests.otlp_collector import attributes_of
from tests.sidecar_under_test import eventually
from tests.telemetry.dialogues import chat
from tests.telemetry.facts import attempt, exchange


class Sink:
    """Takes batches, or refuses them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.batches: list[Batch] = []
        self.takes = takes

    def consume(self, batch: Batch) -> bool:
        self.batches.append(batch)
        return self.takes

    @property
    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(chunk) for batch in self.batches for chunk in batch.chunks]
        return [span for request in requests for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


def receiver(sink: Sink, runtime: Runtime | None = None, **settings: Any) -> tuple[TrafficReceiver, Runtime]:
    runtime = runtime or Runtime(environ={"OTEL_SERVICE_NAME": "sidecar-under-test"})
    made = build("traffic", Config(**{"flush_interval": Duration("5ms"), **settings}), runtime)
    made.connect({Signal.TRACES: sink.consume})
    return made, runtime


def counts(runtime: Runtime) -> dict[str, int]:
    found = {}
    for family in runtime.metrics:
        for metric in family.series.values():
            assert isinstance(metric, Counter)
            found[family.name.removeprefix("telemetry.receivers.traffic.")] = metric.value
    return {name: value for name, value in found.items() if value}


async def test_an_ended_call_becomes_two_spans_after_a_moment() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    facts = [attempt(), exchange()]
    for fact in facts:
        runtime.bus.publish(fact)
    assert sink.batches == []
    await eventually(lambda: sink.batches, "a batch")
    (batch,) = sink.batches
    assert (batch.signal, batch.items, batch.size_bytes) == (Signal.TRACES, 2, len(batch.chunks[0]))
    assert [span.span_id for span in sink.spans] == [fact.span_id for fact in facts]
    request = ExportTraceServiceRequest.FromString(batch.chunks[0])
    assert attributes_of(request.resource_spans[0].resource)["service.name"] == "sidecar-under-test"
    await made.stop()
    assert counts(runtime) == {"accepted_spans": 2}


async def test_spans_go_on_after_a_batch_at_which_their_taker_failed(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    faults = [RuntimeError("broken")]

    def consume(batch: Batch) -> bool:
        if faults:
            raise faults.pop()
        return sink.consume(batch)

    made, runtime = receiver(sink)
    made.connect({Signal.TRACES: consume})
    for _ in range(AT_ONCE + 1):
        runtime.bus.publish(exchange())
    runtime.bus.deliver()
    await eventually(lambda: sink.batches, "the rest")
    await made.stop()
    assert counts(runtime) == {"refused_spans": AT_ONCE, "accepted_spans": 1}
    assert "RuntimeError: broken" in caplog.text


async def test_spans_wait_for_resource_detectors_and_are_written_with_what_those_found() -> None:
    sink = Sink()
    made, runtime = receiver(sink, flush_interval=Duration("1ms"), queue_size=200)
    detection = Detection(runtime, ["some"])
    for _ in range(AT_ONCE + 1):
        runtime.bus.publish(exchange())
    await asyncio.sleep(0.02)
    assert sink.batches == []
    enrich(runtime, {"cloud.provider": "acme"})
    detection.is_under_way = False
    await eventually(lambda: len(sink.spans) == AT_ONCE + 1, "all spans")
    for batch in sink.batches:
        request = ExportTraceServiceRequest.FromString(batch.chunks[0])
        assert attributes_of(request.resource_spans[0].resource)["cloud.provider"] == "acme"
    await made.stop()
    assert counts(runtime) == {"accepted_spans": AT_ONCE + 1}


@pytest.mark.parametrize("how", ["crowd", "end"])
async def test_spans_do_not_wait_for_detectors_where_there_is_no_room_or_no_time(how: str) -> None:
    sink = Sink()
    made, runtime = receiver(sink, flush_interval=Duration("1ms"), queue_size=200)
    Detection(runtime, ["some"])
    for _ in range(100 if how == "crowd" else 3):
        runtime.bus.publish(exchange())
    if how == "end":
        await made.stop()
    await eventually(lambda: len(sink.spans) >= (AT_ONCE if how == "crowd" else 3), "spans")
    await made.stop()
    assert counts(runtime) == {"accepted_spans": 100 if how == "crowd" else 3}


async def test_a_command_that_has_ended_is_written_at_once_if_its_trace_is_sampled() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    fact = CommandFinished(
        started_ns=1, ended_ns=2, trace_id=b"t" * 16, span_id=b"s" * 8, flags=1, command="sh", name="sh", agent="sh", exit_code=0
    )
    runtime.bus.publish(fact)
    runtime.bus.publish(replace(fact, flags=0))
    assert [span.name for span in sink.spans] == ["sh"]
    sink.takes = False
    runtime.bus.publish(fact)
    await made.stop()
    runtime.bus.publish(fact)
    assert counts(runtime) == {"accepted_spans": 1, "unsampled_spans": 1, "refused_spans": 1}


async def test_many_are_written_at_once_and_never_more_than_64_a_turn() -> None:
    sink = Sink()
    made, runtime = receiver(sink, flush_interval=Duration("1h"))
    for _ in range(AT_ONCE * 2 + 3):
        runtime.bus.publish(exchange())
    assert sink.batches == []  # not in the turn of the call that ends
    await asyncio.sleep(0)
    assert [batch.items for batch in sink.batches] == [64]
    await asyncio.sleep(0)
    assert [batch.items for batch in sink.batches] == [64, 64]
    await asyncio.sleep(0)
    assert [batch.items for batch in sink.batches] == [64, 64]  # three wait for others
    for _ in range(AT_ONCE - 3):
        runtime.bus.publish(exchange())
    await asyncio.sleep(0)
    assert [batch.items for batch in sink.batches] == [64, 64, 64]
    await made.stop()
    assert sum(batch.items for batch in sink.batches) == AT_ONCE * 3


async def test_what_is_left_after_a_burst_is_flushed_in_time() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    for _ in range(AT_ONCE + 1):
        runtime.bus.publish(exchange())
    await eventually(lambda: sum(batch.items for batch in sink.batches) == AT_ONCE + 1, "the last one")
    await made.stop()


async def test_a_trace_that_is_not_sampled_leaves_no_span_and_is_counted() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    runtime.bus.publish(exchange(flags=0))
    runtime.bus.publish(attempt(flags=2))
    runtime.bus.publish(exchange(flags=3))
    await made.stop()
    assert len(sink.spans) == 1
    assert counts(runtime) == {"accepted_spans": 1, "unsampled_spans": 2}


async def test_what_comes_on_top_of_the_queue_is_dropped_and_counted() -> None:
    sink = Sink()
    made, runtime = receiver(sink, queue_size=64)
    for _ in range(70):
        runtime.bus.publish(exchange())
    await made.stop()
    assert counts(runtime) == {"accepted_spans": 64, "dropped_spans": 6}


async def test_what_no_exporter_takes_is_counted() -> None:
    sink = Sink(takes=False)
    made, runtime = receiver(sink)
    runtime.bus.publish(exchange())
    await made.stop()
    assert counts(runtime) == {"refused_spans": 1}


async def test_stop_passes_on_what_waits_and_hears_no_more() -> None:
    sink = Sink()
    made, runtime = receiver(sink, flush_interval=Duration("1h"))
    for _ in range(10):
        runtime.bus.publish(exchange())
    await made.stop()
    runtime.bus.publish(exchange())
    await made.stop()
    assert len(sink.spans) == 10


async def test_stop_without_connect_does_no_harm() -> None:
    await build("traffic", Config(), Runtime()).stop()


async def test_a_reload_switches_the_consumer_and_does_not_hear_twice() -> None:
    first, second = Sink(), Sink()
    made, runtime = receiver(first)
    made.connect({Signal.TRACES: second.consume})
    runtime.bus.publish(exchange())
    await made.stop()
    assert (len(first.spans), len(second.spans)) == (0, 1)


async def test_a_gateway_route_is_named_by_its_prefix_and_a_reload_changes_it() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    fact = exchange()
    names = []
    for routes in ({"openai": "/openai/"}, {"openai": "/ai/"}, {}):
        runtime.services["traffic.routes"] = routes
        sink.batches.clear()
        runtime.bus.publish(fact)
        await eventually(lambda: sink.batches, "a span")
        names.append(sink.spans[0].name)
    assert names == ["POST /openai/", "POST /ai/", "POST"]
    await made.stop()


@pytest.mark.parametrize("settings", [{"queue_size": 63}, {"flush_interval": Duration("0")}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Config(**settings)


async def test_the_configs_edition_and_bounds_hold_for_dialogues_and_a_reload_changes_them() -> None:
    sink, said = Sink(), Content(input=[Message("user", [Part(Kind.TEXT, "acme_0123456789 " + "x" * 200)])])
    made, runtime = receiver(sink)
    runtime.bus.publish(attempt(dialogue=chat(content=said)))
    await eventually(lambda: sink.batches, "a batch")
    own = OwnTelemetrySpec(semconv="both", content=ContentSpec(part_chars=64, key_prefixes=("acme_",)))
    runtime.services["service.telemetry"] = own
    runtime.bus.publish(attempt(dialogue=chat(content=said)))
    await eventually(lambda: len(sink.batches) > 1, "another batch")
    before, after = (attributes_of(span) for span in sink.spans)
    written = "gen_ai.usage.cache_write.input_tokens"
    assert (before.get(written), after[written]) == (None, 100)
    assert "acme_0123456789" in before["gen_ai.input.messages"]
    assert "[key] xxx" in after["gen_ai.input.messages"]
    assert len(after["gen_ai.input.messages"]) < 150
    await made.stop()


async def test_where_too_much_was_said_the_spans_come_without_it_and_say_so() -> None:
    sink = Sink()
    made, runtime = receiver(sink)
    content = Content(input=[Message("user", [Part(Kind.TEXT, "hippopotamus " * 20_000)])])
    most = MOST_CONTENT_BYTES // content.size_bytes()
    for _ in range(most + 3):
        runtime.bus.publish(attempt(dialogue=chat(content=content)))
    runtime.bus.deliver()
    await made.stop()
    assert counts(runtime) == {"accepted_spans": most + 3, "left_out_contents": 3}
    found = [attributes_of(span) for span in sink.spans]
    assert [("gen_ai.input.messages" in each, each.get("sidecar.content.cut", False)) for each in found] == [
        *[(True, False)] * most, *[(False, True)] * 3,
    ]  # fmt: skip
    assert len(sink.batches) > most, "one at a time, so that no loop turn takes long"

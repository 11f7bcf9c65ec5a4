from dataclasses import replace

import pytest

from sidecar.demo.expectation import missing
from tests.demo.spans import TASK, demo, exchange

SERVERS = [at for at, span in enumerate(demo()) if span.kind == "SERVER"]


def test_a_demo_that_went_well_lacks_nothing() -> None:
    assert missing(demo()) == []


@pytest.mark.parametrize("at", range(len(demo())))
def test_every_single_span_is_missed(at: int) -> None:
    spans = demo()
    gone = spans.pop(at)
    faults = missing(spans)
    assert faults
    word = "no such SERVER span" if gone.kind == "SERVER" else "no single CLIENT span"
    assert any(word in fault for fault in faults)


@pytest.mark.parametrize("at", SERVERS)
def test_a_call_without_its_agent_is_noticed(at: int) -> None:
    spans = demo()
    spans[at] = replace(spans[at], attributes=spans[at].attributes | {"gen_ai.agent.id": ""})
    assert any(fault.startswith("1× nobody: ") for fault in missing(spans))


def test_a_call_too_many_is_noticed() -> None:
    assert missing([*demo(), *exchange(TASK, 91, b"agent-sp")]) == [
        "1× trip-planner: POST llm /v1/chat/completions 200: a SERVER span that nobody expected"
    ]


def test_a_nested_call_beside_its_parent_is_noticed() -> None:
    spans = [replace(span, parent_id=b"agent-sp") if span.parent_id == (52).to_bytes(8, "big") else span for span in demo()]
    assert missing(spans) == ["the packing agent's call should stand below the CLIENT span of the A2A call"]


def test_a_trace_that_fell_apart_is_noticed() -> None:
    spans = [
        replace(span, trace_id=b"X" * 16) if span.span_id in {(81).to_bytes(8, "big"), (82).to_bytes(8, "big")} else span
        for span in demo()
    ]
    assert missing(spans) == ["the agent's task and its call without traceparent should make two traces"]


def test_a_lost_trace_context_is_noticed() -> None:
    spans = [replace(span, parent_id=b"") if span.span_id == (81).to_bytes(8, "big") else span for span in demo()]
    assert any("should be the only root" in fault for fault in missing(spans))


def test_a_stream_that_was_held_back_is_noticed() -> None:
    spans = [replace(span, attributes=span.attributes | {"sidecar.first_byte_s": span.duration_s}) for span in demo()]
    assert missing(spans) == ["no answer was streamed: each first byte came with the last one"]


def test_nothing_at_all_is_missing_everything() -> None:
    assert len(missing([])) == 7 + 5 + 2 + 1


def test_a_call_that_nobody_read_is_noticed() -> None:
    spans = [replace(span, name="POST") if span.name == "SendMessage" else span for span in demo()]
    assert missing(spans) == ["1× SendMessage: no such CLIENT span"]


@pytest.mark.parametrize("lost", ["sidecar.cost.usd", "gen_ai.usage.input_tokens"])
def test_an_answer_without_tokens_or_price_is_noticed(lost: str) -> None:
    gone = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"} if "usage" in lost else {lost}
    spans = [
        replace(span, attributes={key: value for key, value in span.attributes.items() if key not in gone}) for span in demo()
    ]
    assert "chat demo-1: the answer has no tokens, or cost nothing" in missing(spans)

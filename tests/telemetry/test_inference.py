"""Numbers of any size, parameters of any type, and caches that outsiders cannot fill."""

import tracemalloc
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.usage import Usage
from sidecar.telemetry.inference import Inferences, model_of, sums, totals
from sidecar.telemetry.semconv import Semconv
from tests.otlp_collector import attributes_of
from tests.telemetry.dialogues import chat

INT64_MAX = 2**63 - 1
COUNTS = st.integers(0, 300) | st.integers(0, 2**20) | st.integers(0, 2**40)
USAGES = st.builds(Usage, **{each.name: COUNTS for each in fields(Usage) if each.type is int or each.type == "int"})
WRITERS = {edition: Inferences(edition) for edition in Semconv}


def written(dialogue: Dialogue, edition: Semconv = Semconv.V1_41, kind: str = "") -> dict[str, Any]:
    asked, answered = dialogue.asked, dialogue.answered
    assert isinstance(asked, ModelAsked)
    assert answered is None or isinstance(answered, ModelAnswered)
    span = Span.FromString(b"".join(WRITERS[edition].client(dialogue, asked, answered, kind)))
    found = attributes_of(span)
    assert len(found) == len(span.attributes)
    return found | {"name": span.name}


@given(USAGES)
def test_totals_are_those_that_usage_names(usage: Usage) -> None:
    dialogue = chat(usage=usage)
    assert totals(dialogue, usage) == sums(usage) == (usage.input_total, usage.cache_read_total, usage.cache_write_total, usage.output_total)
    assert totals(dialogue, Usage()) == sums(usage)


@given(USAGES, st.integers(0, 2**50), st.sampled_from(Pricing), st.sampled_from(Semconv))
def test_tokens_and_dollars_of_any_size_read_back(usage: Usage, nano_usd: int, pricing: Pricing, edition: Semconv) -> None:
    read = written(chat(usage=usage, cost=Cost(nano_usd, pricing)), edition)
    assert (read["gen_ai.usage.input_tokens"], read["gen_ai.usage.output_tokens"]) == (usage.input_total, usage.output_total)
    assert read.get("gen_ai.usage.cache_read.input_tokens", 0) == usage.cache_read_total
    assert read.get("gen_ai.usage.reasoning.output_tokens", 0) == usage.reasoning_tokens
    for name, in_edition in (("cache_creation", edition is not Semconv.LATEST), ("cache_write", edition is not Semconv.V1_41)):
        assert read.get(f"gen_ai.usage.{name}.input_tokens", 0) == (usage.cache_write_total if in_edition else 0)
    for name, count in (("audio.input", usage.input_audio_tokens), ("image.output", usage.output_image_tokens)):
        assert read.get(f"gen_ai.usage.{name}_tokens", 0) == (0 if edition is Semconv.V1_41 else count)
    if pricing is Pricing.UNPRICED:
        assert not {"sidecar.cost.usd", "sidecar.cost.nano_usd"} & read.keys(), "not known is not free"
    else:
        assert (read["sidecar.cost.nano_usd"], read["sidecar.cost.usd"]) == (nano_usd, nano_usd / 1e9)
    assert read["sidecar.cost.pricing"] == pricing.value


def test_a_cost_that_was_reckoned_without_usage_is_told() -> None:
    read = written(chat(usage=None, cost=Cost(5, Pricing.ESTIMATED, why="no usage")))
    assert (read["sidecar.cost.nano_usd"], read["sidecar.cost.pricing"], read["sidecar.cost.why"]) == (5, "estimated", "no usage")
    assert "gen_ai.usage.input_tokens" not in read
    assert written(chat(unanswered=True))["name"] == "chat gpt-4o-mini"


@pytest.mark.parametrize("count", [0, 2**19 - 1, 2**19, 2**28, 2**63, 2**70])
def test_counts_on_every_edge_are_written(count: int) -> None:
    read = written(chat(usage=Usage(input_tokens=count, cache_write_tokens=3), cost=Cost(count, Pricing.EXACT)))
    assert read["gen_ai.usage.input_tokens"] == min(count + 3, INT64_MAX)
    assert read["sidecar.cost.nano_usd"] == min(count, INT64_MAX)
    assert read["gen_ai.usage.cache_creation.input_tokens"] == 3


@pytest.mark.parametrize(
    ("word", "value", "name", "expected"),
    [
        ("temperature", 1, "gen_ai.request.temperature", 1.0),
        ("temperature", 10**400, "gen_ai.request.temperature", None),
        ("temperature", float("inf"), "gen_ai.request.temperature", float("inf")),
        ("temperature", "hot", "gen_ai.request.temperature", None),
        ("seed", -5, "gen_ai.request.seed", -5),
        ("seed", 2.0, "gen_ai.request.seed", 2),
        ("seed", float("nan"), "gen_ai.request.seed", None),
        ("seed", 10**400, "gen_ai.request.seed", None),
        ("seed", 2**63 - 1, "gen_ai.request.seed", 2**63 - 1),
        ("seed", 2**70, "gen_ai.request.seed", None),
        ("stop_sequences", "END", "gen_ai.request.stop_sequences", ["END"]),
        ("stop_sequences", 4, "gen_ai.request.stop_sequences", None),
        ("encoding_formats", ("float",), "gen_ai.request.encoding_formats", ["float"]),
        ("dimensions", 256, "gen_ai.embeddings.dimension.count", 256),
        ("top_k", 5, "gen_ai.request.top_k", 5.0),
        ("unheard_of", 5, "gen_ai.request.unheard_of", None),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_parameter_has_the_type_of_the_table_or_is_left_out(word: str, value: Any, name: str, expected: Any) -> None:
    found = written(chat(parameters=((word, value),))).get(name)
    assert found == expected
    assert type(found) is type(expected) or expected is None


def test_a_parameter_that_is_told_twice_stands_once() -> None:
    assert written(chat(parameters=(("top_p", 0.1), ("top_p", 0.2))))["gen_ai.request.top_p"] == 0.1


def test_what_is_usual_is_left_out() -> None:
    read = written(chat(streams=False, max_tokens=0, parameters=(), finish_reasons=[], id="", answering="", first_content_s=0.0))
    assert not {key for key in read if key.startswith("gen_ai.request.")} - {"gen_ai.request.model"}
    assert not [key for key in read if key.startswith("gen_ai.response.")]
    assert read["agent.model.name"] == "gpt-4o-mini"
    assert written(chat(choices=2))["gen_ai.request.choice.count"] == 2


@pytest.mark.parametrize(("provider", "asked", "served"), [
    ("openai", "openai.request.service_tier", "openai.response.service_tier"),
    ("anthropic", "", "sidecar.service_tier"),
])  # fmt: skip
def test_a_service_tier_has_a_name_of_its_provider_or_ours(provider: str, asked: str, served: str) -> None:
    read = written(chat(provider=provider, service_tier="auto", served="priority"))
    assert {key: value for key, value in read.items() if key.endswith("service_tier")} == {
        key: value for key, value in ((asked, "auto"), (served, "priority")) if key
    }


def test_ids_of_any_length_and_content_are_written() -> None:
    for text in ("x", "x" * 60, "x" * 90, "x" * 300, "ünï", "a\udcff"):
        read = written(chat(id=text, conversation=text))
        assert read["gen_ai.response.id"] == read["gen_ai.conversation.id"] == text.encode("utf-8", "replace").decode()


def test_the_model_is_the_one_that_answered_where_it_is_known() -> None:
    dialogue = chat()
    assert isinstance(dialogue.asked, ModelAsked)
    assert isinstance(dialogue.answered, ModelAnswered)
    assert model_of(dialogue.asked, dialogue.answered) == "gpt-4o-mini-2024-07-18"
    assert model_of(dialogue.asked, None) == model_of(dialogue.asked, ModelAnswered()) == "gpt-4o-mini"


def test_hostile_names_cost_no_memory() -> None:
    tracemalloc.start()
    for number in range(1500):
        written(chat(model=f"m{number}" + "x" * 250, finish_reasons=[str(number)] * 8))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 8 * 2**20

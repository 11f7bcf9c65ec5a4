"""Dialogues in, series out: names, labels and buckets of the conventions, exact sums of money, and tables with a bound."""

import shutil
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from sidecar.model.asked import McpAsked, ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.dialogue import Dialogue
from sidecar.model.usage import Usage
from sidecar.runtime.metrics import Counter, Histogram, Metrics
from sidecar.telemetry import dialogue_metrics, semconv
from sidecar.telemetry.dialogue_metrics import DialogueMetrics
from sidecar.telemetry.metrics import Form, exposition
from sidecar.telemetry.semconv import Semconv
from tests.telemetry.dialogues import chat, delegation, tool_call
from tests.telemetry.facts import attempt


def counted(*dialogues: Dialogue, edition: Semconv = Semconv.V1_41, **fact: Any) -> Metrics:
    metrics = Metrics()
    each = DialogueMetrics(metrics, edition)
    for dialogue in dialogues:
        each.count(attempt(started_ns=10**9, ended_ns=3 * 10**9, dialogue=dialogue, **fact), dialogue)
    return metrics


def names(metrics: Metrics) -> set[str]:
    return {family.name for family in metrics}


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], Counter | Histogram]:
    """Metrics by their labels, each as `name=value`."""
    (family,) = (family for family in metrics if family.name == name)
    found = {}
    for labels, metric in family.series.items():
        assert isinstance(metric, Counter | Histogram)
        found[tuple(f"{key}={value}" for key, value in labels)] = metric
    return found


def only(metrics: Metrics, name: str) -> Any:
    (metric,) = series(metrics, name).values()
    return metric


OF_MODEL = (
    "gen_ai_operation_name=chat", "gen_ai_provider_name=openai", "gen_ai_request_model=gpt-4o-mini",
    "gen_ai_response_model=gpt-4o-mini-2024-07-18", "server_address=api.openai.com", "server_port=443",
)  # fmt: skip


def test_a_call_to_a_model_is_counted_as_v1_41_says() -> None:
    metrics = counted(chat())
    assert names(metrics) == {
        "gen_ai.client.token.usage", "gen_ai.client.operation.duration_seconds", "gen_ai.client.operation.time_to_first_chunk_seconds",
        "gen_ai.client.operation.time_per_output_chunk_seconds", "cost.nano_usd",
    }  # fmt: skip
    ((labels, duration),) = series(metrics, "gen_ai.client.operation.duration_seconds").items()
    assert (labels, duration.bounds, duration.sum) == (OF_MODEL, semconv.SECONDS_BOUNDS, 2.0)
    assert {
        labels[-1 if labels[-1].startswith("gen_ai_token") else 4]: (tokens.sum, tokens.bounds)
        for labels, tokens in series(metrics, "gen_ai.client.token.usage").items()
    } == {"gen_ai_token_type=input": (1000, semconv.TOKEN_BOUNDS), "gen_ai_token_type=output": (200, semconv.TOKEN_BOUNDS)}
    assert only(metrics, "gen_ai.client.operation.time_to_first_chunk_seconds").sum == 0.3
    chunks = only(metrics, "gen_ai.client.operation.time_per_output_chunk_seconds")
    assert (sum(chunks.counts), round(chunks.sum, 9)) == (20, 1.7)


def test_the_latest_conventions_count_tokens_by_modality() -> None:
    usage = Usage(
        input_tokens=10, input_audio_tokens=5, cache_read_tokens=3, cache_write_5m_tokens=2, output_tokens=7, reasoning_tokens=4
    )
    metrics = counted(chat(usage=usage), chat(usage=usage), edition=Semconv.LATEST)
    assert names(metrics) == {
        "gen_ai.client.inference.duration_seconds", "gen_ai.client.inference.time_to_first_chunk_seconds",
        "gen_ai.client.inference.time_per_output_chunk_seconds", "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens", "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens", "gen_ai.client.inference.usage.cache_read.input_tokens",
        "gen_ai.client.inference.usage.cache_write.input_tokens", "gen_ai.client.inference.usage.reasoning.output_tokens",
        "cost.nano_usd",
    }  # fmt: skip
    by_modality = {
        labels[-3]: metric.value for labels, metric in series(metrics, "gen_ai.client.inference.usage.input_tokens").items()
    }
    assert by_modality == {"gen_ai_token_modality=unknown": 30, "gen_ai_token_modality=audio": 10}
    for name, total in (("cache_read.input", 6), ("cache_write.input", 4), ("reasoning.output", 8), ("output", 22)):
        assert only(metrics, f"gen_ai.client.inference.usage.{name}_tokens").value == total
    assert only(metrics, "gen_ai.client.inference.operation.input_tokens").sum == 40


def test_both_editions_stand_beside_each_other() -> None:
    both = names(counted(chat(), edition=Semconv.BOTH))
    assert both == names(counted(chat())) | names(counted(chat(), edition=Semconv.LATEST))


def test_a_call_that_failed_has_its_error_in_its_duration_and_counts_no_tokens() -> None:
    failed = chat(
        error_type="overloaded_error",
        is_ended=False,
        content_bytes=0,
        usage=None,
        cost=Cost(0, Pricing.UNPRICED, why="no usage"),
        answering="",
    )
    metrics = counted(failed, edition=Semconv.BOTH)
    ((labels, _),) = series(metrics, "gen_ai.client.operation.duration_seconds").items()
    assert "error_type=overloaded_error" in labels
    assert sum(sum(metric.counts) for metric in series(metrics, "gen_ai.client.token.usage").values()) == 0
    assert only(metrics, "gen_ai.client.inference.usage.input_tokens").value == 0
    for side in ("input", "output"):
        ((labels, tokens),) = series(metrics, f"gen_ai.client.inference.operation.{side}_tokens").items()
        assert "error_type=overloaded_error" in labels and (sum(tokens.counts), tokens.sum) == (1, 0), "the latest conventions want a 0"
    assert only(metrics, "cost.unpriced_calls").value == 1


def test_a_call_that_was_not_streamed_has_no_chunks() -> None:
    assert not [name for name in names(counted(chat(streams=False))) if "chunk" in name]


def test_dollars_add_up_exactly_by_model_provider_agent_and_pricing() -> None:
    metrics = counted(
        *(chat(cost=Cost(333_333_333, Pricing.EXACT)) for _ in range(3)),
        chat(cost=Cost(1, Pricing.ESTIMATED)),
        chat(cost=Cost(0, Pricing.UNPRICED, why="unknown model")),
    )
    spent = {labels: metric.value for labels, metric in series(metrics, "cost.nano_usd").items()}
    whose = ("agent=support-bot", "model=gpt-4o-mini-2024-07-18")
    assert spent == {
        (*whose, "pricing=exact", "provider=openai"): 999_999_999,
        (*whose, "pricing=estimated", "provider=openai"): 1,
    }
    ((labels, unpriced),) = series(metrics, "cost.unpriced_calls").items()
    assert (labels, unpriced.value) == (("model=gpt-4o-mini-2024-07-18", "provider=openai", "why=unknown model"), 1)


def test_an_agent_that_is_instrumented_itself_counts_its_own_tokens_and_dollars() -> None:
    metrics = counted(chat(cost=None), edition=Semconv.BOTH)
    used = [name for name in names(metrics) if "cost" in name or "usage." in name]
    assert not used
    assert all(sum(metric.counts) == 0 for metric in series(metrics, "gen_ai.client.token.usage").values())
    assert sum(only(metrics, "gen_ai.client.operation.duration_seconds").counts) == 1


def test_a_tool_call_is_timed_and_a_standing_stream_is_not() -> None:
    metrics = counted(tool_call(is_tool_error=True), tool_call(operation="subscriptions/listen", is_standing=True))
    ((labels, duration),) = series(metrics, "mcp.client.operation.duration_seconds").items()
    assert labels == (
        "error_type=tool_error", "gen_ai_operation_name=execute_tool", "gen_ai_tool_name=search", "mcp_method_name=tools/call",
        "server_address=api.openai.com", "server_port=443",
    )  # fmt: skip
    assert (duration.bounds, sum(duration.counts)) == (semconv.MCP_BOUNDS, 1)
    assert names(metrics) == {"mcp.client.operation.duration_seconds"}


def test_a_session_is_timed_from_its_beginning_until_it_is_deleted() -> None:
    metrics = Metrics()
    each = DialogueMetrics(metrics, Semconv.V1_41)
    begun = tool_call(operation="initialize", target="", session="", answered_with={"session": "s-1"})
    ended = tool_call(operation="DELETE", target="")
    each.count(attempt(ended_ns=10**9, started_ns=0, dialogue=begun), begun)
    for _ in range(2):  # the second finds nothing that it could end
        each.count(attempt(ended_ns=61 * 10**9, started_ns=60 * 10**9, method="DELETE", dialogue=ended), ended)
    duration = only(metrics, "mcp.client.session.duration_seconds")
    assert (sum(duration.counts), duration.sum) == (1, 60.0)


def test_sessions_that_nobody_ends_are_forgotten() -> None:
    each = DialogueMetrics(Metrics(), Semconv.V1_41)
    for number in range(dialogue_metrics.MOST_SESSIONS + 50):
        begun = tool_call(operation="initialize", target="", session="", answered_with={"session": f"s-{number}"})
        each.count(attempt(dialogue=begun), begun)
    assert len(each._sessions) <= dialogue_metrics.MOST_SESSIONS


def test_a_delegation_is_timed_under_a_name_of_ours() -> None:
    metrics = counted(delegation(), delegation(operation="SubscribeToTask", is_standing=True))
    ((labels, _),) = series(metrics, "a2a.client.operation.duration_seconds").items()
    assert labels == ("a2a_method_name=SendMessage", "server_address=api.openai.com", "server_port=443")


def test_what_was_not_read_and_not_changed_is_counted() -> None:
    metrics = counted(chat(unread="too_large", skipped=("clamp",)), tool_call(unread="unreadable"))
    assert {labels: metric.value for labels, metric in series(metrics, "dialogues.unread").items()} == {
        ("dialect=openai", "why=too_large"): 1,
        ("dialect=mcp", "why=unreadable"): 1,
    }
    assert list(series(metrics, "dialogues.skipped_edits")) == [("dialect=openai", "edit=clamp")]


@pytest.mark.parametrize("make", [
    lambda number: chat(model=f"m{number}", answering="", error_type=f"e{number}"),
    lambda number: tool_call(target=f"t{number}"),
    lambda number: delegation(error_type=f"e{number}"),
    lambda number: chat(answering=f"m{number}", unread=f"u{number}"),
], ids=["models", "tools", "errors", "answers"])  # fmt: skip
def test_outsiders_fill_no_table(make: Any) -> None:
    metrics = counted(*(make(number) for number in range(dialogue_metrics.MOST_SERIES * 5)), edition=Semconv.BOTH)
    for family in metrics:
        assert len(family.series) <= dialogue_metrics.MOST_SERIES * 4 + 1, family.name
    total = sum(
        sum(metric.counts) if isinstance(metric, Histogram) else 0
        for family in metrics if family.name in ("gen_ai.client.operation.duration_seconds", "mcp.client.operation.duration_seconds", "a2a.client.operation.duration_seconds")
        for metric in family.series.values()
    )  # fmt: skip
    assert total == dialogue_metrics.MOST_SERIES * 5, "whoever comes late is counted all the same"


MADE_UP = 100_000


def test_a_hundred_thousand_made_up_names_share_one_series_and_take_no_more_memory_than_a_full_table() -> None:
    """Models, tools, agents, methods, errors: OpenTelemetry's cardinality limit, with its `otel.metric.overflow`."""
    metrics = Metrics()
    each = DialogueMetrics(metrics, Semconv.BOTH)
    model, tool = chat(), tool_call()
    assert model.answered is not None and isinstance(model.asked, ModelAsked) and isinstance(tool.asked, McpAsked)
    of_model, of_tool = attempt(dialogue=model), attempt(dialogue=tool)
    tracemalloc.start()
    for number in range(MADE_UP):
        if number == MADE_UP // 100:
            full, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            blocks = sys.getallocatedblocks()
        name = f"{number:->200}"
        model.asked.model = of_model.passage.agent = name
        tool.asked.target = name
        tool.asked.operation = "tools/call" if number & 1 else name
        each.count(of_model, model)
        each.count(of_tool, tool)
    assert full < 8_000_000
    assert sys.getallocatedblocks() - blocks < 2000
    for family in metrics:
        assert len(family.series) <= 4 * dialogue_metrics.MOST_SERIES + 1, family.name
    overflow = ("otel_metric_overflow=true",)
    durations = series(metrics, "gen_ai.client.operation.duration_seconds")
    assert sum(durations[overflow].counts) == MADE_UP - dialogue_metrics.MOST_SERIES
    assert sum(sum(metric.counts) for metric in series(metrics, "mcp.client.operation.duration_seconds").values()) == MADE_UP
    assert sum(metric.value for metric in series(metrics, "cost.nano_usd").values()) == MADE_UP * 270_000, "no cent is lost"


@pytest.mark.parametrize(
    ("dialogue", "name", "label"),
    [
        (chat(error_type="req 7 failed: key=abc"), "gen_ai.client.operation.duration_seconds", "error_type=_OTHER"),
        (chat(error_type="rate_limit_error"), "gen_ai.client.operation.duration_seconds", "error_type=rate_limit_error"),
        (tool_call(operation="acme/made-up"), "mcp.client.operation.duration_seconds", "mcp_method_name=_OTHER"),
        (tool_call(error_type="123456", code=123456), "mcp.client.operation.duration_seconds", "rpc_response_status_code=_OTHER"),
        (tool_call(error_type="-32602", code=-32602), "mcp.client.operation.duration_seconds", "rpc_response_status_code=-32602"),
        (delegation(error_type="a b"), "a2a.client.operation.duration_seconds", "error_type=_OTHER"),
    ],
    ids=["error", "known error", "method", "code", "known code", "agent's error"],
)
def test_a_dimension_holds_words_that_are_known_or_look_like_one(dialogue: Dialogue, name: str, label: str) -> None:
    ((labels, _),) = series(counted(dialogue), name).items()
    assert label in labels


def test_a_stream_of_absurdly_many_chunks_is_not_counted_in_chunks() -> None:
    metrics = counted(chat(events=2**40), chat(events=1))
    assert sum(only(metrics, "gen_ai.client.operation.time_per_output_chunk_seconds").counts) == 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Debian's package prometheus")
def test_promtool_finds_nothing_to_complain_about() -> None:
    metrics = counted(
        chat(unread="x", skipped=("clamp",)),
        chat(cost=Cost(0, Pricing.UNPRICED)),
        tool_call(),
        delegation(),
        edition=Semconv.BOTH,
    )
    text = "".join(exposition(metrics, Form.PROMETHEUS))
    assert "\ngen_ai_client_token_usage_bucket{" in text
    assert "\nmcp_client_operation_duration_seconds_count{" in text
    assert "\nsidecar_cost_nano_usd_total{" in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stderr.decode(), checked.stdout.decode()) == (0, "", "")

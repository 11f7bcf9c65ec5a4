"""The table: names that OpenTelemetry has, where it has them, and none that we made up outside of our own namespaces."""

import re
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import opentelemetry.semconv._incubating.attributes as incubating_attributes
import opentelemetry.semconv._incubating.metrics as incubating_metrics
import pytest
from opentelemetry.semconv import attributes
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GenAiOperationNameValues, GenAiProviderNameValues

from sidecar.dialects import providers
from sidecar.telemetry import semconv
from sidecar.telemetry.delegations import INVOKE_AGENT
from sidecar.telemetry.semconv import PARAMETERS, Name, Semconv, rows
from sidecar.telemetry.tool_calls import EXECUTE_TOOL
from tests.repository import PACKAGE


def published(*packages: ModuleType) -> frozenset[str]:
    """Every name that the constants of OpenTelemetry's package have."""
    modules = [import_module(f"{each.__name__}.{found.name}") for each in packages for found in iter_modules(each.__path__)]
    return frozenset(
        value for module in modules for word, value in vars(module).items() if word.isupper() and isinstance(value, str)
    )


ATTRIBUTES = published(attributes, incubating_attributes)
METRICS = published(incubating_metrics)
OWN = ("agent.", "sidecar.", "a2a.", "cost.", "dialogues.")
"""Names of agent-sre, our own, and of a draft that nobody has published (A2A)."""

NEWER = {
    "gen_ai.client.inference.duration", "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.time_per_output_chunk", "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens", "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens", "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens", "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.request.previous_response.id", "gen_ai.request.reasoning.level", "gen_ai.token.modality",
    "gen_ai.usage.audio.input_tokens", "gen_ai.usage.audio.output_tokens", "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.image.input_tokens", "gen_ai.usage.image.output_tokens",
}  # fmt: skip
"""In `latest` only: model/gen-ai/{registry,metrics,token-metrics}.yaml of semantic-conventions-genai, not yet in the package."""


def foreign(edition: str) -> set[str]:
    """The names that others have defined, of one column."""
    return {name for row in rows().values() if (name := getattr(row, edition)) and not name.startswith(OWN)}


def test_what_is_written_as_v1_41_is_spelt_as_it_is_published() -> None:
    assert foreign("v1_41") - ATTRIBUTES - METRICS == set()


def test_what_only_the_latest_has_is_known_by_name_and_the_rest_published() -> None:
    assert foreign("latest") - ATTRIBUTES - METRICS <= NEWER, "misspelt, or the package has lost it"
    assert foreign("latest") >= NEWER, "no longer written"


def test_metrics_are_metrics_and_attributes_attributes() -> None:
    """A name that exists, in the wrong place, would be as bad."""
    ours = {row.v1_41 for row in rows().values() if ".client." in row.v1_41 and not row.v1_41.startswith(OWN)}
    assert ours <= METRICS and not (foreign("v1_41") - ours) & METRICS


def test_nothing_of_v1_41_is_deprecated() -> None:
    old = {"gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "gen_ai.prompt", "gen_ai.completion"}
    assert old <= ATTRIBUTES and not old & foreign("v1_41")


def test_the_words_of_the_tool_call_and_of_the_agent_are_operations() -> None:
    assert {EXECUTE_TOOL, INVOKE_AGENT} <= {each.value for each in GenAiOperationNameValues}


def test_providers_that_have_a_name_in_the_conventions_are_called_by_it() -> None:
    known = {each.value for each in GenAiProviderNameValues}
    hosts = {
        "api.openai.com": "openai", "x.openai.azure.com": "azure.ai.openai", "api.anthropic.com": "anthropic", "api.cohere.com": "cohere",
        "generativelanguage.googleapis.com": "gcp.gemini", "us-central1-aiplatform.googleapis.com": "gcp.vertex_ai",
        "bedrock-runtime.us-east-1.amazonaws.com": "aws.bedrock", "api.groq.com": "groq", "api.mistral.ai": "mistral_ai",
        "api.deepseek.com": "deepseek", "api.x.ai": "x_ai", "api.perplexity.ai": "perplexity",
    }  # fmt: skip
    assert {host: providers.provider(host) for host in hosts} == hosts
    assert set(hosts.values()) <= known


@pytest.mark.parametrize("word", sorted(rows()))
def test_a_name_is_dotted_and_stands_once(word: str) -> None:
    row = rows()[word]
    for name in {row.v1_41, row.latest} - {""}:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+", name)
        assert [other for other, same in rows().items() if name in (same.v1_41, same.latest)] == [word]


def test_both_writes_what_differs_twice_and_the_rest_once() -> None:
    row = semconv.CACHE_WRITE_TOKENS
    assert row.of(Semconv.V1_41) == ("gen_ai.usage.cache_creation.input_tokens",)
    assert row.of(Semconv.LATEST) == ("gen_ai.usage.cache_write.input_tokens",)
    assert row.of(Semconv.BOTH) == (row.v1_41, row.latest)
    assert semconv.INPUT_TOKENS.of(Semconv.BOTH) == ("gen_ai.usage.input_tokens",)
    assert Name("", "new").of(Semconv.V1_41) == Name("old", "").of(Semconv.LATEST) == ()


def test_the_buckets_are_those_that_are_advised() -> None:
    assert semconv.SECONDS_BOUNDS == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert semconv.TOKEN_BOUNDS == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


def test_names_that_differ_between_editions_are_used_through_both() -> None:
    """Where the code takes one column, the row has to be the same in both, or be new and so be absent from the other."""
    used = set()
    for path in (PACKAGE / "telemetry").glob("*.py"):
        used |= set(re.findall(r"\b([A-Z][A-Z0-9_]+)\.latest\b", path.read_text()))
    differing = {word for word, row in rows().items() if row.v1_41 != row.latest and row.v1_41}
    assert not used & differing


def test_no_other_file_of_telemetry_spells_these_names() -> None:
    spelt = re.compile(r'"((?:gen_ai|mcp|a2a|agent|openai)\.[a-z_.]+|sidecar\.(?:cost|edits|unread)[a-z_.]*)"')
    found = {
        (path.name, name)
        for path in (PACKAGE / "telemetry").rglob("*.py")
        if path.name != "semconv.py"
        for name in spelt.findall(path.read_text())
    }
    assert not found


def test_parameters_have_types_that_attributes_have() -> None:
    assert {row.kind for row in PARAMETERS.values()} == {float, int, str, tuple[str, ...]}

"""The table: names that OpenTelemetry has, where it has them, and none that we made up outside of our own namespaces."""

import re

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, mcp_attributes, openai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from sidecar.telemetry import semconv
from sidecar.telemetry.semconv import PARAMETERS, Name, Semconv, rows
from tests.repository import PACKAGE

PUBLISHED = {
    value
    for module in (gen_ai_attributes, openai_attributes, mcp_attributes)
    for word, value in vars(module).items()
    if word.isupper() and isinstance(value, str)
}
NEWER_THAN_THE_PACKAGE = {
    "gen_ai.request.stream", "gen_ai.response.time_to_first_chunk", "gen_ai.usage.reasoning.output_tokens",
}  # fmt: skip
"""In v1.41.1, and not in the constants that Python's package has."""


def test_what_is_written_as_v1_41_is_published() -> None:
    names = {
        row.v1_41
        for word, row in rows().items()
        if row.v1_41.startswith(("gen_ai.", "openai.", "mcp.")) and "client" not in row.v1_41
    }
    assert names - PUBLISHED - NEWER_THAN_THE_PACKAGE == set()


def test_metrics_of_v1_41_are_published() -> None:
    published = {value for word, value in vars(gen_ai_metrics).items() if word.isupper() and isinstance(value, str)}
    ours = {row.v1_41 for row in rows().values() if row.v1_41.startswith("gen_ai.client.")}
    assert ours - published <= {"gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.operation.time_per_output_chunk"}


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

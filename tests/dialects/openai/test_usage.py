import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.openai.usage import Details, Told, _sorted, searches, usage
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage


def told(**members: object) -> Told:
    return msgspec.convert(members, Told)


@pytest.mark.parametrize(
    ("members", "provider", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, "openai", Usage(input_tokens=10, output_tokens=5)),
        ({"input_tokens": 10, "output_tokens": 5}, "openai", Usage(input_tokens=10, output_tokens=5)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, "openai", Usage()),
        ({"prompt_tokens": 10}, "openai", Usage(input_tokens=10)),
        ({"total_tokens": 7}, "openai", Usage(input_tokens=7)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35, "completion_tokens_details": {"reasoning_tokens": 20}}, "openai", Usage(input_tokens=10, output_tokens=5, reasoning_tokens=20)),
        ({"prompt_tokens": 10, "completion_tokens": 25, "total_tokens": 35, "completion_tokens_details": {"reasoning_tokens": 20}}, "x_ai", Usage(input_tokens=10, output_tokens=5, reasoning_tokens=20)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 20}}, "x_ai", Usage(input_tokens=10, output_tokens=5, reasoning_tokens=20)),
        ({"input_tokens": 10, "output_tokens": 25, "output_tokens_details": {"reasoning_tokens": 20}}, "x_ai", Usage(input_tokens=10, output_tokens=5, reasoning_tokens=20)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 3}, "databricks", Usage(input_tokens=10, output_tokens=2, reasoning_tokens=3)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "reasoning_tokens": 3, "citation_tokens": 7, "num_search_queries": 2}, "perplexity", Usage(input_tokens=10, output_tokens=12, reasoning_tokens=3, web_searches=2)),
        ({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cache_read_input_tokens": 4}}, "perplexity", Usage(input_tokens=6, cache_read_tokens=4, output_tokens=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, "deepseek", Usage(input_tokens=2, cache_read_tokens=8, output_tokens=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 8}, "moonshot_ai", Usage(input_tokens=2, cache_read_tokens=8, output_tokens=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "num_server_side_tools_used": 3}, "x_ai", Usage(input_tokens=10, output_tokens=5, tool_uses=3)),
        ({"prompt_tokens": 10, "completion_tokens": 9, "prompt_tokens_details": {"image_tokens": 4}, "completion_tokens_details": {"image_tokens": 8}}, "openai", Usage(input_tokens=6, input_image_tokens=4, output_tokens=1, output_image_tokens=8)),
    ],
    ids=range(16),
)  # fmt: skip
def test_each_token_lands_in_one_class(members: dict[str, object], provider: str, expected: Usage) -> None:
    assert usage(told(**members), provider) == expected


@pytest.mark.parametrize("members", [{}, {"prompt_tokens": -1}, {"prompt_tokens": -1, "completion_tokens": -2}, {"prompt_tokens_details": {"cached_tokens": 5}}], ids=range(4))
def test_nothing_told_is_no_usage(members: dict[str, object]) -> None:
    assert usage(told(**members), "openai") is None
    assert usage(None, "openai") is None


def test_more_cached_than_there_was_is_cut_down() -> None:
    found = usage(told(prompt_tokens=10, completion_tokens=5, prompt_tokens_details={"cached_tokens": 50, "cache_write_tokens": 9, "audio_tokens": 9}), "openai")
    assert found == Usage(cache_read_tokens=10, output_tokens=5, doubt=CONTRADICTION)


@pytest.mark.parametrize(
    ("members", "provider", "doubt"),
    [
        ({"prompt_tokens": -10}, "openai", NONSENSE),
        ({"completion_tokens": 1e15}, "openai", NONSENSE),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, "openai", NONSENSE),
        ({"prompt_tokens_details": {"cached_tokens": 11}}, "openai", CONTRADICTION),
        ({"prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 6}}, "openai", CONTRADICTION),
        ({"completion_tokens_details": {"reasoning_tokens": 6}}, "openai", CONTRADICTION),
        ({"completion_tokens_details": {"reasoning_tokens": -6}}, "openai", NONSENSE),
        ({"completion_tokens_details": {"audio_tokens": 1e12}}, "openai", NONSENSE),
        ({"total_tokens": 14}, "openai", CONTRADICTION),
        ({"total_tokens": 900}, "gcp.gemini", CONTRADICTION),
        ({"num_search_queries": -2}, "perplexity", NONSENSE),
        ({"citation_tokens": -2}, "perplexity", NONSENSE),
        ({"total_tokens": 99}, "perplexity", ""),
        ({"total_tokens": 15}, "openai", ""),
        ({"total_tokens": 0}, "openai", ""),
        ({"prompt_tokens_details": {"cached_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 5}}, "openai", ""),
    ],
    ids=range(16),
)  # fmt: skip
def test_numbers_that_cannot_be_so_leave_a_doubt(members: dict[str, object], provider: str, doubt: str) -> None:
    found = usage(told(**{"prompt_tokens": 10, "completion_tokens": 5, **members}), provider)
    assert found is not None and found.doubt == doubt


_COUNT = st.none() | st.integers(-5, 200).map(float) | st.sampled_from([1e15, 1e300, 0.5, -1e300])
_DETAILS = st.none() | st.builds(Details, **dict.fromkeys(Details.__struct_fields__, _COUNT))


@given(
    st.builds(Told, **{name: _DETAILS if name.endswith("details") else _COUNT for name in Told.__struct_fields__}),
    st.sampled_from(["openai", "x_ai", "perplexity", "databricks"]),
)
def test_whatever_is_told_no_count_is_negative_and_the_input_is_never_exceeded(told: Told, provider: str) -> None:
    found = usage(told, provider)
    if found is None:
        return
    assert all(getattr(found, name) >= 0 for name in Usage.__slots__ if name not in ("doubt", "text"))
    total = told.prompt_tokens if told.prompt_tokens is not None else told.input_tokens
    if total is not None:
        assert found.input_total <= max(total, 0)


_FEW = st.sampled_from([None, 0.0, 1.0, 3.0, 5.0, 8.0, 9.0, 0.5, 2.0**33])
_SELDOM = st.sampled_from([None, None, None, None, None, None, 0.0, 2.0])


def _told(totals: tuple[float | None, float | None], is_sum_told: bool, members: dict[str, float | None], parts: list[Details | None]) -> Told:
    names = [name for name in Told.__struct_fields__ if name.endswith("details")]
    told = Told(**(members | dict(zip(names, parts, strict=True))))  # type: ignore[arg-type]  # by name, each of its type
    told.prompt_tokens, told.completion_tokens = totals
    if is_sum_told:
        told.total_tokens = (totals[0] or 0) + (totals[1] or 0)
    return told


@given(
    st.tuples(_FEW, _FEW),
    st.booleans(),
    st.fixed_dictionaries({name: _SELDOM for name in Told.__struct_fields__ if not name.endswith("details")}),
    st.lists(
        st.none()
        | st.builds(
            Details, cached_tokens=_FEW, reasoning_tokens=_FEW, cache_read_input_tokens=_SELDOM, cache_write_tokens=_SELDOM,
            audio_tokens=_SELDOM, image_tokens=_SELDOM,
        ),
        min_size=4,
        max_size=4,
    ),
    st.sampled_from(["openai", "x_ai", "perplexity", "databricks"]),
)  # fmt: skip
def test_what_nearly_all_tell_is_sorted_as_everything_is(
    totals: tuple[float | None, float | None], is_sum_told: bool, members: dict[str, float | None], parts: list[Details | None], provider: str
) -> None:
    told = _told(totals, is_sum_told, members, parts)
    found = usage(told, provider)
    assert found == _sorted(told, provider)
    if found is not None and found.text is not None:
        read, reasoning = found.cache_read_tokens, found.reasoning_tokens
        assert found.text == (found.input_tokens, read, found.output_tokens, reasoning)
        assert (found.input_total, found.output_total) == (found.input_tokens + read, found.output_tokens + reasoning)
        assert not (found.web_searches or found.tool_uses or found.input_characters or found.output_characters or found.billed_seconds)


def test_searches_are_those_told_or_those_counted() -> None:
    assert searches({"web_search_call": 3, "file_search_call": 2}, None) == (3, 2)
    assert searches({"web_search_call": 3}, 1.0) == (1, 0)
    assert searches({}, None) == (0, 0)

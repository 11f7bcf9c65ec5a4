import pytest

from sidecar.engines.prices.catalogue import Catalogue, Constraint, Model, Prices, Provider, Variant, clause, nothing
from sidecar.engines.prices.price import FREE
from sidecar.model.usage import Usage
from tests.engines.prices.calls import NOW, at

ONE = Usage(input_tokens=10**6)


def prices(dollars: int) -> Prices:
    return Prices({"input": [dollars * 10**9, []]})


def dollars(model: Model, when: int = NOW, tier: str = "", **options: bool) -> tuple[int, str]:
    nano, why = model.quote(when, tier, **options).price.charge(ONE)
    return nano // 10**9, why


@pytest.mark.parametrize(
    ("written", "text", "does"),
    [
        (["equals", "GPT-4o"], "gpt-4o", True), (["equals", "gpt-4"], "gpt-4o", False),
        (["starts_with", "GPT"], "gpt-4o", True), (["ends_with", "4O"], "gpt-4o", True), (["contains", "T-4"], "gpt-4o", True),
        (["regex", "^gpt-[0-9]o$"], "gpt-4o", True), (["regex", "4O"], "gpt-4o", False),
        (["or", [["equals", "x"], ["equals", "y"]]], "y", True), (["or", []], "y", False),
        (["and", [["contains", "x"], ["contains", "y"]]], "xy", True), (["and", [["contains", "x"], ["contains", "y"]]], "x", False),
        (None, "anything", False),
    ],
)  # fmt: skip
def test_a_clause_matches_as_the_package_means_it(written: list[object] | None, text: str, does: bool) -> None:
    assert clause(written)(text) is does


def test_a_clause_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown clause"):
        clause(["sounds_like", "gpt"])


def test_the_last_price_that_is_active_counts_and_else_the_first() -> None:
    model = Model(
        "m",
        nothing,
        ((Constraint(day=30_000), prices(9)), (Constraint(day=20_000), prices(1)), (Constraint(day=20_100), prices(2))),
    )
    day = 86_400 * 10**9
    assert [dollars(model, each * day) for each in (1, 20_000, 20_099, 20_100)] == [(9, ""), (1, ""), (1, ""), (2, "")]
    assert dollars(model, 20_100 * day - 1) == (1, "")


def test_prices_by_the_time_of_day_also_over_midnight() -> None:
    model = Model("m", nothing, ((None, prices(2)), (Constraint(begins=16 * 3600, ends=1800), prices(1))))
    times = ("00:00", "00:29", "00:30", "15:59", "16:00", "23:59")
    assert [dollars(model, at(f"2026-11-20T{time}"))[0] for time in times] == [1, 1, 2, 2, 1, 1]


def test_a_quote_says_how_long_it_counts() -> None:
    model = Model("m", nothing, ((None, prices(2)), (Constraint(begins=1800, ends=16 * 3600), prices(1))))
    for when, since, until in (("00:10", "00:00", "00:30"), ("12:00", "00:30", "16:00"), ("16:00", "16:00", None)):
        quote = model.quote(at(f"2026-11-20T{when}"), "")
        end = at(f"2026-11-20T{until}") if until else at("2026-11-21T00:00")
        assert (quote.since, quote.until) == (at(f"2026-11-20T{since}"), end)


def test_variants_belong_to_a_tier_and_leave_what_they_do_not_name() -> None:
    standard = Prices({"input": [4 * 10**9, []], "output": [8 * 10**9, []]})
    model = Model(
        "m", nothing, ((None, standard),),
        (Variant({"service_tier": "default"}, Prices({})), Variant({"processing": "batch"}, prices(2), Constraint(day=20_000)), Variant({"processing": "batch"}, prices(1))),
    )  # fmt: skip
    assert dollars(model) == (4, "")
    assert dollars(model, tier="batch") == (2, ""), "the first of two that are active wins"
    assert dollars(model, 10**9, tier="batch") == (1, "")
    assert model.quote(NOW, "batch").price.charge(Usage(output_tokens=10**6)) == (8 * 10**9, "")
    assert dollars(model, tier="priority") == (4, "service_tier"), "no price of its own: the standard one, and said so"
    assert dollars(model, tier="batch", has_variants=False) == (4, "service_tier")


def test_nothing_written_is_free_and_what_we_cannot_count_is_said() -> None:
    assert Model("m", nothing, ((None, Prices({})),)).quote(NOW, "").price is FREE
    pages = Model("m", nothing, ((None, Prices({}, uncounted=("input_document_kpages",))),))
    assert pages.quote(NOW, "").price.charge(ONE)[0] < 0
    both = Model("m", nothing, ((None, Prices({"input": [10**9, []]}, uncounted=("output_citation_mtok",))),))
    assert both.quote(NOW, "").price.charge(ONE) == (10**9, "output_citation_mtok_not_counted")


def listed(*providers: Provider) -> Catalogue:
    return Catalogue("test", "1", providers)


def provider(name: str, *models: str, **more: object) -> Provider:
    found = tuple(Model(each, clause(["equals", each]), ((None, prices(1)),)) for each in models)
    return Provider(name, lambda: found, **more)  # type: ignore[arg-type]  # the keywords are those of the dataclass


OPENAI = provider(
    "openai",
    "gpt-4o",
    "gpt-5.2-2025-12-11",
    is_called=clause(["contains", "openai"]),
    serves=lambda url: url.startswith("https://api.openai.com"),
)
AZURE = provider("azure", "phi", lenders=("openai",), serves=lambda url: url == "https://mine.openai.azure.com/")
GOOGLE = provider("google", "gemini-2.5-pro", is_known_for=clause(["contains", "gemini"]))
CATALOGUE = listed(OPENAI, AZURE, GOOGLE)


@pytest.mark.parametrize(
    ("name", "host", "found"),
    [
        ("openai", "", "openai"), ("OpenAI ", "", "openai"), ("my-openai-proxy", "", "openai"), ("azure.ai.openai", "", "azure"),
        ("azure.ai.inference", "", "azure"), ("gcp.vertex_ai", "", "google"), ("gcp.gemini", "", "google"),
        ("", "api.openai.com", "openai"), ("", "api.openai.com:443", "openai"), ("", "API.OpenAI.com", "openai"),
        ("ollama", "", None), ("ollama", "api.openai.com", "openai"), ("", "mine.openai.azure.com:443", "azure"),
        ("", "", None), ("", "localhost:11434", None),
    ],
)  # fmt: skip
def test_a_provider_is_found_by_its_name_and_then_by_the_host(name: str, host: str, found: str | None) -> None:
    there = CATALOGUE.provider(name, host)
    assert (there.id if there else None) == found


def model_of(of: Provider, name: str, called: str = "") -> tuple[str, bool] | None:
    found = CATALOGUE.find(of, name, called)
    return (found.model.id, found.is_own) if found else None


def test_a_model_is_found_by_its_name_without_regard_to_case_and_dashes_in_dates() -> None:
    assert model_of(OPENAI, "GPT-4o") == ("gpt-4o", True)
    assert model_of(OPENAI, "gpt-5.2-20251211") == ("gpt-5.2-2025-12-11", True)
    assert model_of(OPENAI, "gpt-5.2-20251311") is None
    assert model_of(OPENAI, "") is None
    assert model_of(OPENAI, "x" * 10**6) is None


def test_a_provider_that_sells_anothers_models_has_its_prices_and_not_its_variants() -> None:
    assert model_of(AZURE, "gpt-4o") == ("gpt-4o", False)
    assert model_of(AZURE, "phi") == ("phi", True)
    assert model_of(AZURE, "gemini-2.5-pro") is None


def test_a_path_is_a_name_only_where_providers_write_models_as_paths() -> None:
    assert model_of(GOOGLE, "publishers/google/models/gemini-2.5-pro") == ("gemini-2.5-pro", True)
    assert model_of(GOOGLE, "models/gemini-2.5-pro") == ("gemini-2.5-pro", True)
    assert model_of(OPENAI, "somebody/gpt-4o") is None


def test_behind_litellm_the_model_says_whose_it_is() -> None:
    there = CATALOGUE.provider("litellm", "", "openai/gpt-4o")
    assert there is OPENAI
    assert model_of(OPENAI, "openai/gpt-4o", "litellm") == ("gpt-4o", True)
    assert CATALOGUE.provider("litellm", "", "gemini-2.5-pro") is GOOGLE
    assert CATALOGUE.provider("litellm", "", "nobody/knows") is None

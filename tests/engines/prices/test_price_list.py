import pytest

from sidecar.engines.prices.catalogue import Catalogue, Constraint, Model, Prices, Provider, Variant, clause
from sidecar.engines.prices.price_list import MOST_TOKENS, PriceList
from sidecar.engines.prices.spec import Dollars, PricesSpec, RuleSpec
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.cost import Cost, Pricing
from sidecar.model.usage import CONTRADICTION, NONSENSE, Usage
from tests.engines.prices.calls import NOW, at, cost

ONE_AND_FOUR = Prices({"input": [10**9, []], "cache_read": [10**8, []], "output": [4 * 10**9, []]})
USED = Usage(input_tokens=1000, output_tokens=100)


def catalogue() -> Catalogue:
    models = (
        Model("known", clause(["starts_with", "known"]), ((None, ONE_AND_FOUR),), (Variant({"processing": "batch"}, Prices({"input": [5 * 10**8, []]})),)),
        Model("small", clause(["equals", "small"]), ((None, ONE_AND_FOUR),), window=500),
        Model("free", clause(["equals", "free"]), ((None, Prices({})),)),
        Model("spoken", clause(["equals", "spoken"]), ((None, Prices({}, per_hour=10**9)),)),
        Model("nightly", clause(["equals", "nightly"]), ((None, ONE_AND_FOUR), (Constraint(begins=0, ends=3600), Prices({"input": [1, []], "output": [1, []]})))),
    )  # fmt: skip
    named = clause(["equals", "acme"])
    azure = Provider("azure", lambda: models, is_called=clause(["equals", "azure"]))
    return Catalogue(
        "a-list", "7", (Provider("acme", lambda: models, lambda url: url.startswith("https://api.acme.test/"), named), azure)
    )


@pytest.fixture
def prices() -> PriceList:
    return PriceList(catalogue=catalogue())


def rules(*written: RuleSpec) -> PriceList:
    return PriceList(PricesSpec(rules=written, version="ours-3"), catalogue())


def unanswered(prices: PriceList, request_bytes: int, status: int = 0, provider: str = "acme") -> Cost:
    asked = ModelAsked("any", "chat", provider=provider, model="known")
    return prices.cost(asked, None, host="", at_ns=NOW, request_bytes=request_bytes, answered_bytes=0, status=status)


def test_a_told_usage_of_a_known_model_has_an_exact_cost_with_its_source(prices: PriceList) -> None:
    assert cost(prices, "acme", "known", USED) == Cost(1_400_000, Pricing.EXACT, "a-list", "7")


def test_the_provider_is_found_by_the_host_where_nobody_named_it(prices: PriceList) -> None:
    assert cost(prices, "", "known", USED, host="api.acme.test:443").pricing is Pricing.EXACT


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [("vllm", "known", "unknown_provider"), ("acme", "other", "unknown_model"), ("acme", "", "unknown_model")],
)
def test_what_nobody_knows_is_unpriced_and_never_free(prices: PriceList, provider: str, model: str, why: str) -> None:
    for usage in (USED, None):
        assert cost(prices, provider, model, usage) == Cost(0, Pricing.UNPRICED, why=why)


def test_without_a_list_everything_without_a_rule_is_unpriced() -> None:
    assert cost(PriceList(), "acme", "known", USED) == Cost(0, Pricing.UNPRICED, why="no_price_list")


def test_a_list_that_comes_later_is_used_from_then_on() -> None:
    prices = PriceList()
    assert cost(prices, "acme", "known", USED).pricing is Pricing.UNPRICED
    prices.use(catalogue())
    assert cost(prices, "acme", "known", USED).pricing is Pricing.EXACT


def test_what_has_no_price_for_anything_that_was_used_is_unpriced(prices: PriceList) -> None:
    assert cost(prices, "acme", "spoken", USED) == Cost(0, Pricing.UNPRICED, why="no_price")
    assert cost(prices, "acme", "spoken", Usage(billed_seconds=3600.0)).nano_usd == 10**9


def test_the_answered_model_counts_before_the_requested_one(prices: PriceList) -> None:
    assert cost(prices, "acme", "my-deployment", USED, answers_as="known-2026").pricing is Pricing.EXACT
    assert cost(prices, "acme", "known", USED, answers_as="").pricing is Pricing.EXACT
    fallen_back = cost(prices, "acme", "known", USED, answers_as="new-snapshot")
    assert (fallen_back.nano_usd, fallen_back.pricing, fallen_back.why) == (1_400_000, Pricing.ESTIMATED, "requested_model")


def test_the_tier_of_the_reply_counts_and_not_that_of_the_request(prices: PriceList) -> None:
    assert cost(prices, "acme", "known", USED, asked={"service_tier": "batch"}).nano_usd == 1_400_000
    assert cost(prices, "acme", "known", USED, tier="batch") == Cost(900_000, Pricing.EXACT, "a-list", "7")
    other = cost(prices, "acme", "known", USED, tier="priority")
    assert (other.nano_usd, other.pricing, other.why) == (1_400_000, Pricing.ESTIMATED, "service_tier")


def test_a_price_changes_at_its_time_also_when_it_was_asked_before(prices: PriceList) -> None:
    times = ("2026-11-20T00:59", "2026-11-20T01:00", "2026-11-20T00:30", "2026-11-21T00:00")
    assert [cost(prices, "acme", "nightly", USED, when=at(time)).nano_usd > 1 for time in times] == [False, True, False, False]


def test_free_is_exactly_nothing_with_and_without_a_usage(prices: PriceList) -> None:
    for usage in (USED, None):
        assert cost(prices, "acme", "free", usage) == Cost(0, Pricing.EXACT, "a-list", "7", "free")


# --- no usage ---


def test_without_a_usage_tokens_come_from_bytes(prices: PriceList) -> None:
    found = cost(prices, "acme", "known", None, request_bytes=4000, content_bytes=400)
    assert found == Cost(1_400_000, Pricing.ESTIMATED, "a-list", "7", "no_usage")


def test_a_usage_of_zeros_beside_content_is_no_usage(prices: PriceList) -> None:
    assert cost(prices, "acme", "known", Usage(), content_bytes=400).why == "no_usage"
    assert cost(prices, "acme", "known", Usage(), request_bytes=4000) == Cost(1_000_000, Pricing.ESTIMATED, "a-list", "7", "no_usage")
    assert cost(prices, "acme", "known", Usage(), content_bytes=0) == Cost(0, Pricing.EXACT, "a-list", "7")


@pytest.mark.parametrize("doubt", [NONSENSE, CONTRADICTION])
def test_a_usage_that_cannot_be_so_is_never_exact(prices: PriceList, doubt: str) -> None:
    """What is left of it counts, and of a side of which nothing is left the bytes."""
    told = Usage(input_tokens=1000, output_tokens=50, doubt=doubt)
    assert cost(prices, "acme", "known", told) == Cost(1_200_000, Pricing.ESTIMATED, "a-list", "7", doubt)
    no_input = Usage(output_tokens=50, doubt=doubt)
    assert cost(prices, "acme", "known", no_input, request_bytes=4000) == Cost(1_200_000, Pricing.ESTIMATED, "a-list", "7", doubt)
    no_output = Usage(input_tokens=1000, doubt=doubt)
    assert cost(prices, "acme", "known", no_output, content_bytes=400) == Cost(1_400_000, Pricing.ESTIMATED, "a-list", "7", doubt)


def test_nothing_is_learned_of_a_usage_that_cannot_be_so(prices: PriceList) -> None:
    for _ in range(100):
        cost(prices, "acme", "known", Usage(input_tokens=4000, output_tokens=400, doubt=NONSENSE))
    assert cost(prices, "acme", "known", None).nano_usd == 1_400_000


@pytest.mark.parametrize(
    ("usage", "sizes", "nano_usd"),
    [
        (Usage(output_tokens=50), {"request_bytes": 4000}, 1_200_000),
        (Usage(input_tokens=1000), {"content_bytes": 400}, 1_400_000),
    ],
    ids=["no input", "no output"],
)
def test_a_side_of_which_nothing_was_told_is_estimated(prices: PriceList, usage: Usage, sizes: dict[str, int], nano_usd: int) -> None:
    assert cost(prices, "acme", "known", usage, **sizes) == Cost(nano_usd, Pricing.ESTIMATED, "a-list", "7", "half_told")


def test_what_has_no_output_by_its_nature_is_exact_without(prices: PriceList) -> None:
    vectors = cost(prices, "acme", "known", Usage(input_tokens=1000), content_bytes=9000, asked={"operation": "embeddings"})
    assert vectors == Cost(1_000_000, Pricing.EXACT, "a-list", "7")


def test_an_error_that_tells_zeros_costs_nothing(prices: PriceList) -> None:
    failed = cost(prices, "acme", "known", Usage(), request_bytes=4000, error_type="server_error")
    assert (failed.nano_usd, failed.pricing) == (0, Pricing.EXACT)


@pytest.mark.parametrize("usage", [Usage(input_tokens=MOST_TOKENS + 1, output_tokens=1), Usage(input_tokens=1, reasoning_tokens=2**32)])
def test_more_tokens_than_any_model_takes_are_not_believed(prices: PriceList, usage: Usage) -> None:
    """A budget must not be emptied by one number in an answer."""
    assert cost(prices, "acme", "known", usage) == Cost(1_400_000, Pricing.ESTIMATED, "a-list", "7", "nonsense")
    most = Usage(input_tokens=MOST_TOKENS, output_tokens=1)
    assert cost(prices, "acme", "known", most).pricing is Pricing.EXACT


def test_what_was_learned_from_told_usages_is_used_where_none_came(prices: PriceList) -> None:
    for _ in range(100):
        cost(prices, "acme", "known", Usage(input_tokens=2000, output_tokens=200), request_bytes=4000, content_bytes=400)
    found = cost(prices, "acme", "known-2027", None, request_bytes=4000, content_bytes=400)
    assert found.nano_usd == pytest.approx(2_800_000, rel=0.02)


@pytest.mark.parametrize("asked", [{"previous_response": "r1"}, {"conversation": "c1"}, {"unbounded": ("files",)}])
def test_nothing_is_learned_of_requests_that_say_only_a_part_of_the_input(prices: PriceList, asked: dict[str, object]) -> None:
    for _ in range(50):
        cost(prices, "acme", "known", Usage(input_tokens=4000, output_tokens=100), asked=asked)
    assert cost(prices, "acme", "known", None).nano_usd == 1_400_000


def test_an_estimate_of_the_input_ends_at_the_context_window_and_of_the_output_at_its_bound(prices: PriceList) -> None:
    assert cost(prices, "acme", "small", None, request_bytes=10**7, content_bytes=0).nano_usd == 500_000
    bounded = cost(prices, "acme", "known", None, request_bytes=0, content_bytes=10**6, asked={"max_tokens": 10, "choices": 2})
    assert bounded.nano_usd == 80_000


def test_what_could_not_be_read_is_estimated_from_the_body(prices: PriceList) -> None:
    unread = cost(
        prices,
        "acme",
        "known",
        None,
        is_unreadable=True,
        content_bytes=0,
        request_bytes=0,
        answered_bytes=6400,
        asked={"streams": True},
    )
    assert (unread.nano_usd, unread.why) == (400_000, "unreadable")
    assert (
        cost(prices, "acme", "known", None, is_unreadable=True, content_bytes=0, request_bytes=0, answered_bytes=400).nano_usd
        == 400_000
    )


def test_numbers_of_an_embedding_are_no_output(prices: PriceList) -> None:
    asked = ModelAsked("openai", "embeddings", provider="acme", model="known")
    answered = ModelAnswered(is_ended=True, content_bytes=10**6)
    found = prices.cost(asked, answered, host="", at_ns=NOW, request_bytes=4000, answered_bytes=10**6)
    assert (found.nano_usd, found.pricing) == (1_000_000, Pricing.ESTIMATED)


# --- cut, failed, never sent ---


def test_a_cut_stream_costs_the_larger_of_what_was_told_and_what_was_seen(prices: PriceList) -> None:
    begun = Usage(input_tokens=1000, cache_read_tokens=1000, output_tokens=1)  # as Anthropic's message_start
    found = cost(prices, "acme", "known", begun, is_ended=False, content_bytes=400)
    assert found == Cost(1_000_000 + 100_000 + 400_000, Pricing.ESTIMATED, "a-list", "7", "cut")
    late = Usage(input_tokens=1000, output_tokens=500, reasoning_tokens=100)
    assert cost(prices, "acme", "known", late, is_ended=False, content_bytes=400).nano_usd == 1_000_000 + 2_400_000
    assert begun.output_tokens == 1, "what the reader told stays as it is"


def test_a_stream_that_ends_with_an_error_after_content_is_estimated_whatever_usage_it_had_told(prices: PriceList) -> None:
    told = Usage(input_tokens=1000, output_tokens=1)
    found = cost(prices, "acme", "known", told, error_type="overloaded_error")
    assert found.pricing is Pricing.ESTIMATED
    assert found.nano_usd > cost(prices, "acme", "known", told).nano_usd
    assert cost(prices, "acme", "known", told, error_type="overloaded_error", content_bytes=0).pricing is Pricing.EXACT


def test_a_stream_that_was_cut_before_anything_came_costs_its_input(prices: PriceList) -> None:
    found = cost(prices, "acme", "known", None, is_ended=False, content_bytes=0)
    assert (found.nano_usd, found.pricing, found.why) == (1_000_000, Pricing.ESTIMATED, "cut")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503, 529])
def test_nobody_bills_an_error(prices: PriceList, status: int) -> None:
    for provider in ("acme", "vllm"):
        assert cost(prices, provider, "known", None, status=status, content_bytes=0) == Cost(0, Pricing.EXACT, why="not_billed")


@pytest.mark.parametrize("status", [204, 205, 301, 302, 303, 304, 307, 308])
def test_an_answer_in_which_nothing_can_have_been_made_costs_exactly_nothing(prices: PriceList, status: int) -> None:
    for is_ended in (True, False):
        found = cost(prices, "acme", "known", None, status=status, content_bytes=0, is_ended=is_ended)
        assert found == Cost(0, Pricing.EXACT, why="not_billed")
    assert cost(prices, "acme", "known", USED, status=status).nano_usd == 1_400_000, "who tells a usage is believed"


def test_an_error_under_status_200_is_not_billed_unless_something_was_produced(prices: PriceList) -> None:
    assert cost(prices, "acme", "known", None, error_type="overloaded_error", content_bytes=0).why == "not_billed"
    assert cost(prices, "acme", "known", None, error_type="overloaded_error", content_bytes=400).nano_usd == 1_400_000
    assert cost(prices, "acme", "known", USED, error_type="overloaded_error").nano_usd == 1_400_000


@pytest.mark.parametrize(
    ("status", "why"), [(400, "may_be_billed"), (408, "may_be_billed"), (429, "not_billed"), (500, "not_billed")]
)
def test_azure_may_bill_what_its_filter_refused(prices: PriceList, status: int, why: str) -> None:
    found = cost(prices, "azure.ai.openai", "known", None, status=status, content_bytes=0)
    assert (found.why, found.nano_usd) == (why, 1_000_000 if why == "may_be_billed" else 0)


def test_without_an_answer_the_input_may_be_billed_and_what_was_never_sent_is_not(prices: PriceList) -> None:
    assert unanswered(prices, 0) == Cost(0, Pricing.EXACT, why="nothing_sent")
    assert unanswered(prices, 4000) == Cost(1_000_000, Pricing.ESTIMATED, "a-list", "7", "no_answer")
    assert unanswered(prices, 4000, provider="vllm").pricing is Pricing.UNPRICED


# --- rules ---


def test_a_rule_comes_before_the_list_and_its_edition_is_told() -> None:
    prices = rules(RuleSpec(provider="acme", model="known*", input=Dollars.read("2"), output=Dollars.read("2")))
    assert cost(prices, "acme", "known", USED) == Cost(2_200_000, Pricing.EXACT, "overlay", "ours-3")
    assert cost(prices, "acme", "small", USED).source == "a-list"


def test_a_rule_may_name_the_requested_model_the_lists_name_of_a_provider_or_a_host() -> None:
    for rule in (
        RuleSpec(model="my-deployment", input=Dollars.read("2"), output=Dollars.read("2")),
        RuleSpec(model="*", provider="azure", input=Dollars.read("2"), output=Dollars.read("2")),
        RuleSpec(model="*", provider="*.internal", input=Dollars.read("2"), output=Dollars.read("2")),
    ):
        found = cost(rules(rule), "azure.ai.openai", "my-deployment", USED, answers_as="known", host="llm.internal:8000")
        assert found.nano_usd == 2_200_000


def test_rules_work_without_a_list() -> None:
    free = PriceList(PricesSpec(rules=(RuleSpec(provider="ollama", model="*", free=True),)))
    assert cost(free, "ollama", "llama3", None) == Cost(0, Pricing.EXACT, "overlay", "", "free")


def test_other_rules_count_from_now_on_and_what_was_learned_stays(prices: PriceList) -> None:
    for _ in range(100):
        cost(prices, "acme", "known", Usage(input_tokens=2000, output_tokens=200))
    before = cost(prices, "acme", "known", None)
    prices.reconfigure(PricesSpec(rules=(RuleSpec(model="small", free=True),)))
    assert cost(prices, "acme", "small", USED).why == "free"
    assert cost(prices, "acme", "known", None) == before


def test_absurd_counts_break_nothing(prices: PriceList) -> None:
    found = cost(prices, "acme", "known", Usage(input_tokens=10**400, output_tokens=10**400))
    assert (found.nano_usd, found.why) == (1_400_000, "nonsense")
    assert cost(prices, "acme", "known", Usage(input_tokens=10**400), is_ended=False).why == "cut"


def test_made_up_names_take_bounded_memory(prices: PriceList) -> None:
    for number in range(3000):
        cost(prices, "acme", f"made-up-{number}", USED)
    assert len(prices._known) == 1024
    assert cost(prices, "acme", "known", USED).pricing is Pricing.EXACT

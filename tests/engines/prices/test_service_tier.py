import pytest

from sidecar.engines.prices.service_tier import price_context, service_tier


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        ("", ""), ("default", ""), ("standard", ""), ("STANDARD", ""), ("auto", ""), ("on_demand", ""), ("on-demand", ""),
        ("ON_DEMAND", ""), ("Priority", "priority"), ("ON_DEMAND_PRIORITY", "priority"), ("flex", "flex"),
        ("on_demand_flex", "flex"), ("batch", "batch"), (" fast ", "fast"), ("scale", "scale"),
        ("PROVISIONED_THROUGHPUT", "provisioned_throughput"), ("x" * 5000, "x" * 32),
    ],
)  # fmt: skip
def test_every_name_of_a_tier_becomes_one(told: str, tier: str) -> None:
    assert service_tier(told) == tier


def test_a_tier_is_asked_for_by_the_keys_that_lists_have_for_it() -> None:
    assert price_context("batch") == {"processing": "batch"}
    assert price_context("fast") == {"service_tier": "fast", "speed": "fast"}
    assert price_context("flex") == {"service_tier": "flex"}
    assert price_context("") == {"service_tier": "default"}

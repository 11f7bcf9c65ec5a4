from sidecar.model.cost import NANO_USD, Cost, Pricing


def test_a_dollar_has_a_thousand_million_nano_dollars() -> None:
    assert Cost(NANO_USD, Pricing.EXACT).nano_usd == 1_000_000_000


def test_unpriced_is_a_state_of_its_own() -> None:
    assert Cost(0, Pricing.UNPRICED) != Cost(0, Pricing.EXACT)
    assert [str(state) for state in Pricing] == ["exact", "estimated", "unpriced"]

import pytest

from sidecar.dialects.well_known import is_card, is_certain, is_public_card


@pytest.mark.parametrize(
    ("path", "is_public", "is_one"),
    [
        ("/.well-known/agent-card.json", True, True),
        ("/agents/one/.well-known/agent.json", True, True),
        ("/a/extendedAgentCard", False, True),
        ("/agent/authenticatedExtendedCard", False, True),
        ("/v1/card", False, True),
        ("/.well-known/agent-card.json/more", False, False),
        ("/agent-card.json", False, False),
        ("/card", False, False),
        ("/notExtendedAgentCard", False, False),
    ],
)
def test_a_card_is_told_by_the_end_of_its_path(path: str, is_public: bool, is_one: bool) -> None:
    assert (is_public_card(path), is_card(path)) == (is_public, is_one)


def test_one_of_the_paths_may_be_anybodys() -> None:
    assert not is_certain("/a/v1/card")
    assert is_certain("/a/extendedAgentCard")

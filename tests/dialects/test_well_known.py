import pytest

from sidecar.dialects.well_known import is_card


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/.well-known/agent-card.json", True),
        ("/agents/one/.well-known/agent.json", True),
        ("/.well-known/agent-card.json/more", False),
        ("/agent-card.json", False),
    ],
)
def test_a_card_is_told_by_the_end_of_its_path(path: str, is_one: bool) -> None:
    assert is_card(path) is is_one

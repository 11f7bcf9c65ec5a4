import json
from typing import Any

import pytest

from sidecar.dialects.cohere.questions import read
from sidecar.dialects.dialect import Heading, Unreadable
from sidecar.model.asked import ModelAsked


def ask(provider: str = "", **body: Any) -> ModelAsked:
    return read("cohere", "chat", Heading("POST", "/v2/chat", provider=provider), json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000], ids=["empty", "list", "bytes", "deep"])
def test_a_body_that_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read("cohere", "chat", Heading("POST", "/v2/chat"), body)


def test_members_of_the_wrong_type_lose_only_themselves() -> None:
    told = ask(model=7, stream="yes", max_tokens=-3, temperature="hot", seed=3, tools=[{"function": {"name": "f"}}, 9, {}])
    assert (told.model, told.streams, told.max_tokens, told.parameters, told.tools) == ("", False, 0, (("seed", 3),), ("f", ""))


def test_an_image_that_stands_elsewhere_keeps_the_cost_from_having_a_bound() -> None:
    def message(url: str) -> Any:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    assert ask(messages=message("https://example.org/a.png")).unbounded == ("urls",)
    assert ask(messages=message("data:image/png;base64,AAAA")).unbounded == ()


def test_lists_and_names_have_bounds() -> None:
    told = ask(model="m" * 999, stop_sequences=["s" * 999] * 99, tools=[{"name": "n" * 999}] * 5_000)
    assert (len(told.model), len(told.tools), len(told.tools[0])) == (256, 1024, 256)
    assert told.parameters == (("stop_sequences", ("s" * 256,) * 16),)


def test_the_provider_of_the_config_counts() -> None:
    assert ask(provider="gateway").provider == "gateway"
    assert ask().provider == "cohere"

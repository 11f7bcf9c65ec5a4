import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import openai
from sidecar.dialects.dialect import Heading
from sidecar.dialects.openai.asked import OpenAiAsked
from sidecar.dialects.openai.familiar import Familiar
from sidecar.model.asked import ModelAsked

SAID = [{"role": "user", "content": "hello"}]


def body(messages: Any = SAID, **more: Any) -> bytes:
    return json.dumps({"model": "gpt-5", "messages": messages, **more}).encode()


def heading(deployment: str = "") -> Heading:
    path = f"/openai/deployments/{deployment}/chat/completions" if deployment else "/v1/chat/completions"
    return Heading("POST", path, host="api.openai.com")


def familiar(*bodies: bytes) -> Familiar[ModelAsked]:
    known = Familiar[ModelAsked]()
    for each in bodies:
        known.keep(known.around(each), ModelAsked("openai", "chat"))
    return known


def test_a_request_is_known_again_by_what_stands_around_its_messages() -> None:
    known = familiar(body(temperature=0.5))
    again = [*SAID, {"role": "assistant", "content": "hi"}]
    assert known.find(known.around(body(again, temperature=0.5))) == ModelAsked("openai", "chat")
    assert known.find(known.around(body(again, temperature=0.6))) is None


@pytest.mark.parametrize(
    "unlike",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"messages":',
        b"[" * 5000,
        body([{"role": "user", "content": [{"type": "text", "text": "x"}]}]),
        body([{"role": "user", "content": "a list: [1]"}]),
        b'{"user":"[{\\"role\\":\\"user\\",\\"content", "metadata":[{"role": "user", "content": 1}],"messages":'
        + json.dumps(SAID).encode()
        + b"}",
        body([{"role": "user", "content": "x" * 70_000}]),
    ],
    ids=["empty", "cut", "list", "none", "cut-messages", "deep", "parts", "bracket", "begins-alike", "long"],
)
def test_what_cannot_go_by_that_is_left_to_be_read(unlike: bytes) -> None:
    assert Familiar[ModelAsked]().around(unlike) == b""


def test_the_oldest_of_many_goes_and_a_large_one_is_not_kept() -> None:
    bodies = [body(seed=seed) for seed in range(17)]
    known = familiar(*bodies)
    assert known.find(known.around(bodies[0])) is None
    assert all(known.find(known.around(each)) is not None for each in bodies[1:])
    large = body(user="x" * 5000)
    known.keep(known.around(large), ModelAsked("openai", "chat"))
    assert known.find(known.around(large)) is None


def test_who_puts_something_new_into_each_request_is_not_looked_up_for_ever() -> None:
    known = Familiar[ModelAsked]()
    for number in range(64):
        assert known.find(known.around(body(user=str(number)))) is None
    assert [known.around(body()) for _ in range(1024)] == [b""] * 1024
    for number in range(8):
        assert known.find(known.around(body(user=str(number)))) is None
    assert known.around(body()) == b""


def test_a_known_request_now_and_then_keeps_the_others_looked_up() -> None:
    known = familiar(body())
    for number in range(200):
        assert known.find(known.around(body())) is not None
        assert known.find(known.around(body(user=str(number)))) is None
    assert known.around(body()) != b""


def whole(asked: OpenAiAsked) -> tuple[object, ...]:
    """All of it, with what plays no part in a comparison."""
    return asked, asked.bounds, asked.lacks_options, asked.takes_options


TEXTS = st.text(max_size=20)
PARTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}),
        st.just({"type": "image_url", "image_url": {"url": "https://x.test/1.png"}}),
        st.just({"type": "file", "file": {"file_id": "f"}}),
    ),
    max_size=2,
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": TEXTS, "content": st.one_of(TEXTS, PARTS, st.none())}), max_size=3)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans(),
        "max_tokens": st.integers(-5, 5),
        "temperature": st.sampled_from([0, 1.5, None, "x"]),
        "tools": st.sampled_from([[], [{"type": "function", "function": {"name": "f"}}], [{"type": "web_search"}], SAID]),
        "metadata": st.sampled_from([SAID, {"messages": SAID}, "messages"]),
    },
)


NEW = itertools.count(1)


@given(st.lists(st.tuples(MESSAGES, MORE, st.booleans()), min_size=1, max_size=4))
def test_what_is_known_again_says_what_reading_it_anew_would_say(asked: list[tuple[Any, Any, bool]]) -> None:
    shared = heading()
    for messages, more, is_last in asked:
        written = {"model": "m", **more, "messages": messages} if is_last else {"messages": messages, "model": "m", **more}
        data = json.dumps(written).encode()
        read_anew = openai.request("chat", shared, b" " * next(NEW) + data)
        assert whole(openai.request("chat", shared, data)) == whole(read_anew)


def test_two_heads_that_mean_the_same_know_the_same_requests() -> None:
    def of(provider: str) -> Heading:
        return Heading("POST", "/v1/chat/completions", provider=provider)

    first = openai.request("chat", of("two.heads"), body())
    assert openai.request("chat", of("two.heads"), body([])) is first
    assert openai.request("chat", of("another"), body([])) is not first

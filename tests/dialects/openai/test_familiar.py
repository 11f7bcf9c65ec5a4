import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import openai
from sidecar.dialects.dialect import Heading
from sidecar.dialects.openai.asked import OpenAiAsked
from sidecar.dialects.openai.familiar import Around, Familiar
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
        known.keep(around(known, each), ModelAsked("openai", "chat"))
    return known


def around(known: Familiar[ModelAsked], body: bytes) -> Around:
    found = known.around(body)
    assert found is not None
    return found


def test_a_request_is_known_again_by_what_stands_around_its_messages() -> None:
    known = familiar(body(temperature=0.5))
    again = [*SAID, {"role": "assistant", "content": "hi"}]
    assert known.find(around(known, body(again, temperature=0.5))) == ModelAsked("openai", "chat")
    assert known.find(around(known, body(again, temperature=0.6))) is None


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
        body("text"),
        body(None),
        body({"role": "user", "content": "x"}),
        body([{"role": "user", "content": {"type": "image_url", "image_url": {"url": "http://x.test"}}}]),
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"[]m","messages":[]}',
        b'{"\\u006dessages":[{"role":"user","content":"x"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"\\u006dessages":[]}',
        b'{"user":"[{\\"role\\":\\"user\\",\\"content", "metadata":[{"role": "user", "content": 1}],"messages":'
        + json.dumps(SAID).encode()
        + b"}",
        body([{"role": "user", "content": "x" * 70_000}]),
    ],
    ids=[
        "empty", "cut", "list", "none", "cut-messages", "deep", "parts", "a-text", "null", "an-object", "object-content", "no-utf8", "half-a-pair",
        "found-in-the-model", "escaped-name", "escaped-twin", "begins-alike", "long",
    ],

)
def test_what_cannot_go_by_that_is_left_to_be_read(unlike: bytes) -> None:
    assert Familiar[ModelAsked]().around(unlike) is None


def test_the_oldest_of_many_goes_and_a_large_one_is_not_kept() -> None:
    bodies = [body(seed=seed) for seed in range(17)]
    known = familiar(*bodies)
    assert known.find(around(known, bodies[0])) is None
    assert all(known.find(around(known, each)) is not None for each in bodies[1:])
    large = body(user="x" * 5000)
    known.keep(around(known, large), ModelAsked("openai", "chat"))
    assert known.find(around(known, large)) is None


def test_who_puts_something_new_into_each_request_is_not_looked_up_for_ever() -> None:
    known = Familiar[ModelAsked]()
    for number in range(64):
        assert known.find(around(known, body(user=str(number)))) is None
    assert [known.around(body()) for _ in range(1024)] == [None] * 1024
    for number in range(8):
        assert known.find(around(known, body(user=str(number)))) is None
    assert known.around(body()) is None


def test_a_known_request_now_and_then_keeps_the_others_looked_up() -> None:
    known = familiar(body())
    for number in range(200):
        assert known.find(around(known, body())) is not None
        assert known.find(around(known, body(user=str(number)))) is None
    assert known.around(body()) is not None


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
STRANGE = st.sampled_from([None, "x", {}, [], [None], ["x"], [[]], {"role": "user", "image_url": "http://x.test"}])
MESSAGES = STRANGE | st.lists(st.fixed_dictionaries({"role": TEXTS, "content": st.one_of(TEXTS, PARTS, st.none(), st.just({"image_url": {"url": "http://x.test"}}), st.just(5))}), max_size=3)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans(),
        "max_tokens": st.integers(-5, 5),
        "temperature": st.sampled_from([0, 1.5, None, "x"]),
        "tools": st.sampled_from([[], [{"type": "function", "function": {"name": "f"}}], [{"type": "web_search"}], SAID]),
        "model": st.sampled_from(["[]m", "m[]", "m", "null", "nullm"]),
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

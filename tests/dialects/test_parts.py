import pytest

from sidecar.dialects.parts import (
    MOST_MESSAGES,
    MOST_PARTS,
    Written,
    bounded,
    called,
    located,
    modality_of,
    responded,
    role_of,
    said,
    stored,
    texts_of,
)  # fmt: skip
from sidecar.model.content import Content, Kind, Message, Part
from tests.dialects.shown import part_of, shown


@pytest.mark.parametrize(
    ("told", "role"),
    [("developer", "system"), ("MODEL", "assistant"), ("CHATBOT", "assistant"), ("function", "tool"), ("?", "user"), ("", "user")],
)
def test_a_role_is_a_word_of_the_schema(told: str, role: str) -> None:
    assert role_of(told) == role
    assert role_of("?", "assistant") == "assistant"


def test_texts_calls_and_responses() -> None:
    assert [part_of(part) for part in said("a") + said("") + said(7) + said("b", Kind.REASONING)] == ["a", "(b)"]
    assert [part_of(part) for part in texts_of([{"text": "a"}, 7, {"text": ""}, {"image": 1}])] == ["a"]
    assert texts_of("a") == []
    assert part_of(called("i" * 999, "f", {"a": 1})) == 'f({"a":1})#' + "i" * 256
    assert (part_of(called("", "f", '{"a')), part_of(called("", "f", None))) == ('f({"a)#', "f()#")
    assert [part_of(responded("1", each)) for each in ("x", {"a": 1}, [{"text": "a"}, {"text": "b"}], [{"a": 1}], [], None)] == [
        "=>x#1", '=>{"a":1}#1', "=>a\nb#1", '=>[{"a":1}]#1', "=>[]#1", "=>#1",
    ]  # fmt: skip


def test_media_have_a_kind_and_a_place_and_no_bytes() -> None:
    assert [modality_of(each) for each in ("image/png", "audio/wav", "application/pdf", "")] == ["image", "audio", "document", "document"]
    assert located("DATA:image/png;base64,AAAA") == Part(Kind.BLOB, modality="image", mime_type="image/png")
    assert located("data:,x", "image", "image/gif") == Part(Kind.BLOB, modality="image", mime_type="image/gif")
    assert located("https://x.example/" + "a" * 9999, "image").text.startswith("https://x.example/a")
    assert len(located("https://x.example/" + "a" * 9999, "image").text) == 2048
    assert stored("f", "image") == Part(Kind.FILE, "f", modality="image")


def test_a_message_that_comes_in_pieces_has_its_parts_in_the_order_in_which_they_began() -> None:
    written = Written()
    written.say("t", "")
    written.say("r", "Hm", Kind.REASONING)
    written.say("t", "a")
    written.call("c", "1", "f", '{"a"')
    written.say("t", "b")
    written.call("c", "", "", ":1}")
    written.add("p", located("https://x.example/a", "image"))
    written.finish("")
    written.finish("stop")
    assert shown(written.messages()) == ['assistant: (Hm) | ab | f({"a":1})#1 | <https://x.example/a image> [stop]']
    assert shown(written.messages()) == shown(written.messages())
    assert Written().messages() == []


def test_of_more_than_the_bounds_something_is_left_out_and_it_is_said() -> None:
    parts = [Part(Kind.TEXT, str(number)) for number in range(MOST_PARTS + 1)]
    content = Content(list(parts), [Message("user", [parts[0]]), Message("user", list(parts))] * MOST_MESSAGES)
    bounded(content)
    assert content.is_cut
    assert (len(content.instructions), len(content.input)) == (MOST_PARTS, MOST_MESSAGES)
    assert [len(message.parts) for message in content.input[-2:]] == [1, MOST_PARTS]
    assert not bounded(Content(input=[Message("user", parts[:3])])).is_cut


def test_a_stream_of_very_many_parts_has_bounds() -> None:
    written = Written()
    for number in range(10_000):
        written.say(number, "x")
        written.call(("c", number), "", "f", "x")
    content = bounded(Content(output=written.messages()))
    assert (len(content.output[0].parts), content.is_cut) == (MOST_PARTS, True)

"""What was said, before anybody writes it: the shapes that dialects fill."""

from sidecar.model.content import Content, Kind, Message, Part
from sidecar.model.dialogue import Dialogue
from tests.telemetry.dialogues import chat


def test_kinds_of_parts_are_words_of_the_conventions() -> None:
    assert {*Kind} == {"text", "reasoning", "tool_call", "tool_call_response", "blob", "file", "uri"}


def test_nothing_is_shared_between_two_of_a_kind() -> None:
    first, second = Content(), Content()
    first.input.append(Message("user"))
    first.input[0].parts.append(Part(Kind.TEXT, "hello"))
    assert (second.input, Message("user").parts) == ([], [])


def test_a_dialogue_has_no_content_unless_it_was_collected() -> None:
    assert chat().content is None
    assert Dialogue(chat().asked).content is None


def test_content_knows_how_much_it_holds() -> None:
    empty = Content().size_bytes()
    said = Content(
        instructions=[Part(Kind.TEXT, "a" * 1000)],
        input=[Message("user", [Part(Kind.TEXT, "\N{GRINNING FACE}" * 1000), Part(Kind.TOOL_CALL, json=b"x" * 1000)])],
        tools=b"t" * 1000, arguments=b"a" * 1000, result=b"r" * 1000,
    )  # fmt: skip
    assert 9 * 1000 + 4 * empty < said.size_bytes() < 9 * 1000 + 10 * empty

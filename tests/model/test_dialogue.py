from sidecar.model.answered import ModelAnswered, ToolCall
from sidecar.model.asked import Asked, McpAsked, ModelAsked
from sidecar.model.content import Content
from sidecar.model.dialogue import Dialogue


def test_a_dialogue_may_have_a_question_only() -> None:
    said = Dialogue(Asked("d", "o"))
    assert (said.answered, said.cost, said.unread, said.edits, said.skipped) == (None, None, "", (), ())


def test_what_is_large_is_let_go_and_who_was_called_stays() -> None:
    said = Dialogue(McpAsked("mcp", "tools/call", target="add", arguments=b"{}"))
    said.forget()
    assert said.asked == McpAsked("mcp", "tools/call", target="add")
    told = Dialogue(ModelAsked("openai", "chat"), ModelAnswered(tool_calls=[ToolCall("1", "add", b"{}")]))
    told.forget()
    assert told.answered == ModelAnswered(tool_calls=[ToolCall("1", "add")])


def test_what_was_said_word_by_word_is_the_attempts_alone() -> None:
    said = Dialogue(Asked("d", "o"), unread="cut")
    assert said.without_content() is said
    told = Dialogue(Asked("d", "o"), unread="cut", content=Content())
    assert (told.without_content(), told.without_content().asked is told.asked) == (said, True)
    told.forget()
    assert told.content == Content()

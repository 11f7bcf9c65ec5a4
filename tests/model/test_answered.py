from sidecar.model.answered import A2aAnswered, Answered, McpAnswered, ModelAnswered


def test_nothing_is_shared_between_answers() -> None:
    one, other = ModelAnswered(), ModelAnswered()
    one.finish_reasons.append("stop")
    assert other.finish_reasons == []
    assert other.usage is None, "no usage is not the same as none used"


def test_every_answer_begins_with_nothing_seen() -> None:
    for kind in (Answered, ModelAnswered, McpAnswered, A2aAnswered):
        answered = kind()
        assert (answered.is_ended, answered.content_bytes, answered.error_type, answered.is_unreadable) == (False, 0, "", False)

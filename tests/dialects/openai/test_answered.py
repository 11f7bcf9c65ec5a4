from sidecar.dialects.openai.answered import OpenAiAnswered


def test_the_first_id_and_the_last_model_count() -> None:
    answered = OpenAiAnswered()
    answered.tell(None, "", None)
    answered.tell("a", "m1", None)
    answered.tell("b", "m2", "flex")
    assert (answered.id, answered.model, answered.service_tier) == ("a", "m2", "flex")


def test_names_are_cut() -> None:
    answered = OpenAiAnswered()
    answered.tell("a" * 999, "m" * 999, "t" * 999)
    answered.finish(0, "r" * 999)
    assert {len(each) for each in (answered.id, answered.model, answered.service_tier, *answered.finish_reasons)} == {256}


def test_reasons_stand_in_the_order_of_the_choices() -> None:
    answered = OpenAiAnswered()
    for choice, reason in ((2, None), (1, "stop"), (0, None), (2, "length"), (0, "tool_calls"), (0, None)):
        answered.finish(choice, reason)
    assert answered.finish_reasons == ["tool_calls", "stop", "length"]


def test_choices_are_bounded() -> None:
    answered = OpenAiAnswered()
    for choice in range(1000):
        answered.finish(choice, "stop")
    assert len(answered.finish_reasons) == len(answered.finished) == 128

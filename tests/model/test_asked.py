from sidecar.model.asked import A2aAsked, Asked, McpAsked, ModelAsked


def test_what_is_not_told_is_harmless() -> None:
    for kind in (Asked, ModelAsked, McpAsked, A2aAsked):
        asked = kind("d", "o")
        assert (asked.dialect, asked.operation, asked.streams, asked.is_standing) == ("d", "o", False, False)
    assert ModelAsked("d", "o").tells_usage, "nothing has to be added for a call that is not read"

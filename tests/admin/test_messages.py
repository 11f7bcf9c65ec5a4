"""Calls and answers as plain values."""

import json

from sidecar.admin.messages import Call, told


def test_a_target_falls_into_path_and_query() -> None:
    call = Call(method="GET", target="/a%2Fb?x=1?y", local="127.0.0.1")
    assert (call.path, call.query, call.over_unix) == ("/a%2Fb", "x=1?y", False)
    assert Call(method="GET", target="/").query == ""
    assert Call(method="GET", target="/").over_unix


def test_fields_of_one_name_are_kept_apart_and_joined() -> None:
    call = Call(method="GET", target="/", headers=(("accept", "a/b"), ("host", "x"), ("accept", "c/d")))
    assert call.values("accept") == ["a/b", "c/d"]
    assert call.value("accept") == "a/b, c/d"
    assert call.value("origin") == ""


def test_an_answer_in_json_ends_its_line_and_shows_what_json_does_not_know_as_text() -> None:
    answer = told({"path": b"x", "name": "\ud800"}, status=202, headers={"Allow": "GET"})
    assert (answer.status, answer.content_type, answer.headers) == (202, "application/json", {"Allow": "GET"})
    assert answer.body.endswith(b"}\n")
    assert json.loads(answer.body)["path"] == "b'x'"

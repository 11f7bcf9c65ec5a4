import json

import pytest

from sidecar.dialects import plain
from sidecar.dialects.dialect import Clamp, Heading, Unreadable
from sidecar.model.answered import Answered
from sidecar.model.asked import Asked
from sidecar.model.errors import CODES, Refused


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_a_body_that_says_what_to_do(code: str) -> None:
    told = json.loads(plain.error(Refused(code), None).body)["error"]
    meaning = CODES[code]
    assert told == {
        "code": code,
        "message": f"{code}: {meaning.advice}",
        "fault": meaning.fault.value,
        "retry": meaning.retry,
        "advice": meaning.advice,
        "type": "sidecar_error",
    }


def test_what_exactly_was_wrong_is_the_message() -> None:
    told = json.loads(plain.error(Refused("route_unknown", "/opneai/v1/models"), None).body)["error"]
    assert told["message"] == "route_unknown: /opneai/v1/models"
    assert told["advice"] == CODES["route_unknown"].advice


def test_text_that_is_no_unicode_does_not_break_the_answer() -> None:
    told = json.loads(plain.error(Refused("bad_target", "/caf\udce9"), None).body)["error"]
    assert told["message"] == "bad_target: /caf?"


def test_it_knows_no_request_and_changes_none() -> None:
    heading = Heading("POST", "/v1/chat/completions")
    assert plain.operation(heading) == ""
    with pytest.raises(Unreadable):
        plain.request("", heading, b"{}")
    with pytest.raises(Unreadable):
        plain.edit(Asked("plain", ""), b"{}", Clamp(1))
    assert plain.takes_out(Asked("plain", ""), Clamp(1)) is None
    assert plain.content(Asked("plain", ""), b"{}", b"{}", "application/json") is None
    assert plain.ending(Asked("plain", ""), Answered(), "stopped") == b""


def test_its_reader_notes_the_end_and_nothing_else() -> None:
    reader = plain.reader(Asked("plain", ""), 200, "text/plain", {})
    reader.feed(b"{")
    assert reader.answered == Answered()
    reader.end()
    assert reader.answered == Answered(is_ended=True)

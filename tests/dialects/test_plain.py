import json

import pytest

from sidecar.dialects import plain
from sidecar.model.errors import CODES, Refused


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_a_body_that_says_what_to_do(code: str) -> None:
    told = json.loads(plain.error(Refused(code)))["error"]
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
    told = json.loads(plain.error(Refused("route_unknown", "/opneai/v1/models")))["error"]
    assert told["message"] == "route_unknown: /opneai/v1/models"
    assert told["advice"] == CODES["route_unknown"].advice


def test_text_that_is_no_unicode_does_not_break_the_answer() -> None:
    told = json.loads(plain.error(Refused("bad_target", "/caf\udce9")))["error"]
    assert told["message"] == "bad_target: /caf?"

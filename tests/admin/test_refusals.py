"""Errors of the admin API: one form, and a row for each code that the sources name."""

import json
import re
from pathlib import Path

import pytest

import sidecar.admin
from sidecar.admin.refusals import ADMIN_CODES, AdminRefused


@pytest.mark.parametrize("code", ADMIN_CODES)
def test_every_code_says_what_to_do(code: str) -> None:
    answer = AdminRefused(code, "because").answer()
    assert answer.status == ADMIN_CODES[code].status >= 400
    assert json.loads(answer.body) == {"error": code, "detail": "because", "advice": ADMIN_CODES[code].advice}
    assert ADMIN_CODES[code].advice.endswith(".")


def test_an_error_may_say_more_and_bring_headers() -> None:
    answer = AdminRefused("config_invalid", "1 fault", headers={"Allow": "GET"}, more={"faults": [1]}).answer()
    assert answer.headers == {"Allow": "GET"}
    assert json.loads(answer.body)["faults"] == [1]


def test_no_code_is_unused() -> None:
    folder = Path(sidecar.admin.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "refusals.py")
    assert {code for code in ADMIN_CODES if not re.search(rf'"{code}"', sources)} == set()

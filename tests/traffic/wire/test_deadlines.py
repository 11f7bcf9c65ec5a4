"""Who is silent is who is told so: a table of every state of a call."""

from typing import Any

import pytest

from sidecar.traffic.wire.deadlines import overdue, undecided

BOUNDS = {"client_s": 1.0, "silence_s": 2.0, "first_byte_s": 3.0}
WAITING: dict[str, Any] = {
    "client_is_full": False, "has_answered": False, "is_uploading": False, "is_held_back": False, "is_sent": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "limit_s", "code"),
    [
        ({}, 3.0, "first_byte_timeout"),
        ({"has_answered": True}, 2.0, "idle_timeout"),
        ({"has_answered": True, "client_is_full": True}, 1.0, "client_stalled"),
        ({"is_uploading": True}, 1.0, "body_timeout"),
        ({"is_uploading": True, "is_held_back": True}, 2.0, "idle_timeout"),
    ],
)
def test_each_silence_has_its_own_bound_and_code(state: dict[str, Any], limit_s: float, code: str) -> None:
    assert overdue(limit_s, **{**WAITING, **state}, **BOUNDS) is None
    fault = overdue(limit_s + 0.001, **{**WAITING, **state}, **BOUNDS)
    assert fault is not None
    assert fault.code == code


def test_a_call_that_waits_for_something_else_is_left_alone() -> None:
    assert overdue(1e9, **{**WAITING, "is_sent": False}, **BOUNDS) is None


DECIDING: dict[str, Any] = {"client_is_full": False, "is_uploading": False, "client_s": 1.0, "policy_s": 5.0}


@pytest.mark.parametrize(
    ("quiet_s", "thinking_s", "state", "code"),
    [
        (9.0, 5.0, {}, ""),
        (9.0, 5.1, {}, "policy_timeout"),
        (0.0, 5.1, {}, "policy_timeout"),
        (1.0, 0.0, {"client_is_full": True}, ""),
        (1.1, 0.0, {"client_is_full": True}, "client_stalled"),
        (1.0, 0.0, {"is_uploading": True}, ""),
        (1.1, 0.0, {"is_uploading": True}, "body_timeout"),
    ],
)
def test_while_policies_think_nobody_but_they_and_the_client_are_late(
    quiet_s: float, thinking_s: float, state: dict[str, Any], code: str
) -> None:
    fault = undecided(quiet_s, thinking_s, **{**DECIDING, **state})
    assert (fault.code if fault is not None else "") == code

import pytest

from sidecar.dialects.a2a.states import RESTING, STATES, UNSPECIFIED, named


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_INPUT_REQUIRED"),
        ("input-required", "TASK_STATE_INPUT_REQUIRED"),
        ("TASK_STATE_CANCELLED", "TASK_STATE_CANCELED"),
        ("unknown", UNSPECIFIED),
        ("3", "TASK_STATE_COMPLETED"),
        ("0", UNSPECIFIED),
        ("9", ""),
        ("33", ""),
        ("-1", ""),
        ("²", ""),
        ("finished", ""),
        ("", ""),
    ],
)
def test_a_state_has_one_name_whatever_it_was_called(told: str, expected: str) -> None:
    assert named(told) == expected


def test_a_resting_state_is_known_by_the_name_of_1_0() -> None:
    assert set(STATES.values()) >= RESTING

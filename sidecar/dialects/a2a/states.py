"""
The states of a task by every name that versions and bindings have for them.

Sources: https://a2a-protocol.org/v1.0.0/specification and v0.3.0 (TaskState); a2a.proto of both.
"""

UNSPECIFIED = "TASK_STATE_UNSPECIFIED"
_STATES = ("SUBMITTED", "WORKING", "COMPLETED", "FAILED", "CANCELED", "INPUT_REQUIRED", "REJECTED", "AUTH_REQUIRED")
_BY_NUMBER = (UNSPECIFIED, *(f"TASK_STATE_{state}" for state in _STATES))
STATES: dict[str, str] = {
    **{state: state for state in _BY_NUMBER},
    **{state.lower().replace("_", "-"): f"TASK_STATE_{state}" for state in _STATES},
    "unknown": UNSPECIFIED,
    "cancelled": "TASK_STATE_CANCELED",
    "TASK_STATE_CANCELLED": "TASK_STATE_CANCELED",
}
"""Each state by every name that it has: of 1.0, of 0.3 (`input-required`), and of the protocol buffers of 0.3 (CANCELLED)."""

RESTING = frozenset(f"TASK_STATE_{state}" for state in _STATES) - {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
"""Terminal and interrupted states: nothing more comes on this stream."""


def named(told: str) -> str:
    """Return the name that 1.0 has for a state; JSON of protocol buffers may give its number. "" where it is none."""
    if told.isdecimal():
        return _BY_NUMBER[int(told)] if len(told) == 1 and int(told) < len(_BY_NUMBER) else ""
    return STATES.get(told, "")

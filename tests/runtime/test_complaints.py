import logging

import pytest

from sidecar.model.clock import ManualClock
from sidecar.runtime.complaints import Complaints


def test_the_same_complaint_is_logged_once_a_minute_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(monotonic=100.0)
    complaints = Complaints("exporters.x", clock, logging.getLogger("test"))
    for _ in range(3):
        complaints.log("full", "the queue is full")
    clock.advance(60)
    complaints.log("full", "the queue is full")
    complaints.log("late", "too late")
    assert caplog.messages == [
        "exporters.x: the queue is full",
        "exporters.x: the queue is full (2 more like this before)",
        "exporters.x: too late",
    ]


def test_a_complaint_whose_cause_went_away_is_logged_at_once_when_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints("x", ManualClock(), logging.getLogger("test"))
    complaints.log("failing", "no")
    complaints.log("failing", "no")
    complaints.clear("failing")
    complaints.log("failing", "no")
    assert caplog.messages == ["x: no", "x: no"]

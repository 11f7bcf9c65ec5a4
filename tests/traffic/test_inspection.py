"""One request, read; how it goes on in the end is shown in wire/test_inspected.py."""

from typing import Any

import pytest

from sidecar.model.asked import ModelAsked
from sidecar.model.change import Clamp
from sidecar.model.errors import Refused
from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.facts import Mode, Passage, Purpose
from sidecar.traffic.inspection import KEPT_BYTES, Inspection, without_coding
from tests.traffic.test_inspector import inspector
from tests.traffic.wire import parrot

PASSAGE = Passage("http", "", Mode.GATEWAY, "POST", "http", "h", 80, "/say", "/say", "", "", "", "", Purpose.LIVE)
NO_LISTENER: Any = None


def exchange() -> Exchange:
    return Exchange(PASSAGE, 0, 0, b"t" * 16, b"s" * 8, b"", 1, b"")


def test_the_exchange_is_told_what_is_asked() -> None:
    inspection, subject = Inspection(inspector()), exchange()
    inspection.begin(NO_LISTENER, subject, b"hello")
    assert subject.asked is inspection.asked
    assert isinstance(subject.asked, ModelAsked)
    assert inspection.most_bytes == 1000


def test_what_is_too_large_has_no_record_that_could_be_changed() -> None:
    inspection, subject = Inspection(inspector()), exchange()
    inspection.begin(NO_LISTENER, subject, None)
    attempt = Attempt(subject, PASSAGE, b"a" * 8, 0)
    transcript = inspection.open(attempt, int, 9.0)
    assert transcript is not None
    assert (transcript.unread, transcript.body, attempt.change(Clamp(1))) == ("too_large", None, "too_large")
    assert attempt.idle_timeout_s == 0.0


def test_a_change_after_a_large_body_has_gone_is_as_harmless_as_any_that_comes_late() -> None:
    body = b"x" * (KEPT_BYTES + 1)
    inspection, subject = Inspection(inspector()), exchange()
    inspection.begin(NO_LISTENER, subject, body)
    attempt = Attempt(subject, PASSAGE, b"a" * 8, 0)
    transcript = inspection.open(attempt, int, 9.0)
    assert transcript is not None
    transcript.is_sent = True
    assert attempt.change(Clamp(1)) == "sent"
    inspection.sent(transcript)
    assert (transcript.body, attempt.change(Clamp(1))) == (None, "sent")
    assert (transcript.edits, transcript.skipped) == ((), ())


def test_a_standing_stream_may_be_silent_from_its_very_beginning() -> None:
    inspection, subject = Inspection(inspector()), exchange()
    inspection.begin(NO_LISTENER, subject, b"hello")
    assert subject.asked is not None
    subject.asked.is_standing = True
    attempt = Attempt(subject, PASSAGE, b"a" * 8, 0)
    inspection.open(attempt, int, 9.0)
    assert (attempt.first_byte_timeout_s, attempt.idle_timeout_s) == (9.0, 9.0)


def test_two_attempts_at_once_do_not_share_their_changes() -> None:
    inspection, subject = Inspection(inspector()), exchange()
    inspection.begin(NO_LISTENER, subject, b"hello")
    one, other = (Attempt(subject, PASSAGE, b"a" * 8, 0) for _ in range(2))
    first, second = inspection.open(one, int, 9.0), inspection.open(other, int, 9.0)
    assert first is not None
    assert second is not None
    assert one.change(Clamp(1)) == other.change(Clamp(2)) == ""
    assert (first.body, second.body) == (b"hello max=1", b"hello max=2")


def test_an_attempt_that_nobody_reads_cannot_be_changed() -> None:
    assert Attempt(exchange(), PASSAGE, b"a" * 8, 0).change(Clamp(1)) == "unread"


def test_errors_are_said_in_the_dialect_once_the_request_has_been_read() -> None:
    inspection = Inspection(inspector())
    assert inspection.error(Refused("stopped")).content_type == "application/json"
    inspection.begin(NO_LISTENER, exchange(), b"hello")
    assert inspection.error(Refused("stopped")).content_type == "text/parrot"


def test_a_dialect_that_cannot_say_an_error_leaves_it_to_plain_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    inspection = Inspection(inspector())
    inspection.begin(NO_LISTENER, exchange(), b"hello")
    monkeypatch.setattr(parrot, "error", fails)
    assert inspection.error(Refused("stopped")).content_type == "application/json"
    assert "ZeroDivisionError" in caplog.text


def test_the_codings_of_a_head_are_replaced_wherever_they_stand() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\naccept-ENCODING: gzip, br\r\nVia: 1.1 x\r\n\r\n"
    assert without_coding(head) == head.replace(b" gzip, br", b" identity")
    bare = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert without_coding(bare) == bare

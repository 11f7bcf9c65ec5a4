import json

from sidecar.dialects.bedrock.streams import BedrockAnswered, FrameReader, event, tell_error
from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.eventstream import Frames, frame


def reader() -> tuple[FrameReader, list[tuple[str, bytes]]]:
    heard: list[tuple[str, bytes]] = []

    def hear(kind: str, payload: bytes) -> None:
        heard.append((kind, payload))
        if payload == b"no":
            raise Unreadable("no")

    return FrameReader(BedrockAnswered(), hear), heard


def test_events_are_told_and_counted() -> None:
    frames, heard = reader()
    frames.feed(event("a", b"1") + event("b", b"2"))
    assert heard == [("a", b"1"), ("b", b"2")] and frames.answered.events == 2


def test_an_event_that_cannot_be_read_spoils_the_answer_and_not_those_after_it() -> None:
    frames, heard = reader()
    frames.feed(event("a", b"no") + event("b", b"2"))
    assert len(heard) == 2 and frames.answered.is_unreadable
    frames.answered.is_stopped = True
    frames.end()
    assert not frames.answered.is_ended


def test_damage_makes_the_answer_unreadable() -> None:
    frames, heard = reader()
    frames.feed(event("a", b"1") + bytes(20))
    assert len(heard) == 1 and frames.answered.is_unreadable and not frames.answered.is_between


def test_an_exception_without_a_readable_body_keeps_its_name() -> None:
    frames, _ = reader()
    frames.feed(frame({":message-type": "exception", ":exception-type": "x" * 300}, b"no JSON"))
    assert frames.answered.error_type == "x" * 256
    assert frames.answered.is_ended and frames.answered.is_unreadable


def test_frames_without_a_name_mean_nothing() -> None:
    frames, heard = reader()
    frames.feed(frame({}, b"{}") + frame({":message-type": "event"}, b"{}"))
    assert heard == [] and frames.answered.events == 2 and not frames.answered.error_type


def test_messages_have_a_bound() -> None:
    answered = BedrockAnswered()
    tell_error(answered, "", json.dumps({"__type": "a#" + "b" * 999, "message": "c" * 999}).encode())
    assert (len(answered.error_type), len(answered.error_message)) == (256, 512)


def test_an_event_is_written_as_bedrock_does() -> None:
    expected = {":event-type": "metadata", ":content-type": "application/json", ":message-type": "event"}
    assert Frames().feed(event("metadata", b"{}")) == [(expected, b"{}")]

from sidecar.model.answered import A2aAnswered, Answered
from sidecar.model.asked import A2aAsked, Asked
from sidecar.traffic.grpc.reading import ask, operation_of, plainly, reader_of

SEND = "/lf.a2a.v1.A2AService/SendMessage"


def test_a2a_is_read_and_others_are_counted() -> None:
    assert (operation_of(SEND), operation_of("/grpc.health.v1.Health/Check")) == ("SendMessage", "")
    asked, unread = ask("SendMessage", SEND, b"\x0a\x04acme")
    assert isinstance(asked, A2aAsked)
    assert (asked.tenant, unread) == ("acme", "")
    assert isinstance(reader_of(asked).answered, A2aAnswered)


def test_what_is_no_message_of_a2a_passes_unread() -> None:
    asked, unread = ask("SendMessage", SEND, b"\x0a\x04ac")
    assert (asked, unread) == (Asked("grpc", SEND[1:]), "unreadable")


def test_a_method_is_named_by_its_path_within_a_bound() -> None:
    assert plainly("/a.B/C") == Asked("grpc", "a.B/C")
    assert len(plainly("/" + "x" * 1000).operation) == 256


def test_messages_that_nobody_reads_are_counted() -> None:
    reader = reader_of(plainly("/a.B/C"))
    reader.feed(b"abc")
    reader.feed(b"")
    assert reader.answered == Answered(content_bytes=3, events=2)
    reader.fail(5, "NOT_FOUND", "x" * 1000, b"")
    assert (reader.answered.error_type, len(reader.answered.error_message)) == ("NOT_FOUND", 512)
    reader.end()
    assert reader.answered.is_ended

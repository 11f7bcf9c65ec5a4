"""A bounded copy of what a reader reads."""

from sidecar.traffic.copying import MOST_BYTES, CopyingReader
from tests.traffic.wire.parrot import Ears


def test_what_is_read_is_kept_and_read() -> None:
    ears = Ears()
    copy = CopyingReader(ears, "text/plain")
    copy.feed(b"one ")
    copy.feed(b"two")
    copy.end()
    assert (copy.kept, copy.is_cut, copy.content_type) == (b"one two", False, "text/plain")
    assert copy.answered is ears.answered
    assert (ears.heard, ears.answered.is_ended) == (b"one two", True)


def test_of_more_than_the_bound_the_beginning_stays() -> None:
    ears = Ears()
    copy = CopyingReader(ears, "")
    copy.feed(b"a" * (MOST_BYTES - 1))
    assert not copy.is_cut
    copy.feed(b"bc")
    copy.feed(b"d")
    assert copy.kept == b"a" * (MOST_BYTES - 1) + b"b"
    assert copy.is_cut
    assert len(ears.heard) == MOST_BYTES + 2

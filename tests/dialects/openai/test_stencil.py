import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects.openai.stencil import Stencil
from sidecar.model.answered import Answered

PLAIN = b'{"id":"x","choices":[{"delta":{"content":"%s"}}],"usage":null}'
PADDED = b'{"id":"x","choices":[{"delta":{"content": "%s"}}],"obfuscation":"%s"}'
NUMBERED = b'{"type":"response.output_text.delta","sequence_number":%d,"delta":"%s","obfuscation":"%s"}'


def framed(data: bytes, name: bytes = b"") -> bytes:
    return (b"event: " + name + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def taught(data: bytes, length: int, name: bytes = b"") -> Stencil:
    stencil = Stencil()
    stencil.learn(name, data, length, 1)
    return stencil


def taken(stencil: Stencil, data: bytes) -> tuple[int, int, int]:
    answered = Answered()
    return stencil.take(data, answered), answered.events, answered.content_bytes


def test_who_was_taught_nothing_knows_nothing() -> None:
    for stencil in (Stencil(), taught(PLAIN % b"a", 0), taught(PLAIN % b"a", 2), taught(b'{"a":"b"}', 1)):
        assert taken(stencil, framed(PLAIN % b"a")) == (0, 0, 0)
        assert taken(stencil, b"") == (0, 0, 0)
        assert not stencil.knows(b"", PLAIN % b"a", Answered())


@pytest.mark.parametrize("text", [b"", b"b", b" hello", "Grüße".encode(), b"{}:,"])
def test_another_text_in_the_same_place_is_counted(text: bytes) -> None:
    event = framed(PLAIN % text)
    assert taken(taught(PLAIN % b"a", 1), event) == (len(event), 1, len(text))
    event = framed(PADDED % (text, b"xyz"))
    assert taken(taught(PADDED % (b"a", b""), 1), event) == (len(event), 1, len(text))
    event = framed(NUMBERED % (17, text, b"q"), b"response.output_text.delta")
    stencil = taught(NUMBERED % (4, b"a", b"zz"), 1, b"response.output_text.delta")
    assert taken(stencil, event) == (len(event), 1, len(text))
    answered = Answered()
    assert stencil.knows(b"response.output_text.delta", NUMBERED % (5, text, b""), answered)
    assert (answered.events, answered.content_bytes) == (1, len(text))


@pytest.mark.parametrize(
    "event",
    [
        framed(PLAIN % b'\\"'),
        framed(PLAIN % b"a\nb"),
        framed(PLAIN % b"a\rb"),
        framed(PLAIN % b'a","x":"'),
        framed(PLAIN.replace(b"null", b"{}") % b"a"),
        framed(PLAIN % b"a")[:-1],
        framed(PLAIN % b"a", b"name"),
        framed(PLAIN % b"a").replace(b"\n\n", b"\n:\n"),
        b"\n" + framed(PLAIN % b"a"),
        b"data: [DONE]\n\n",
    ],
    ids=range(10),
)
def test_anything_else_is_left_to_others(event: bytes) -> None:
    assert taken(taught(PLAIN % b"a", 1), event) == (0, 0, 0)


def test_events_that_come_together_are_counted_up_to_the_first_other_one() -> None:
    stencil = taught(PLAIN % b"a", 1)
    known = framed(PLAIN % b"ab") + framed(PLAIN % b"cde")
    assert taken(stencil, known) == (len(known), 2, 5)
    assert taken(stencil, known + b"data: [DONE]\n\n") == (len(known), 2, 5)
    assert taken(stencil, known + framed(PLAIN % b"x")[:-2]) == (len(known), 2, 5)


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"delta":{"content":"a","text":""}}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"model":"\\u0061"}',
        b'{"choices":[{"delta":{"content":"a"}}],\n"model":"x"}',
        b'{"choices":[{"delta":{"content":"a"}}],"model":"' + b"x" * 5000 + b'"}',
    ],
    ids=["two", "escapes", "lines", "long"],
)
def test_what_is_ambiguous_or_out_of_the_common_teaches_nothing(data: bytes) -> None:
    assert taken(taught(data, 1), framed(data)) == (0, 0, 0)


def test_a_stream_that_always_differs_is_seldom_looked_at() -> None:
    stencil = Stencil()
    lessons = []
    for number in range(800):
        stencil.learn(b"", b'{"created":%d,"content":"a"}' % number, 1, number)
        lessons.append(stencil._lessons)
    assert lessons[-1] <= 800 // 8 + 5


def test_what_is_forgotten_is_not_known() -> None:
    stencil = taught(PLAIN % b"a", 1)
    stencil.forget()
    assert taken(stencil, framed(PLAIN % b"a")) == (0, 0, 0)


@given(st.binary(max_size=60), st.integers(1, 60), st.binary(max_size=30))
def test_any_bytes_are_looked_at_without_harm(noise: bytes, length: int, lesson: bytes) -> None:
    stencil = taught(PLAIN % b"a", 1)
    stencil.learn(b"", lesson, length, 1000)
    stencil.learn(b"", b'{"content":"' + lesson, length, 1000)
    done, events, content = taken(stencil, noise)
    assert done <= len(noise) and content <= len(noise) and (events > 0) == (done > 0)


def test_an_event_in_two_pieces_is_known_when_the_second_has_come() -> None:
    stencil, answered = Stencil(), Answered()
    event = b'data: {"choices":[{"delta":{"content":"abc"}}]}\n\n'
    stencil.learn(b"", event[6:-2], 3, 1)
    for cut in range(1, len(event)):
        before = answered.events
        assert stencil.left(event + event[:cut], answered) == b""
        assert answered.events == before + 1
        assert stencil.left(event[cut:] + event, answered) == b""
        assert answered.events == before + 3


def test_what_waits_for_its_end_is_short() -> None:
    stencil, answered = Stencil(), Answered()
    piece = b"data: " + b"x" * 1000
    assert stencil.left(piece, answered) == b""
    assert stencil.left(piece, answered) == b""
    assert stencil.left(piece, answered) == 3 * piece
    assert stencil.left(b"data: 1\n\n", answered) == b"data: 1\n\n"

import httptools
import pytest

from sidecar.model.errors import Refused, UpstreamFailed
from sidecar.traffic.wire.mending import mend_request, mend_response

FAULT = httptools.HttpParserError("said so")
START = b"HTTP/1.1 200 OK"


def test_an_unknown_method_is_left_as_it_is() -> None:
    lines = [b"BREW /pot HTTP/1.1", b"Host: a"]
    assert mend_request(list(lines)) == lines


@pytest.mark.parametrize("method", [b"", b"GE(T", b"G\xe9T", b"GET\x00", b"G@T", b'G"T'])
def test_a_method_that_is_no_token_is_refused(method: bytes) -> None:
    with pytest.raises(Refused) as caught:
        mend_request([method + b" / HTTP/1.1"])
    assert caught.value.code == "bad_request_line"


@pytest.mark.parametrize("target", [b"", b"/a\x00b", b"/a\tb", b"/\x7f", b"/a\rb"])
def test_a_target_with_a_control_character_is_refused(target: bytes) -> None:
    with pytest.raises(Refused) as caught:
        mend_request([b"BREW " + target + b" HTTP/1.1"])
    assert caught.value.code == "bad_target"


@pytest.mark.parametrize(
    "lengths",
    [(b"Content-Length: 5", b"content-length:5"), (b"Content-Length: 5, 5",), (b"CONTENT-LENGTH: 5 ,\t5", b"Content-Length:  5")],
)
def test_equal_lengths_become_one_at_the_place_of_the_first(lengths: tuple[bytes, ...]) -> None:
    first, *others = lengths
    assert mend_request([b"POST / HTTP/1.1", b"A: 1", first, b"B: 2", *others]) == [
        b"POST / HTTP/1.1", b"A: 1", b"Content-Length: 5", b"B: 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lengths", [(b"Content-Length: 5", b"Content-Length: 6"), (b"Content-Length: 5, 05",), (b"Content-Length: 5,",)]
)
def test_lengths_that_differ_are_not_touched(lengths: tuple[bytes, ...]) -> None:
    lines = [b"POST / HTTP/1.1", *lengths]
    assert mend_request(list(lines)) == lines


def test_a_folded_line_becomes_one() -> None:
    assert mend_response([START, b"A: 1", b"  2", b"\t3 ", b"B: 4"], FAULT) == [START, b"A: 1 2 3", b"B: 4"]


def test_a_fold_with_nothing_before_it_stays_a_fault() -> None:
    with pytest.raises(UpstreamFailed) as caught:
        mend_response([START, b" A: 1"], FAULT)
    assert caught.value.code == "upstream_malformed"
    assert caught.value.detail == "said so"


def test_space_before_a_responses_colon_is_taken_out() -> None:
    assert mend_response([START, b"A : 1", b"B\t: 2"], FAULT) == [START, b"A: 1", b"B: 2"]


def test_a_responses_equal_lengths_become_one() -> None:
    assert mend_response([START, b"Content-Length : 5", b"Content-Length: 5"], FAULT) == [START, b"Content-Length: 5"]


def test_a_line_without_a_colon_is_left_to_the_judge() -> None:
    assert mend_response([START, b"nonsense"], FAULT) == [START, b"nonsense"]

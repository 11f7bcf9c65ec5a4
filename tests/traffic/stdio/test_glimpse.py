"""The two ends of a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.traffic.stdio.glimpse import Glimpse

BODY = b'{"content":[' + b"x" * 5000 + b"]}"


def seen(line: bytes, step: int = 1 << 16) -> int | float | str | None:
    glimpse = Glimpse()
    for at in range(0, len(line), step):
        glimpse.feed(line[at : at + step])
    assert glimpse.size == len(line)
    return glimpse.answers()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":%b}\n', 7),
        (b'{"id":"a-b","jsonrpc":"2.0","error":%b}\n', "a-b"),
        (b'{"result":%b,"jsonrpc":"2.0","id":-3}\r\n', -3),
        (b'{"result":%b,"id":"x","jsonrpc":"2.0"}', "x"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":%b}\n', None),
        (b'{"method":"m","params":%b,"jsonrpc":"2.0","id":7}\n', None),
        (b'{"result":{"a":%b,"id":7}}\n', None),
        (b'{"result":%b,"id":null}\n', None),
        (b'{"jsonrpc":"2.0","id":{},"result":%b}\n', None),
        (b'{"jsonrpc":"2.0","id":"' + b"x" * 3000 + b'","result":%b}\n', None),
    ],
    ids=range(10),
)
def test_an_answer_shows_its_id_at_one_of_its_ends(line: bytes, found: object) -> None:
    for step in (1, 7, 4096, 1 << 16):
        assert seen(line % BODY, step) == found


@given(st.lists(st.binary(max_size=50)))
def test_whatever_comes_is_looked_at(pieces: list[bytes]) -> None:
    glimpse = Glimpse()
    for piece in pieces:
        glimpse.feed(piece)
    assert glimpse.answers() is None

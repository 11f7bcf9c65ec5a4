"""The live form for browsers: fields of server-sent events, each event ended by an empty line."""

import json

from sidecar.admin.events import ALIVE, BEGIN, DROPPED, event
from sidecar.admin.showing import shown_exchange
from tests.admin.seen import exchange_finished


def test_an_exchange_is_an_event_with_its_span_as_id() -> None:
    shown = shown_exchange(exchange_finished(4, agent="a\nb\r\nc"), [])
    name, span_id, data, *rest = event(shown).decode().split("\n")
    assert (name, span_id, rest) == ("event: exchange", f"id: {shown['span_id']}", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == shown


def test_whatever_is_sent_ends_with_an_empty_line() -> None:
    assert all(piece.endswith(b"\n\n") and piece.count(b"\n\n") == 1 for piece in (BEGIN, ALIVE, DROPPED))

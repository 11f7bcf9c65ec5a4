"""Two dialects in one, of which the body chooses."""

import pytest

from sidecar.dialects import a2a, mcp
from sidecar.dialects.dialect import Clamp, Dialect, Heading, IncludeUsage, Meta, Unreadable
from sidecar.dialects.either import Either
from sidecar.model.answered import A2aAnswered, Answered, McpAnswered
from sidecar.model.errors import Refused

EITHER: Dialect = Either([(mcp, "maybe"), (a2a, "message")])
HEADING = Heading("POST", "/rpc", fields={"content-type": "application/json", "accept": "application/json, text/event-stream"})
TOOL, SENT = b'{"id":1,"method":"tools/call","params":{"name":"t"}}', b'{"id":1,"method":"message/send"}'


def test_all_that_follows_is_the_dialects_whose_body_it_is() -> None:
    tool, sent = EITHER.request("maybe", HEADING, TOOL), EITHER.request("maybe", HEADING, SENT)
    assert (tool.dialect, sent.dialect) == ("mcp", "a2a")
    assert isinstance(EITHER.reader(tool, 200, "application/json", {}).answered, McpAnswered)
    assert isinstance(EITHER.reader(sent, 200, "application/json", {}).answered, A2aAnswered)
    assert EITHER.error(Refused("draining"), tool) == mcp.error(Refused("draining"), tool)
    assert EITHER.error(Refused("draining"), sent) == a2a.error(Refused("draining"), sent)
    assert EITHER.error(Refused("draining"), None) == mcp.error(Refused("draining"), None)
    assert EITHER.ending(tool, Answered(), "stopped") and not EITHER.ending(sent, Answered(), "stopped")
    assert b"00-p" in EITHER.edit(tool, TOOL, Meta(b"00-p"))
    with pytest.raises(Unreadable):
        EITHER.edit(sent, SENT, Clamp(1))
    assert EITHER.takes_out(sent, IncludeUsage()) is None
    assert EITHER.content(tool, TOOL, b"{}", "application/json") == mcp.content(tool, TOOL, b"{}", "application/json")


def test_the_head_is_what_the_first_makes_of_it() -> None:
    assert (EITHER.operation(HEADING), EITHER.name) == ("maybe", "mcp")


def test_what_none_can_read_is_unreadable() -> None:
    for body in (b"", b"[]", b'{"model":"m"}', b'{"id":1,"method":"eth_call"}'):
        with pytest.raises(Unreadable):
            EITHER.request("maybe", HEADING, body)

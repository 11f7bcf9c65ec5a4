"""Query strings: what they may say, and what they then let through."""

import pytest

from sidecar.admin.filter import MOST, Filter
from sidecar.admin.refusals import AdminRefused
from sidecar.model.answered import ModelAnswered
from sidecar.model.asked import ModelAsked
from sidecar.model.dialogue import Dialogue
from tests.admin.seen import exchange_finished, exchange_in_flight


def test_an_empty_query_is_everything_up_to_the_default() -> None:
    assert Filter.read("", limit=100) == Filter(limit=100)


def test_a_query_says_what_is_wanted() -> None:
    found = Filter.read("limit=5&agent=support%20bot&route=open%61i&status=5xx&state=finished", limit=100)
    assert found == Filter(limit=5, agent="support bot", route="openai", status="5xx", state="finished")


@pytest.mark.parametrize(
    "query",
    [
        "limit=", "limit=-1", "limit=513", "limit=1e2", "limit=٣", "limit=99999999999999999999", "status=6xx", "status=20",
        "status=ok",
        "state=dead", "colour=red", "limit=1&limit=2", "agent", "&&", "&".join(["agent=a"] * 20),
    ],
)  # fmt: skip
def test_a_query_that_says_something_else_is_refused(query: str) -> None:
    with pytest.raises(AdminRefused) as caught:
        Filter.read(query, limit=100)
    assert caught.value.code == "bad_query"


def test_the_limit_may_be_nothing_and_all() -> None:
    assert Filter.read("limit=0", limit=100).limit == 0
    assert Filter.read(f"limit={MOST}", limit=100).limit == MOST


@pytest.mark.parametrize(
    ("query", "status", "error", "matches"),
    [
        ("", 200, "", True), ("status=200", 200, "", True), ("status=200", 201, "", False), ("status=2xx", 204, "", True),
        ("status=4xx", 204, "", False), ("status=error", 404, "", True), ("status=error", 200, "", False),
        ("status=error", 200, "upstream_cut", True), ("status=error", 0, "client_gone", True),
        ("status=0", 0, "client_gone", True),
        ("status=0", 200, "", False), ("status=5xx", 0, "", False),
        ("agent=bot", 200, "", True), ("agent=other", 200, "", False), ("route=openai", 200, "", True),
        ("route=x", 200, "", False),
    ],
)  # fmt: skip
def test_a_filter_lets_through_what_was_asked_for(query: str, status: int, error: str, matches: bool) -> None:
    wanted = Filter.read(query, limit=100)
    assert wanted.matches(exchange_finished(status=status, error=error)) is matches
    assert wanted.matches(exchange_in_flight(status=status, error=error)) is matches


@pytest.mark.parametrize(
    ("answered", "matches"),
    [
        (ModelAnswered(is_ended=True), False), (ModelAnswered(error_type="server_error", is_ended=True), True),
        (ModelAnswered(content_bytes=5), True), (None, False),
    ],
    ids=["well", "an error in the answer", "no end", "no answer yet"],
)  # fmt: skip
def test_a_good_status_is_an_error_where_the_answer_is_one(answered: ModelAnswered | None, matches: bool) -> None:
    said = Dialogue(ModelAsked("openai", "chat", streams=True), answered)
    assert Filter.read("status=error", limit=100).matches(exchange_finished(dialogue=said)) is matches
    assert Filter.read("status=2xx", limit=100).matches(exchange_finished(dialogue=said))

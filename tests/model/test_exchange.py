import pytest

from sidecar.model.exchange import Attempt, Exchange, Outcome
from sidecar.model.facts import Mode, Passage, Purpose

PASSAGE = Passage(
    listener="http", client="127.0.0.1:50000", mode=Mode.FORWARD, method="GET", scheme="http", host="tools", port=80,
    path="/a?b", target="/a?b", upstream="", route="", agent="planner", task="", purpose=Purpose.LIVE,
)  # fmt: skip


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(PASSAGE, 1_000, 5, b"t" * 16, b"s" * 8, b"", 1, b"")


class Told:
    """A permit that writes down how it was settled, into a list that it shares with others."""

    def __init__(self, name: str, told: list[tuple[str, Outcome]]) -> None:
        self._name = name
        self._told = told

    def settle(self, outcome: Outcome) -> None:
        self._told.append((self._name, outcome))


class Broken:
    def __init__(self, message: str) -> None:
        self._message = message

    def settle(self, outcome: Outcome) -> None:
        raise RuntimeError(self._message)


def test_an_exchange_knows_what_its_passage_knows(exchange: Exchange) -> None:
    assert (exchange.agent, exchange.host, exchange.target) == ("planner", "tools", b"/a?b")


class Asked:
    """The head of a request, which the next request on its connection may share."""

    baggage = (b"k=v",)

    def __init__(self, *lines: bytes) -> None:
        self.lines = list(lines)


@pytest.mark.parametrize(
    ("length", "line", "shown"),
    [
        (7, b"Content-Length: 512", b"Content-Length: 7"),
        (512, b"content-LENGTH:512", b"content-LENGTH: 512"),
        (0, b"Content-Length: 5", b"Content-Length: 0"),
        (-2, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (0, b"A: 1", b"A: 1"),
    ],
)
def test_the_fields_have_the_length_of_their_own_request(exchange: Exchange, length: int, line: bytes, shown: bytes) -> None:
    exchange.head, exchange.length = Asked(b"POST / HTTP/1.1", line, b"B: 2"), length
    assert exchange.fields == [b"POST / HTTP/1.1", shown, b"B: 2"]
    assert exchange.baggage == (b"k=v",)
    exchange.fields.clear()
    assert exchange.head.lines == [b"POST / HTTP/1.1", line, b"B: 2"], "they are shared with the next request"


def test_permits_are_settled_last_taken_first_with_the_outcome_of_the_exchange(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []
    exchange.holds(Told("first", told))
    exchange.holds(Told("second", told))
    exchange.status, exchange.error, exchange.request_bytes, exchange.response_bytes = 200, "upstream_cut", 3, 4
    exchange.settle()
    outcome = Outcome(200, "upstream_cut", 3, 4)
    assert told == [("second", outcome), ("first", outcome)]


def test_permits_are_settled_exactly_once(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []
    exchange.holds(Told("only", told))
    exchange.settle()
    exchange.settle()
    assert [name for name, _ in told] == ["only"]


def test_a_broken_permit_does_not_keep_the_others_from_being_told(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []
    for permit in (Told("first", told), Broken("inner"), Told("second", told), Broken("outer")):
        exchange.holds(permit)
    with pytest.raises(RuntimeError, match="outer"):
        exchange.settle()
    assert [name for name, _ in told] == ["second", "first"]


def test_stop_tells_the_wire_once(exchange: Exchange) -> None:
    reasons: list[str] = []
    exchange.when_stopped(reasons.append)
    exchange.stop("kill switch")
    exchange.stop("again")
    assert (reasons, exchange.stopped) == (["kill switch"], "kill switch")


def test_stop_before_anybody_listens_is_not_lost(exchange: Exchange) -> None:
    reasons: list[str] = []
    exchange.stop("early")
    exchange.when_stopped(reasons.append)
    assert reasons == ["early"]


def test_stop_after_the_end_does_nothing(exchange: Exchange) -> None:
    reasons: list[str] = []
    exchange.when_stopped(reasons.append)
    exchange.settle()
    exchange.stop("late")
    assert (reasons, exchange.stopped) == ([], "")


def test_attempts_of_an_exchange_count_what_came_before_them(exchange: Exchange) -> None:
    attempts = [Attempt(exchange, PASSAGE, bytes([number]) * 8, 7) for number in range(3)]
    assert [attempt.resends for attempt in attempts] == [0, 1, 2]
    assert exchange.attempts == 3


def test_an_attempt_settles_its_own_permits_with_its_own_outcome(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []
    attempt = Attempt(exchange, PASSAGE, b"a" * 8, 7)
    attempt.holds(Told("first", told))
    attempt.holds(Told("second", told))
    exchange.holds(Told("of the exchange", told))
    attempt.status, attempt.sent_bytes, attempt.received_bytes = 503, 10, 20
    attempt.settle()
    attempt.settle()
    assert told == [("second", Outcome(503, "", 10, 20)), ("first", Outcome(503, "", 10, 20))]


def test_what_holds_nothing_settles_too(exchange: Exchange) -> None:
    attempt = Attempt(exchange, PASSAGE, b"a" * 8, 7)
    attempt.settle()
    exchange.settle()
    assert attempt.settled
    assert exchange.settled


def test_what_is_taken_after_the_end_is_settled_at_once(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []
    attempt = Attempt(exchange, PASSAGE, b"a" * 8, 0)
    attempt.status, attempt.error, attempt.sent_bytes = 503, "given_up", 7
    attempt.settle()
    attempt.holds(Told("late", told))
    assert told == [("late", Outcome(503, "given_up", 7, 0))]
    exchange.status, exchange.response_bytes = 200, 5
    exchange.settle()
    exchange.holds(Told("later", told))
    assert told[1:] == [("later", Outcome(200, "", 0, 5))]
    exchange.settle()
    attempt.settle()
    assert len(told) == 2


def test_what_a_permit_takes_while_it_is_settled_is_settled_too(exchange: Exchange) -> None:
    told: list[tuple[str, Outcome]] = []

    class Takes:
        def settle(self, outcome: Outcome) -> None:
            exchange.holds(Told("inner", told))

    exchange.holds(Takes())
    exchange.settle()
    assert [name for name, _ in told] == ["inner"]

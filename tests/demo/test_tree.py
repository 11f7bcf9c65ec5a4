import random

from sidecar.demo.tree import cost, destination, grow, lines, tokens, walk
from sidecar.terminal.screen import Screen, cells
from tests.demo.spans import AGENT_SPAN, ALONE, CHAT, REFUSED, SEND, TASK, demo, exchange, span


def labels(drawn: list[str]) -> list[str]:
    """The first column, as far as the kind of span."""
    return [line.partition("  SERVER")[0].partition("  CLIENT")[0].rstrip() for line in drawn[1:]]


def test_attempts_stand_below_exchanges_and_nested_agents_below_the_attempt_that_reached_them() -> None:
    assert labels(
        lines(grow([*exchange(TASK, 51, AGENT_SPAN, route="a2a", path="/a2a"), *exchange(TASK, 61, 52)]), Screen(200))
    ) == [
        f"trace {TASK.hex()}, 2 calls",
        f"└─ the agent's own span {AGENT_SPAN.hex()}",
        "   └─ POST a2a /a2a",
        "      └─ → 127.0.0.1:9",
        "         └─ POST llm /v1/chat/completions",
        "            └─ → 127.0.0.1:9",
    ]


def test_the_order_in_which_spans_were_exported_does_not_matter() -> None:
    spans = demo()
    expected = lines(grow(spans), Screen(200))
    for seed in range(5):
        random.Random(seed).shuffle(spans)
        assert lines(grow(spans), Screen(200)) == expected


def test_a_call_without_trace_context_is_a_trace_of_its_own() -> None:
    roots = grow(demo())
    assert [(root.span is None, sum(1 for _ in walk(root))) for root in roots] == [(False, 2), (True, 16)]
    drawn = labels(lines(roots, Screen(200)))
    assert drawn[:4] == [f"trace {ALONE.hex()}, 1 call", "└─ GET llm /v1/models", "   └─ → 127.0.0.1:9", ""]


def test_a_trace_with_several_roots_stays_together() -> None:
    spans = [*exchange(TASK, 1, AGENT_SPAN, at_ms=0), *exchange(ALONE, 3, b"", at_ms=1), *exchange(TASK, 5, b"otherspn", at_ms=2)]
    drawn = labels(lines(grow(spans), Screen(200)))
    assert [line for line in drawn if line.startswith(("trace", "├", "└"))] == [
        f"trace {TASK.hex()}, 2 calls",
        f"├─ the agent's own span {AGENT_SPAN.hex()}",
        f"└─ the agent's own span {b'otherspn'.hex()}",
        f"trace {ALONE.hex()}, 1 call",
        "└─ POST llm /v1/chat/completions",
    ]


def test_an_attempt_names_its_path_only_where_it_differs_from_the_exchanges() -> None:
    server, client = exchange(TASK, 1, AGENT_SPAN)
    client.attributes["url.full"] = "http://127.0.0.1:9/base/v1/chat/completions"
    assert labels(lines(grow([server, client]), Screen(200)))[-1] == "      └─ → 127.0.0.1:9/base/v1/chat/completions"
    client.attributes["url.full"] = "https://llm.test/other"
    assert labels(lines(grow([server, client]), Screen(200)))[-1] == "      └─ → https://llm.test/other"


def test_figures_of_a_call_stand_in_its_line() -> None:
    head, _, _, server, *_ = lines(grow(exchange(TASK, 1, AGENT_SPAN, lasts_ms=812, first_byte_ms=61.2, status=429)), Screen(200))
    assert head.split("  ")[0] == "call"
    assert server.split()[-9:] == ["812", "ms", "61.2", "ms", "400", "B", "2.0", "KiB", "trip-planner"]
    assert " 429 " in server


def test_a_call_that_was_read_is_named_by_what_it_asks_for() -> None:
    chat = lines(grow(exchange(TASK, 1, AGENT_SPAN, CHAT)), Screen(200))[-1]
    assert "→ chat demo-1 " in chat
    assert chat.split()[-3:] == ["10+42", "$0.000087", "trip-planner"]
    assert "→ SendMessage to packer " in lines(grow(exchange(TASK, 1, AGENT_SPAN, SEND)), Screen(200))[-1]
    assert " $0.00 " in lines(grow(exchange(TASK, 1, AGENT_SPAN, REFUSED)), Screen(200))[-1]


def test_an_estimate_and_a_call_without_price_say_so() -> None:
    guessed = span(TASK, 1, b"", "CLIENT", **{"sidecar.cost.usd": 0.5, "sidecar.cost.pricing": "estimated"})  # type: ignore[arg-type]
    assert cost(guessed) == "~$0.50"
    assert cost(span(TASK, 1, b"", "CLIENT", **{"sidecar.cost.pricing": "unpriced"})) == "unpriced"  # type: ignore[arg-type]
    assert tokens(span(TASK, 1, b"", "CLIENT", **{"gen_ai.usage.output_tokens": 3})) == "0+3"  # type: ignore[arg-type]


def test_a_call_without_an_answer_says_why() -> None:
    client = span(TASK, 2, 1, "CLIENT", status=0, first_byte_ms=0)
    drawn = lines(grow([client]), Screen())
    assert "connect_failed" in drawn[-1]


def test_colours_tell_good_from_bad() -> None:
    drawn = lines(grow([*exchange(TASK, 1, AGENT_SPAN), *exchange(TASK, 3, AGENT_SPAN, status=429)]), Screen(colour=True))
    assert "\x1b[32m   200" in drawn[3]
    assert "\x1b[31m   429" in drawn[5]


def test_a_screen_of_ascii_gets_a_tree_of_ascii() -> None:
    drawn = lines(grow(demo()), Screen(unicode=False))
    assert all(line.isascii() for line in drawn)
    assert drawn[3].startswith("   `- > 127.0.0.1:9 ")


def test_a_narrow_screen_keeps_call_status_and_duration_and_cost_as_long_as_it_can() -> None:
    drawn = lines(grow(demo()), Screen(60))
    assert drawn[0].split() == ["call", "status", "duration", "tokens", "cost"]
    assert max(cells(line) for line in drawn) <= 60
    assert lines(grow(demo()), Screen(34))[0].split() == ["call", "status", "duration"]


def test_a_destination_is_its_route_or_else_its_address() -> None:
    assert destination(span(TASK, 1, b"", "SERVER")) == "llm"
    assert destination(span(TASK, 1, b"", "SERVER", route="")) == "127.0.0.1:9"


def test_nothing_is_drawn_of_nothing() -> None:
    assert lines(grow([]), Screen())[1:] == []

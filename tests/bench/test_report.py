"""The bench's arithmetic and drawing, without a bench."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.bench.goals import ROWS, Goal
from tests.bench.hotspots import stack_table
from tests.bench.payload import REQUEST_BODY_BYTES, RESPONSE_BODY_BYTES, request_body, request_heads, response_body, stream_body
from tests.bench.report import (
    BEGIN,
    END,
    Rounds,
    markdown_table,
    publish,
    ratio,
    readme_block,
    summary,
    text_table,
    verdicts,
)
from tests.bench.streams import unchunked
from tests.bench.svg import picture

CPU = next(row for row in ROWS if row.key == "cpu_call_32_us")
MEMORY = next(row for row in ROWS if row.key == "rss_idle_bytes")
FAILED = next(row for row in ROWS if row.key == "failed")


def rounds_of(**values: list[float]) -> Rounds:
    """Rounds in which each subject had these CPU times a call."""
    count = len(next(iter(values.values())))
    return [{name: {CPU.key: numbers[index], "failed": 0.0} for name, numbers in values.items()} for index in range(count)]


def test_a_summary_is_median_least_and_greatest_in_the_rows_unit() -> None:
    rounds: Rounds = [{"sidecar": {MEMORY.key: mib * 1024 * 1024}} for mib in (50, 90, 40)]
    found = summary(rounds, "sidecar", MEMORY)
    assert found is not None
    assert (found.median, found.low, found.high) == (50, 40, 90)


def test_a_row_that_nobody_measured_has_no_summary_and_no_line() -> None:
    rounds = rounds_of(nginx=[15.0], sidecar=[30.0])
    assert summary(rounds, "nginx", MEMORY) is None
    assert summary(rounds, "envoy", CPU) is None
    assert MEMORY.title not in text_table(rounds)


def test_failures_of_all_rounds_add_up() -> None:
    rounds: Rounds = [{"sidecar": {"failed": count}} for count in (0, 2, 1)]
    found = summary(rounds, "sidecar", FAILED)
    assert found is not None
    assert found.median == 3
    assert not verdicts(rounds, FAILED)[0].is_reached


def test_a_ratio_is_that_of_the_medians_not_of_single_rounds() -> None:
    rounds = rounds_of(nginx=[10.0, 20.0, 12.0], sidecar=[40.0, 24.0, 30.0])
    assert ratio(rounds, CPU, "sidecar", "nginx") == pytest.approx(30 / 12)


def test_a_ratio_to_nothing_or_to_a_missing_peer_is_none() -> None:
    rounds = rounds_of(nginx=[0.0], sidecar=[24.0])
    assert ratio(rounds, CPU, "sidecar", "nginx") is None
    assert ratio(rounds, CPU, "sidecar", "envoy") is None


@pytest.mark.parametrize(("cpu_us", "reached"), [(37.5, True), (37.6, False)])
def test_a_goal_is_reached_up_to_its_limit(cpu_us: float, reached: bool) -> None:
    [found] = verdicts(rounds_of(nginx=[15.0], sidecar=[cpu_us]), CPU)
    assert found.goal == Goal(2.5, "nginx")
    assert found.is_reached is reached


def test_goals_without_a_peer_judge_the_number_itself() -> None:
    rounds: Rounds = [{"sidecar": {MEMORY.key: 65 * 1024 * 1024}}]
    [found] = verdicts(rounds, MEMORY)
    assert (found.value, found.is_reached) == (65, False)


def test_the_terminal_table_says_pass_and_names_what_was_missed() -> None:
    table = text_table(rounds_of(nginx=[15.0], sidecar=[30.0], envoy=[25.0]))
    [line] = [line for line in table.splitlines() if line.startswith(CPU.title)]
    assert "30.0 (30.0–30.0)" in line
    assert line.endswith("MISS 1.20 × envoy")
    assert "2.00" in line
    assert text_table(rounds_of(nginx=[15.0], sidecar=[30.0], envoy=[36.0])).splitlines()[1].endswith("pass")


def test_the_readme_table_has_the_peers_on_both_sides_of_us() -> None:
    lines = markdown_table(rounds_of(envoy=[36.0], nginx=[15.0], sidecar=[30.0])).splitlines()
    assert lines[0].startswith("| | nginx | sidecar | Envoy |")
    assert lines[2].split("|")[2:5] == [" 15.0 ", " 30.0 ", " 36.0 "]
    assert "0.83 × Envoy (≤ 1), 2.00 × nginx (≤ 2.5)" in lines[2]
    assert lines[2].endswith("| ✓ |")


def results_of(rounds: Rounds) -> dict[str, Any]:
    return {
        "taken": "2026-11-20T12:00:00Z",
        "rounds": rounds,
        "machine": {"cpu": "Processor", "cores": "2", "kernel": "6.18.1-generic"},
        "versions": {"python": "3.11.7", "nginx": "1.22.1", "envoy": "1.40.0", "wrk": "4.1.0", "sidecar": "0.1.0"},
    }


def test_the_readme_block_says_where_and_when() -> None:
    block = readme_block(results_of(rounds_of(nginx=[15.0], sidecar=[30.0], envoy=[36.0]))).replace("\n", " ")
    assert "1 interleaved round, 2026-11-20, on 2 cores of Processor, Linux 6.18.1, Python 3.11.7" in block
    assert "nginx 1.22.1, Envoy 1.40.0" in block


def test_publishing_rewrites_between_the_markers_only_and_can_be_repeated(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    publish(readme, "new\n")
    publish(readme, "new\n")
    assert readme.read_text() == f"# Before\n\n{BEGIN}\nnew\n{END}\n\nafter\n"


@pytest.mark.parametrize("text", ["no markers", BEGIN, f"{END} {BEGIN}"])
def test_publishing_without_markers_changes_nothing_and_says_so(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="bench:begin"):
        publish(readme, "new\n")
    assert readme.read_text() == text


def test_the_picture_is_well_formed_and_its_bars_are_to_scale() -> None:
    drawn = ElementTree.fromstring(picture(rounds_of(nginx=[15.0], sidecar=[30.0], envoy=[60.0])))
    bars = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("class") != "card"]
    widths = [float(one.get("width", "0")) for one in bars]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.1)
    assert widths[2] == pytest.approx(4 * widths[0], abs=0.1)
    assert [one.get("class") for one in bars] == ["peer", "ours", "peer"]
    assert float(drawn.get("height", "0")) > max(float(one.get("y", "0")) + 20 for one in bars)


def test_the_picture_has_a_card_of_its_own_in_light_and_in_dark() -> None:
    drawn = picture(rounds_of(nginx=[15.0], sidecar=[30.0]))
    assert 'class="card"' in drawn
    assert "prefers-color-scheme: dark" in drawn
    assert "Envoy" not in drawn


def test_bodies_have_the_sizes_that_the_table_names() -> None:
    assert len(request_body()) == len(request_body(stream=True)) == REQUEST_BODY_BYTES
    assert len(response_body()) == RESPONSE_BODY_BYTES
    assert not {b"'", b"$"} & {response_body()[i : i + 1] for i in range(RESPONSE_BODY_BYTES)}, "nginx's return would read them"


def test_every_head_carries_another_trace_and_none_when_untraced() -> None:
    heads = request_heads("/v1", "localhost", b"{}", traced=True, count=8)
    assert len({head.partition(b"traceparent: ")[2][:55] for head in heads}) == 8
    [head] = request_heads("/v1", "localhost", b"{}", traced=False)
    assert b"traceparent" not in head
    assert head.endswith(b"Content-Length: 2\r\n\r\n")


def chunked(*parts: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def test_a_stream_is_whole_however_it_was_chunked() -> None:
    expected = stream_body(3)
    assert expected.endswith(b"data: [DONE]\n\n")
    answers = [chunked(expected), chunked(expected[:50], expected[50:])]
    assert [unchunked(answer) for answer in answers] == [expected, expected]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        chunked(stream_body(3))[:-5],
        chunked(stream_body(2)),
        chunked(stream_body(3)).replace(b"200 OK", b"502 Bad Gateway"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_a_stream_that_lacks_anything_is_broken(answer: bytes) -> None:
    assert unchunked(answer) != stream_body(3)


def test_a_stack_table_shares_the_cost_of_a_call_out() -> None:
    waiting = "run (threading.py:1);_worker (concurrent/futures/thread.py:81) 90\n"
    table = stack_table(f"main (a.py:1);work (a.py:5) 3\nmain (a.py:2) 1\n{waiting}", 40.0)
    assert "  30.00   30.00  work (a.py)" in table
    assert "  10.00   40.00  main (a.py)" in table
    assert "_worker" not in table


def test_keys_of_rows_are_told_apart() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert all(row.title for row in ROWS)

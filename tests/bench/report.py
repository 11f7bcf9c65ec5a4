"""From the numbers of the rounds to medians, ratios, verdicts, and the tables that show them. Pure but for `publish`."""

import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.goals import ROWS, Goal, Row

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
OURS = "sidecar"
PEERS = ("nginx", "envoy")
Rounds = list[dict[str, dict[str, float]]]
"""One dictionary a round: subject → key of a measure → number."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, least and greatest of the rounds, in the unit of the row."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and how it went; `value` is the ratio to the peer, or the median itself where there is no peer."""

    goal: Goal
    value: float
    is_reached: bool


def summary(rounds: Rounds, subject: str, row: Row) -> Summary | None:
    """This subject's row over all rounds, None when no round has it."""
    values = [numbers[subject][row.key] * row.scale for numbers in rounds if row.key in numbers.get(subject, {})]
    if not values:
        return None
    middle = sum(values) if row.adds_up else statistics.median(values)
    return Summary(middle, min(values), max(values))


def ratio(rounds: Rounds, row: Row, subject: str, peer: str) -> float | None:
    """The subject's median ÷ the peer's, None where one of them is missing or the peer's is not positive."""
    ours, theirs = summary(rounds, subject, row), summary(rounds, peer, row)
    if ours is None or theirs is None or theirs.median <= 0:
        return None
    return ours.median / theirs.median


def verdicts(rounds: Rounds, row: Row, subject: str = OURS) -> list[Verdict]:
    """How the goals of a row went; those whose peer is missing are left out."""
    found = []
    ours = summary(rounds, subject, row)
    for goal in row.goals:
        value = ratio(rounds, row, subject, goal.peer) if goal.peer else None if ours is None else ours.median
        if value is not None:
            found.append(Verdict(goal, value, value <= goal.limit))
    return found


def subjects_of(rounds: Rounds) -> list[str]:
    """All columns, in the order in which they were measured."""
    return list(dict.fromkeys(name for numbers in rounds for name in numbers))


def text_table(rounds: Rounds) -> str:
    """The full table for a terminal: medians (least–greatest), ratios of medians, goals."""
    names = subjects_of(rounds)
    lines = [["", *names, *(f"× {peer}" for peer in PEERS if peer in names), "goal", ""]]
    for row in ROWS:
        cells = [_cell(summary(rounds, name, row), row) for name in names]
        if not any(cells):
            continue
        ratios = [_ratio_text(ratio(rounds, row, OURS, peer)) if not row.adds_up else "" for peer in PEERS if peer in names]
        judged = verdicts(rounds, row)
        goals = ", ".join(goal.text for goal in row.goals)
        lines.append([f"{row.title}, {row.unit}".rstrip(", "), *cells, *ratios, goals, _word(judged)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(_aligned(line, widths) for line in lines)


def markdown_table(rounds: Rounds) -> str:
    """The README's table: medians only."""
    names = [name for name in ("nginx", OURS, "envoy") if name in subjects_of(rounds)]
    lines = ["| | " + " | ".join([*(_TITLES[name] for name in names), "goal", ""]) + " |"]
    lines.append("|---|" + "---:|" * len(names) + "---|---|")
    for row in ROWS:
        if not row.goals:
            continue
        found = [summary(rounds, name, row) for name in names]
        judged = verdicts(rounds, row)
        if not judged:
            continue
        cells = ["–" if one is None else f"{one.median:,.{row.digits}f}" for one in found]
        goals = ", ".join(_goal_text(verdict) for verdict in judged)
        title = f"{row.title}, {row.unit}" if row.unit else row.title
        lines.append("| " + " | ".join([title, *cells, goals, "✓" if all(one.is_reached for one in judged) else "✗"]) + " |")
    return "\n".join(lines)


def readme_block(results: dict[str, Any]) -> str:
    """What stands between the markers of the README: the picture, the table, and where it was measured."""
    rounds: Rounds = results["rounds"]
    machine, versions = results["machine"], results["versions"]
    peers = ", ".join(f"{_TITLES.get(name, name)} {version}" for name, version in versions.items() if name in (*PEERS, "wrk"))
    times = "round" if len(rounds) == 1 else "rounds"
    where = f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel'].split('-')[0]}, Python {versions['python']}"
    place = (
        f"Medians of {len(rounds)} interleaved {times}, {results['taken'][:10]}, on {where}; {peers}. The proxy has one core, "
        "load and upstreams another. The sidecar parses, traces and exports two spans a call; nginx and Envoy only relay. "
        "`make bench` repeats it on your machine: trust the ratios."
    )
    picture = "![CPU a call and added latency, beside nginx and Envoy](docs/bench.svg)"
    return f"{picture}\n\n{markdown_table(rounds)}\n\n{textwrap.fill(place, 120)}\n"


def publish(readme: Path, block: str) -> None:
    """Put the block between the markers of the README; raises `ValueError` where they are missing."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no {BEGIN} … {END}")
    readme.write_text(f"{before}{BEGIN}\n{block}{END}{after}")


_TITLES = {"nginx": "nginx", "envoy": "Envoy", OURS: "sidecar", "wrk": "wrk"}


def _aligned(line: list[str], widths: list[int]) -> str:
    """First column and the two of the goals to the left, numbers to the right."""
    left = (0, len(line) - 2, len(line) - 1)
    cells = [
        cell.ljust(width) if number in left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _cell(one: Summary | None, row: Row) -> str:
    if one is None:
        return ""
    if row.adds_up:
        return f"{one.median:.0f}"
    return f"{one.median:.{row.digits}f} ({one.low:.{row.digits}f}–{one.high:.{row.digits}f})"


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _goal_text(verdict: Verdict) -> str:
    if not verdict.goal.peer:
        return verdict.goal.text
    return f"{verdict.value:.2f} × {_TITLES[verdict.goal.peer]} (≤ {verdict.goal.limit:g})"


def _word(judged: list[Verdict]) -> str:
    if not judged:
        return ""
    missed = [
        f"{one.value:.2f} × {one.goal.peer}" if one.goal.peer else f"{one.value:.2f}" for one in judged if not one.is_reached
    ]
    return "MISS " + ", ".join(missed) if missed else "pass"

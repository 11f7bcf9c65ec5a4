"""The spans of a backend as people read them: a tree a trace, a SERVER span an exchange, its CLIENT spans below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sidecar.demo.backend import Span
from sidecar.terminal.figures import count, dollars, duration, size
from sidecar.terminal.screen import Screen
from sidecar.terminal.table import Cell, Column, draw

_COLUMNS = (
    Column("call"),
    Column("span", rank=7),
    Column("status", right=True),
    Column("duration", right=True),
    Column("first byte", rank=4, right=True),
    Column("sent", rank=6, right=True),
    Column("received", rank=5, right=True),
    Column("tokens", rank=2, right=True),
    Column("cost", rank=1, right=True),
    Column("agent", rank=3),
)

_NOTHING = (Cell(""),) * (len(_COLUMNS) - 1)

_UNDERSTOOD = ("gen_ai.operation.name", "mcp.method.name", "a2a.method.name")
"""Who has one of these is a call that a dialect has read, and is named by what it asks for."""

_UNICODE = ("├─ ", "└─ ", "│  ", "→ ")
_ASCII = ("|- ", "`- ", "|  ", "> ")


@dataclass(slots=True)
class Branch:
    """A span and what it caused; `span` is None for a parent that others name, but that nobody exported."""

    span_id: bytes
    span: Span | None
    children: list["Branch"] = field(default_factory=list)


def grow(spans: Sequence[Span]) -> list[Branch]:
    """
    The roots of all traces, each trace together, the earliest first; children stand in the order in which they began.

    Spans whose parent is missing stand below a branch without span, because the agent's own span is its parent's business.
    """
    by_start = sorted(spans, key=lambda span: (span.started_ns, span.kind != "SERVER"))
    branches = {(span.trace_id, span.span_id): Branch(span.span_id, span) for span in by_start}
    roots: dict[tuple[bytes, bytes], Branch] = {}
    for span in by_start:
        branch = branches[span.trace_id, span.span_id]
        above = (span.trace_id, span.parent_id)
        if not span.parent_id:
            roots[span.trace_id, span.span_id] = branch
        elif above in branches:
            branches[above].children.append(branch)
        else:
            roots.setdefault(above, Branch(span.parent_id, None)).children.append(branch)
    order = {trace_id: at for at, trace_id in enumerate(dict.fromkeys(span.trace_id for span in by_start))}
    return [root for _, root in sorted(roots.items(), key=lambda item: order[item[0][0]])]


def walk(branch: Branch) -> Iterator[Span]:
    """All spans of a branch, parents first."""
    if branch.span is not None:
        yield branch.span
    for child in branch.children:
        yield from walk(child)


def destination(span: Span) -> str:
    """The route's name where the call took one, else host and port."""
    route = span.attributes.get("sidecar.route")
    return str(route) if route else f"{span.attributes.get('server.address', '?')}:{span.attributes.get('server.port', '?')}"


def lines(roots: Sequence[Branch], screen: Screen) -> list[str]:
    """All traces as one table that fits the screen."""
    rows: list[Sequence[Cell]] = []
    for trace_id, group in groupby(roots, key=_trace_id):
        trace = list(group)
        if rows:
            rows.append((Cell(""), *_NOTHING))
        calls = sum(span.kind == "SERVER" for root in trace for span in walk(root))
        rows.append((Cell(f"trace {trace_id.hex()}, {count(calls, 'call')}", "bold"), *_NOTHING))
        for root in trace:
            rows.extend(_rows(root, "", root is trace[-1], _UNICODE if screen.unicode else _ASCII))
    return draw(_COLUMNS, rows, screen)


def _trace_id(root: Branch) -> bytes:
    return next(walk(root)).trace_id


def _rows(branch: Branch, before: str, last: bool, signs: Sequence[str], path: str = "") -> Iterator[Sequence[Cell]]:
    """The branch and all below it; `path` is that of the call above, which an attempt need not repeat."""
    fork, end, line, arrow = signs
    span = branch.span
    twig = before + (end if last else fork)
    if span is None:
        yield (Cell(f"{twig}the agent's own span {branch.span_id.hex()}", "dim"), *_NOTHING)
    else:
        yield _row(span, twig + _call(span, arrow, path))
        path = str(span.attributes.get("url.path", ""))
    for child in branch.children:
        yield from _rows(child, before + ("   " if last else line), child is branch.children[-1], signs, path)


def _call(span: Span, arrow: str, path: str) -> str:
    seen = span.attributes
    if span.kind == "SERVER":
        return f"{seen.get('http.request.method', span.name)} {destination(span)} {seen.get('url.path', '')}".rstrip()
    if any(sign in seen for sign in _UNDERSTOOD):
        to = seen.get("agent.delegation.to")
        return f"{arrow}{span.name}" + (f" to {to}" if to else "")
    url = str(seen.get("url.full", span.name)).removeprefix("http://")
    address, slash, rest = url.partition("/")
    return arrow + (address if slash + rest == path else url)


def _row(span: Span, label: str) -> Sequence[Cell]:
    seen = span.attributes
    tone = "" if span.kind == "SERVER" else "dim"
    first_byte_s = seen.get("sidecar.first_byte_s")
    return (
        Cell(label, tone),
        Cell(span.kind, tone),
        _status(span),
        Cell(duration(span.duration_s), tone),
        Cell(duration(float(first_byte_s)) if first_byte_s else "", tone),
        Cell(size(float(seen.get("http.request.body.size", 0))), tone),
        Cell(size(float(seen.get("http.response.body.size", 0))), tone),
        Cell(tokens(span), tone),
        Cell(cost(span), tone),
        Cell(str(seen.get("gen_ai.agent.id") or seen.get("agent.delegation.from", "")), tone or "cyan"),
    )


def tokens(span: Span) -> str:
    """How many tokens went in and came out, `312+164`; "" where the call has none."""
    used = [span.attributes.get(f"gen_ai.usage.{way}_tokens") for way in ("input", "output")]
    return "" if used[0] is None and used[1] is None else "+".join(str(each or 0) for each in used)


def cost(span: Span) -> str:
    """What the call cost: dollars, `~` before an estimate, the word where there is no price, "" where nothing is priced."""
    pricing, paid_usd = span.attributes.get("sidecar.cost.pricing"), span.attributes.get("sidecar.cost.usd")
    if pricing is None or paid_usd is None:
        return str(pricing or "")
    return ("~" if pricing == "estimated" else "") + dollars(float(paid_usd))


def _status(span: Span) -> Cell:
    status = int(span.attributes.get("http.response.status_code", 0))
    if not status:
        return Cell(str(span.attributes.get("error.type", "?")), "red")
    return Cell(str(status), "green" if status < 400 and not span.failed else "red")

"""The picture of the README: horizontal bars, drawn by hand, legible on light and on dark pages."""

from tests.bench.goals import ROWS
from tests.bench.report import OURS, Rounds, summary

_WIDTH = 720
_LEFT, _RIGHT = 96, 110
_BAR, _GAP, _GROUP = 20, 8, 42
_GROUPS = (
    ("cpu_call_32_us", "CPU a call, 1.5 KB up and 1.2 KB down, 32 connections (µs)"),
    ("tls_cpu_call_32_us", "the same to a TLS upstream (µs)"),
    ("cpu_chunk_us", "CPU a streamed chunk, 32 paced SSE streams (µs)"),
)
_SUBJECTS = (("nginx", "nginx"), (OURS, "sidecar"), ("envoy", "Envoy"))
# The picture brings its own card, so that it is legible whatever page it is laid on.
_STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de } text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .peer { fill: #8c959f } .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .peer { fill: #6e7681 } .ours { fill: #4493f8 }
  }
"""


def picture(rounds: Rounds) -> str:
    """The SVG text: one group of bars a measure, each group on its own scale; groups that nobody measured are left out."""
    rows = {row.key: row for row in ROWS}
    parts: list[str] = []
    top = 16
    for key, title in _GROUPS:
        bars = [(name, label, one.median) for name, label in _SUBJECTS if (one := summary(rounds, name, rows[key]))]
        if not bars:
            continue
        parts.append(f'<text class="title" x="16" y="{top + 14}">{title}</text>')
        parts.extend(_bars(bars, top + 26))
        top += 26 + len(bars) * (_BAR + _GAP) + _GROUP - 26
    height = top - 10
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    card = f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", card, *parts, "</svg>", ""])


def _bars(bars: list[tuple[str, str, float]], top: int) -> list[str]:
    longest = max(value for _, _, value in bars) or 1.0
    parts = []
    for number, (name, label, value) in enumerate(bars):
        y = top + number * (_BAR + _GAP)
        width = max(1.0, (_WIDTH - _LEFT - _RIGHT) * value / longest)
        kind = "ours" if name == OURS else "peer"
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{label}</text>')
        parts.append(f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="3"/>')
        parts.append(f'<text x="{_LEFT + width + 8:.1f}" y="{y + 15}">{value:.1f}</text>')
    return parts

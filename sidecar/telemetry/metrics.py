"""
The process' own numbers as text for a scraper: Prometheus text format 0.0.4 and OpenMetrics 1.0.

`traffic.upstreams.http.connections` becomes `sidecar_traffic_upstreams_http_connections`. Names that others have defined
(`http.…`, `gen_ai.…` and `mcp.…` by OpenTelemetry's semantic conventions, `process.…` by Prometheus' client libraries) stay as
they are, so that existing dashboards find them. Sources: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0
(prometheus.io/docs/specs/om/open_metrics_spec), OpenTelemetry's "Prometheus and OpenMetrics Compatibility".
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from sidecar.runtime.metrics import Counter, Gauge, Histogram, Labels, Metric, Metrics

_log = logging.getLogger("sidecar.telemetry")


class Form(Enum):
    """A text format; the value is its content type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that is known only when asked; `name` is the exposed one, without `_total`."""

    name: str
    kind: type[Counter] | type[Gauge]
    help: str
    value: float
    labels: Labels = ()


def exposed_name(dotted: str) -> str:
    """The exposed name of a metric, without `_total`: letters, digits and underscores, with our prefix where the name is ours."""
    name = _UNFIT.sub("_", dotted)
    return name if dotted.startswith(_DEFINED_BY_OTHERS) else f"sidecar_{name}"


def exposition(metrics: Metrics, form: Form, *, figures: Iterable[Figure] = ()) -> Iterator[str]:
    """
    Write `figures` and every metric in this form, in pieces of whole lines.

    A piece is a family's head or one of its series with all its buckets, so that a long exposition can be sent in turns
    of the loop and each series is still consistent in itself.
    """
    taken: set[str] = set()
    for figure in figures:
        taken |= {figure.name, _sample_name(figure.name, figure.kind)}
        yield _head(figure.name, figure.kind, figure.help, form)
        yield f"{_sample_name(figure.name, figure.kind)}{_label_set(figure.labels)} {_number(figure.value)}\n"
    for family in metrics:
        name = exposed_name(family.name)
        names = {name, _sample_name(name, family.kind)}
        if names & taken:  # two dotted names that look the same here; a scraper would refuse the whole text
            _skipped(metrics, family.name)
            continue
        taken |= names
        yield _head(name, family.kind, family.help, form)
        for labels, metric in list(family.series.items()):  # a list: series may come while the reader is slow
            yield _series(_sample_name(name, family.kind), labels, metric) or _skipped(metrics, family.name)
    if form is Form.OPENMETRICS:
        yield "# EOF\n"


def _series(name: str, labels: Labels, metric: Metric) -> str:
    if isinstance(metric, Histogram):
        return _buckets(name, labels, metric)
    value: float = metric.value
    if isinstance(metric, Gauge) and metric.read is not None:
        try:
            value = metric.read()
        except Exception as error:  # noqa: BLE001 - one number that cannot be had must not cost the others
            _log.debug("the gauge %s%s cannot be read: %s", name, _label_set(labels), error)
            return ""
    return f"{name}{_label_set(labels)} {_number(value)}\n"


def _skipped(metrics: Metrics, name: str) -> str:
    metrics.counter("telemetry.metrics.skipped", "Series that could not be shown at a scrape.", metric=name).value += 1
    return ""


def _buckets(name: str, labels: Labels, histogram: Histogram) -> str:
    inner = _label_pairs(labels)
    before = f"{name}_bucket{{{inner},le=" if inner else f"{name}_bucket{{le="
    around = f"{{{inner}}}" if inner else ""
    counts = list(accumulate(histogram.counts))
    lines = [f'{before}"{_number(float(bound))}"}} {count}\n' for bound, count in zip(histogram.bounds, counts, strict=False)]
    lines.append(f'{before}"+Inf"}} {counts[-1]}\n')
    lines.append(f"{name}_sum{around} {_number(histogram.sum)}\n{name}_count{around} {counts[-1]}\n")
    return "".join(lines)


def _head(name: str, kind: type, text: str, form: Form) -> str:
    word = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}[kind]
    if form is Form.PROMETHEUS:
        name = _sample_name(name, kind)
        return f"# HELP {name} {_escaped(text, quotes=False)}\n# TYPE {name} {word}\n"
    unit = name.rpartition("_")[2]
    unit_line = f"# UNIT {name} {unit}\n" if unit in _UNITS else ""
    return f"# TYPE {name} {word}\n{unit_line}# HELP {name} {_escaped(text, quotes=True)}\n"


def _sample_name(name: str, kind: type) -> str:
    return f"{name}_total" if kind is Counter else name


def _label_set(labels: Labels) -> str:
    return f"{{{_label_pairs(labels)}}}" if labels else ""


def _label_pairs(labels: Labels) -> str:
    return ",".join(f'{_UNFIT.sub("_", name)}="{_escaped(value, quotes=True)}"' for name, value in labels)


def _escaped(text: str, *, quotes: bool) -> str:
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\0", "\ufffd").replace("\\", "\\\\").replace("\n", "\\n")  # Prometheus ends a value at a NUL
    text = text.encode("utf-8", "replace").decode()  # bytes of a header that were no UTF-8
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))  # of a bool too
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


_UNFIT = re.compile(r"[^a-zA-Z0-9_]")
_PLAIN = re.compile(r"[ !#-\[\]-~]*")
_DEFINED_BY_OTHERS = ("http.", "process.", "gen_ai.", "mcp.")
_UNITS = frozenset({"seconds", "bytes", "ratio", "dollars"})

"""Names of metrics: the path of what is counted, as in the config and in the folders, so that nobody needs to search."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository import PACKAGE, name, sources, tree

DOTTED = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?:\.[a-z][a-z0-9]*(?:_[a-z0-9]+)*)+")
KINDS = {"counter", "gauge", "histogram", "show"}
CONVENTIONS = {"http.server.active_requests"}
"""Names that OpenTelemetry's semantic conventions give, word for word."""


def metrics() -> Iterator[tuple[str, str, str, str]]:
    """Place, kind, name and help of every metric whose name is written out in the source."""
    for path in sources():
        for node in ast.walk(tree(path)):
            match node:
                case ast.Call(func=ast.Attribute(attr=kind), args=[ast.Constant(value=str(metric)), *rest]) if kind in KINDS:
                    text = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
                    yield f"{name(path)}:{node.lineno}", kind, metric, str(text)


def stands_for_a_file(metric: str) -> bool:
    """Whether the name begins with the path of a file or folder; telemetry's own folders are sections of the config."""
    *parts, _ = metric.split(".")
    roots = (PACKAGE, PACKAGE / "telemetry")
    return any(_exists(root.joinpath(*parts[:depth])) for root in roots for depth in range(len(parts), 0, -1))


def _exists(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_there_are_metrics_to_look_at() -> None:
    assert len(list(metrics())) > 10


def test_names_are_dotted_words_in_small_letters() -> None:
    assert not [f"{place}: {metric}" for place, _, metric, _ in metrics() if not DOTTED.fullmatch(metric)]


def test_a_name_says_where_the_thing_is() -> None:
    wrong = [
        f"{place}: {metric}" for place, _, metric, _ in metrics() if not stands_for_a_file(metric) and metric not in CONVENTIONS
    ]
    assert not wrong, "begin with the path of the file, which is the path in the config"


def test_suffixes_are_left_to_the_exposition() -> None:
    wrong = [f"{place}: {metric}" for place, _, metric, _ in metrics() if re.search(r"[._](total|count|sum|bucket)$", metric)]
    assert not wrong, "counters get _total, histograms their three, when they are shown"


def test_a_unit_is_spelt_out_and_a_base_unit() -> None:
    wrong = [
        f"{place}: {metric}" for place, _, metric, _ in metrics() if re.search(r"[._](s|ms|us|ns|kb|mb|pct|percent)$", metric)
    ]
    assert not wrong, "seconds, bytes, ratio (Prometheus, 'Metric and label naming')"


def test_every_metric_says_what_it_is_in_one_sentence() -> None:
    assert not [f"{place}: {text}" for place, _, _, text in metrics() if text and not re.fullmatch(r"[A-Z].*[^.]\.", text)]


def test_a_name_means_one_thing() -> None:
    texts: dict[str, set[str]] = {}
    for _, _, metric, text in metrics():
        texts.setdefault(metric, set()).add(text)
    assert not {metric: found for metric, found in texts.items() if len(found - {""}) > 1}

"""Accept as scrapers, browsers and people send it (RFC 9110 section 12.5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin.accept import preferred

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OFFERS = (TEXT, OPEN)

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "text/plain;version=0.0.4;q=0.3"
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("application/*", OPEN),
        ("text/plain", TEXT),
        ("TEXT/Plain", TEXT),
        ("application/openmetrics-text", OPEN),
        (PROMETHEUS_2, OPEN),
        (PROMETHEUS_3, OPEN),
        (PROTOBUF_FIRST, TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        # quality
        ("text/plain;q=0.5, application/openmetrics-text;q=0.9", OPEN),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", TEXT),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", TEXT),
        ("text/plain;q=0, */*", OPEN),
        ("text/plain;q=0, */*;q=0.001", OPEN),
        ("application/openmetrics-text;q=0.0, */*;q=0.1", TEXT),
        ("text/plain ; q=0.4 , application/openmetrics-text ; q=0.6", OPEN),
        # the more specific one counts, wherever it stands
        ("*/*;q=0.9, text/plain;q=0.1", OPEN),
        ("text/plain;version=0.0.4;q=0.1, text/plain;q=1, application/openmetrics-text;q=0.5", OPEN),
        ("text/*;q=0.1, text/plain;q=0.9, */*;q=0.5", TEXT),
        # parameters that we contradict do not match
        ("text/plain;version=0.0.5, application/openmetrics-text;q=0.1", OPEN),
        ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", TEXT),
        ('application/openmetrics-text;version="1.0.0"', OPEN),
        ("text/plain;charset=UTF-8", TEXT),
        # nothing that we have
        ("application/json", None),
        ("text/plain;q=0, application/openmetrics-text;q=0", None),
        ("*/*;q=0", None),
        # what cannot be read is passed over
        ("nonsense", TEXT),
        ("text/plain;q=high, application/openmetrics-text;q=0.2", OPEN),
        ("text/plain;q=2, application/openmetrics-text;q=0.2", OPEN),
        ("*/plain, application/openmetrics-text;q=0.2", OPEN),
        ("text/plain;q=0.2, text/plain;q=0.8, application/openmetrics-text;q=0.5", TEXT),
    ],
)
def test_the_best_offer_is_taken(accept: str, chosen: str | None) -> None:
    assert preferred(accept, OFFERS) == chosen


@given(st.text(alphabet='aetxplin/*;,=q0.1 \t"', max_size=200))
def test_no_field_value_is_an_error(accept: str) -> None:
    assert preferred(accept, OFFERS) in (*OFFERS, None)


def test_a_very_long_field_is_read_in_part() -> None:
    assert preferred("x/y," * 100_000 + "application/openmetrics-text", OFFERS) is None

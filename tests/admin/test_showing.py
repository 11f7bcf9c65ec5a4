"""What is shown of an exchange: everything that helps, no credential."""

import json
from datetime import datetime

from sidecar.admin.showing import iso_time, shown_exchange, shown_live
from tests.admin.seen import attempt_finished, exchange_finished, exchange_in_flight


def test_ids_are_hex_times_are_iso_and_durations_are_seconds() -> None:
    shown = shown_exchange(exchange_finished(255), [attempt_finished(255)])
    assert shown["trace_id"] == "000000000000000000000000000000ff"
    assert shown["span_id"] == "0000000000000100"
    assert shown["parent_id"] == "7070707070707070"
    assert shown["started_at"] == "2023-11-14T22:17:35.000000Z"
    assert shown["ended_at"] == "2023-11-14T22:17:35.250000Z"
    assert (shown["duration_s"], shown["first_byte_s"]) == (0.25, 0.1)
    (attempt,) = shown["attempts"]
    assert (attempt["span_id"], attempt["duration_s"], attempt["address"]) == ("0000000100000100", 0.23, "1.2.3.4")


def test_everything_is_json_as_it_is() -> None:
    shown = shown_exchange(exchange_finished(), [attempt_finished()])
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["mode"], shown["purpose"], shown["state"], shown["sampled"]) == ("forward", "live", "finished", True)


def test_attempts_are_in_the_order_of_their_tries() -> None:
    shown = shown_exchange(
        exchange_finished(), [attempt_finished(resends=1, status=200), attempt_finished(resends=0, status=503)]
    )
    assert [attempt["status"] for attempt in shown["attempts"]] == [503, 200]


def test_credentials_in_a_query_are_not_shown() -> None:
    path = "/v1/models?key=AIzaSECRET&alt=sse&X-Amz-Signature=SECRET&access_token=SECRET"
    live = exchange_in_flight(path=path)
    for shown in (
        shown_exchange(exchange_finished(path=path), [attempt_finished(target=path)]),
        shown_live(live, live.started_ns),
    ):
        assert "SECRET" not in json.dumps(shown)
        assert "alt=sse" in shown["path"]


def test_an_exchange_in_flight_has_its_age_and_what_is_known() -> None:
    live = exchange_in_flight(3, status=200, response_bytes=512, attempts=2)
    shown = shown_live(live, live.started_ns + 1_500_000_000)
    finished = shown_exchange(exchange_finished(3), [])
    assert (shown["state"], shown["duration_s"], shown["tries"], shown["response_bytes"]) == ("live", 1.5, 2, 512)
    assert shown["span_id"] == finished["span_id"]
    assert set(shown) - {"tries"} == set(finished) - {"ended_at", "first_byte_s", "attempts"}


def test_bytes_of_a_target_that_are_no_text_are_shown_all_the_same() -> None:
    live = exchange_in_flight(path="/\xff\xfe")
    assert json.loads(json.dumps(shown_live(live, 0)["path"])) == "/ÿþ"


def test_a_time_is_exact_to_the_microsecond_and_no_time_is_empty() -> None:
    assert iso_time(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    assert datetime.fromisoformat(iso_time(1)).year == 1970
    assert iso_time(0) == iso_time(-5) == ""


def test_a_duration_is_never_negative() -> None:
    assert shown_exchange(exchange_finished(ended_ns=0), [])["duration_s"] == 0

import pytest

from sidecar.runtime.metrics import MAX_SERIES, Counter, Gauge, Histogram, Metrics


def test_the_same_name_and_labels_are_the_same_metric_so_that_it_outlives_a_reload() -> None:
    metrics = Metrics()
    first = metrics.counter("traffic.calls", "Calls.", route="a", agent="b")
    first.value += 3
    assert metrics.counter("traffic.calls", "Calls.", agent="b", route="a") is first
    assert metrics.counter("traffic.calls", "Calls.", route="other", agent="b") is not first


def test_a_name_is_of_one_kind() -> None:
    metrics = Metrics()
    metrics.counter("traffic.calls", "Calls.")
    with pytest.raises(ValueError, match=r"traffic\.calls is a Counter, not a Gauge"):
        metrics.gauge("traffic.calls", "Calls.")


def test_families_are_told_in_the_order_of_their_names() -> None:
    metrics = Metrics()
    metrics.gauge("b", "B.")
    metrics.counter("a", "A.")
    assert [(family.name, family.kind, family.help) for family in metrics] == [("a", Counter, "A."), ("b", Gauge, "B.")]


def test_a_gauge_that_is_read_takes_the_newest_way_to_read_it() -> None:
    metrics = Metrics()
    first = metrics.gauge("open", "Open ones.", read=lambda: 1)
    assert metrics.gauge("open", "Open ones.", read=lambda: 2) is first
    assert first.read is not None
    assert first.read() == 2
    assert metrics.gauge("open", "Open ones.").read is first.read


def test_a_number_is_shown_as_long_as_its_owner_lives() -> None:
    metrics = Metrics()

    def shown() -> dict[str, float]:
        series = [(labels, metric) for family in metrics for labels, metric in family.series.items()]
        return {dict(labels)["of"]: gauge.read() for labels, gauge in series if isinstance(gauge, Gauge) and gauge.read}

    end_old = metrics.show("open", "Open ones.", lambda: 1, of="a")
    end_other = metrics.show("open", "Open ones.", lambda: 7, of="b")
    end_discarded = metrics.show("open", "Open ones.", lambda: 2, of="a")
    assert shown() == {"a": 2, "b": 7}
    end_discarded()
    end_discarded()
    assert shown() == {"a": 1, "b": 7}, "the one that stood before is asked again"
    end_new = metrics.show("open", "Open ones.", lambda: 3, of="a")
    end_old()
    assert shown() == {"a": 3, "b": 7}, "the old one leaves after the new one has come"
    end_new()
    assert shown() == {"b": 7}
    end_other()
    assert not list(metrics)


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.1, 2), (1e9, 2)])
def test_an_observation_on_a_bound_belongs_to_that_bounds_bucket(value: float, bucket: int) -> None:
    histogram = Metrics().histogram("took_seconds", "Took.", bounds=(1.0, 2.0))
    histogram.observe(value)
    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]
    assert histogram.sum == value


def test_a_histogram_has_a_bucket_beyond_its_last_bound() -> None:
    assert len(Histogram((1.0, 2.0)).counts) == 3


def test_series_beyond_the_limit_share_one_that_says_so() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 10):
        metrics.counter("calls", "Calls.", agent=str(number)).value += 1
    (family,) = metrics
    assert len(family.series) == MAX_SERIES + 1
    shared = family.series[(("otel_metric_overflow", "true"),)]
    assert isinstance(shared, Counter)
    assert shared.value == 10


def test_series_from_before_the_limit_keep_counting_for_themselves() -> None:
    metrics = Metrics()
    first = metrics.histogram("took", "Took.", agent="0")
    for number in range(1, MAX_SERIES + 1):
        metrics.histogram("took", "Took.", agent=str(number))
    assert metrics.histogram("took", "Took.", agent="0") is first
    assert metrics.histogram("took", "Took.", agent="new") is metrics.histogram("took", "Took.", agent="newer")
    metrics.counter("other", "Another family has room of its own.", agent="new")
    series = {family.name: set(family.series) for family in metrics}
    assert series["other"] == {(("agent", "new"),)}

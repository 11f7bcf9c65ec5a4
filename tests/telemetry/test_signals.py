from sidecar.telemetry.signals import Batch, Signal


def test_items_have_the_collectors_names() -> None:
    assert [signal.items for signal in Signal] == ["spans", "metric_points", "log_records"]


def test_a_batch_of_one_chunk_knows_its_size() -> None:
    assert Batch.of(Signal.LOGS, b"12345", 3) == Batch(Signal.LOGS, (b"12345",), 3, 5)

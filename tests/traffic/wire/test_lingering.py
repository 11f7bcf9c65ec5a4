from sidecar.traffic.wire.lingering import LINGER_BYTES, LINGER_S, QUIET_S, Lingering


def test_bytes_are_thrown_away_up_to_a_bound() -> None:
    lingering = Lingering(0.0)
    assert lingering.has_room_for(LINGER_BYTES - 1)
    assert lingering.has_room_for(1)
    assert not lingering.has_room_for(1)


def test_silence_ends_it_and_so_does_its_own_time() -> None:
    lingering = Lingering(100.0)
    assert not lingering.is_over(100.0 + QUIET_S, QUIET_S)
    assert lingering.is_over(100.0 + QUIET_S, QUIET_S + 0.001)
    assert not lingering.is_over(100.0 + LINGER_S, 0.0)
    assert lingering.is_over(100.0 + LINGER_S + 0.001, 0.0)

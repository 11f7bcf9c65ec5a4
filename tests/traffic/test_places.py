import logging

import pytest

from sidecar.traffic.places import Places, descriptors_needed, share_out


@pytest.mark.parametrize(("clients", "kept"), [([4096], [1024]), ([100, 7], [1, 2, 3]), ([1], [])])
def test_where_descriptors_suffice_everybody_has_what_was_asked_for(
    clients: list[int], kept: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    enough = descriptors_needed(clients, kept)
    assert enough > 2 * sum(clients) + sum(kept)
    assert share_out(clients, kept, enough) == [Places(each) for each in clients]
    assert not caplog.records


def test_what_upstreams_keep_idle_takes_no_clients_place(caplog: pytest.LogCaptureFixture) -> None:
    assert share_out([4096], [1024] * 60, 65_536) == [Places(4096, 256)]
    assert not caplog.records


@pytest.mark.parametrize("descriptors", [128, 256, 1024, 4096])
@pytest.mark.parametrize("clients", [[4096], [4096, 100], [10, 5000, 5000]])
def test_where_they_do_not_all_that_is_given_fits(descriptors: int, clients: list[int], caplog: pytest.LogCaptureFixture) -> None:
    shares = share_out(clients, [1024], descriptors)
    assert sum(2 * share.clients + share.turned_away for share in shares) <= descriptors - 64
    assert all(1 <= share.clients <= each for share, each in zip(shares, clients, strict=True))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"no more than {sum(share.clients for share in shares)} clients are served at once" in record.getMessage()


def test_a_listener_has_a_place_however_few_there_are() -> None:
    assert share_out([4096, 4096], [1024], 20) == [Places(1, 0), Places(1, 0)]
    assert share_out([0], [1024], 20) == [Places(1, 0)], "a listener that has no such bound"
    assert share_out([], [1024], 20) == []

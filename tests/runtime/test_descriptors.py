import errno
import resource

import pytest

from sidecar.runtime.descriptors import most_descriptors, raise_limit, ran_out

UNLIMITED = resource.RLIM_INFINITY


class System:
    """A system's limits; with `allowed`, more than that cannot be set whatever the hard limit says."""

    def __init__(self, soft: int, hard: int, allowed: int = 1 << 31) -> None:
        self.limits = (soft, hard)
        self.allowed = allowed

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        assert limits[1] == self.limits[1], "the hard limit is the user's"
        if limits[0] > self.allowed:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "needed", "expected"),
    [
        (1024, 1_048_576, 10_000, 65_536),
        (1024, 1_048_576, 200_000, 200_000),
        (1024, 4096, 10_000, 4096),
        (1024, UNLIMITED, 10_000, 65_536),
        (256, 256, 10_000, 256),
        (100_000, 1_048_576, 10_000, 100_000),
        (UNLIMITED, UNLIMITED, 10_000, UNLIMITED),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed_and_allowed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, needed: int, expected: int
) -> None:
    system = System(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    assert raise_limit(needed) == soft
    assert system.limits == (expected, hard)
    assert most_descriptors() == (expected if expected != UNLIMITED else 1 << 30)


@pytest.mark.parametrize(("allowed", "expected"), [(24_576, 12_000), (10_240, 10_240), (100, 256)])
def test_where_less_can_be_had_than_the_hard_limit_says_less_is_taken(
    monkeypatch: pytest.MonkeyPatch, allowed: int, expected: int
) -> None:
    system = System(256, UNLIMITED, allowed)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    assert raise_limit(12_000) == 256
    assert system.limits[0] == expected


def test_only_two_errors_say_that_there_is_none_left() -> None:
    assert ran_out(OSError(errno.EMFILE, "")) and ran_out(OSError(errno.ENFILE, ""))
    assert not ran_out(OSError(errno.ECONNREFUSED, "")) and not ran_out(ValueError(errno.EMFILE))

import pytest

from sidecar.dialects.doubt import nonsense
from sidecar.dialects.lenient import MOST_COUNT
from sidecar.model.usage import NONSENSE


@pytest.mark.parametrize("told", [-1, -0.5, MOST_COUNT + 1, 1e300, float("inf"), float("nan")], ids=repr)
def test_a_number_that_can_be_no_count_leaves_a_doubt(told: float) -> None:
    assert nonsense(5, None, told, 7) == NONSENSE


def test_counts_and_what_was_not_told_leave_none() -> None:
    assert nonsense(0, None, 1, 2.0, MOST_COUNT) == nonsense() == ""

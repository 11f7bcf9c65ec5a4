from typing import get_args

from sidecar.model.change import NAMES, Change


def test_every_change_has_a_name_and_slots() -> None:
    assert set(NAMES) == set(get_args(Change))
    for kind in NAMES:
        assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)

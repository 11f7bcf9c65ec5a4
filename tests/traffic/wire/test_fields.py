import pytest

from sidecar.traffic.wire.fields import _KNOWN_LIMIT, _NAMES, KINDS, Field


@pytest.fixture(autouse=True)
def fresh() -> None:
    KINDS.clear()


@pytest.mark.parametrize("name", sorted(_NAMES))
def test_a_field_is_known_in_every_case_of_letters(name: bytes) -> None:
    kinds = {KINDS[spelt] for spelt in (name, name.upper(), name.title(), name.swapcase())}
    assert kinds == {int(_NAMES[name])}


@pytest.mark.parametrize("name", [b"", b"hosts", b"x-host", b"content-length ", b"content_length", b"Accept"])
def test_every_other_name_means_nothing(name: bytes) -> None:
    assert KINDS[name] == Field.OTHER == 0


def test_a_spelling_is_remembered() -> None:
    assert KINDS[b"CoNtEnT-lEnGtH"] == Field.CONTENT_LENGTH
    assert b"CoNtEnT-lEnGtH" in KINDS


def test_a_name_of_more_than_64_bytes_is_not_remembered() -> None:
    assert KINDS[b"x" * 65] == 0
    assert b"x" * 65 not in KINDS
    assert KINDS[b"x" * 64] == 0
    assert b"x" * 64 in KINDS


def test_no_more_spellings_are_remembered_than_the_limit() -> None:
    for number in range(_KNOWN_LIMIT + 5):
        assert KINDS[b"x-%d" % number] == 0
        assert len(KINDS) <= _KNOWN_LIMIT
    assert KINDS[b"Host"] == Field.HOST

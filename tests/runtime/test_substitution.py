import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.substitution import MAX_FILE_BYTES, MAX_TEXT, Substitution, Unresolved, read_bounded

ENVIRON = {"HOST": "example.org", "EMPTY": "", "ODD": "a ${HOST} $$ }", "NAME_2": "two", "WHICH": "HOST"}


def expand(text: str, folder: Path = Path()) -> tuple[str, bool]:
    return Substitution(ENVIRON, folder).expand(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:HOST}", "example.org"),
        ("${HOST}", "example.org"),
        ("${NAME_2}", "two"),
        ("${env:EMPTY}", ""),
        ("${env:EMPTY:-default}", ""),
        ("${env:GONE:-default}", "default"),
        ("${GONE:-default}", "default"),
        ("${env:GONE:-}", ""),
        ("${env:GONE:-http://${env:HOST}:80/}", "http://example.org:80/"),
        ("${env:GONE:-$$5}", "$5"),
        ("${env:${WHICH}}", "example.org"),
        ("${env:ODD}", "a ${HOST} $$ }"),
    ],
)
def test_a_whole_field_is_replaced(text: str, value: str) -> None:
    assert expand(text) == (value, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http://${HOST}/", "http://example.org/"),
        ("${HOST}${HOST}", "example.orgexample.org"),
        ("${HOST} ", "example.org "),
        ("$$", "$"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$example.org"),
        ("$HOST", "$HOST"),
        ("5$", "5$"),
        ("${1}", "${1}"),
        ("${}", "${}"),
        ("${a b}", "${a b}"),
        ("plain", "plain"),
        ("${ODD}!", "a ${HOST} $$ }!"),
    ],
)
def test_a_part_of_a_text_is_replaced_and_dollars_are_escaped(text: str, value: str) -> None:
    assert expand(text) == (value, False)


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("${env:GONE}", "GONE is not set", "${env:GONE:-default}"),
        ("${GONE}", "GONE is not set", ""),
        ("${env:no-name}", "no name", "${env:NAME}"),
        ("${http://x}", "'${http:…}' is not known", "$$"),
        ("${env:HOST", "has no '}'", "$$"),
        ("${" * 12 + "x" + "}" * 12, "", ""),
        ("${file:/nowhere/at/all}", "No such file", ""),
    ],
)
def test_what_has_no_value_says_why(text: str, problem: str, hint: str) -> None:
    if text.startswith("${${"):
        text = text.replace("${", "${env:A:-")
        problem = "levels"
    with pytest.raises(Unresolved) as caught:
        expand(text)
    assert problem in str(caught.value)
    assert hint in caught.value.hint


def test_a_file_gives_its_text_without_the_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"geheim\r\n")
    (tmp_path / "lines").write_text("a\nb\n\n")
    substitution = Substitution({}, tmp_path)
    assert substitution.expand("${file:token}") == ("geheim", True)
    assert substitution.expand("${file:lines}") == ("a\nb\n", True)
    assert substitution.expand(f"x-${{file:{tmp_path}/token}}") == ("x-geheim", False)
    assert substitution.files == [tmp_path / "token", tmp_path / "lines", tmp_path / "token"]


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "full").write_bytes(b"x" * MAX_FILE_BYTES)
    os.mkfifo(tmp_path / "fifo")
    for name, problem in (("binary", "UTF-8"), ("large", "larger than 1 MiB"), ("fifo", "regular"), (".", "regular")):
        with pytest.raises(Unresolved, match=problem):
            expand(f"${{file:{name}}}", tmp_path)
    assert len(read_bounded(tmp_path / "full")) == MAX_FILE_BYTES


@given(st.text(alphabet="${}:-aE_1 ", max_size=30))
def test_no_text_makes_the_substitution_fail_in_another_way(text: str) -> None:
    try:
        value, whole = expand(text)
    except Unresolved:
        return
    assert isinstance(value, str)
    assert not whole or text.startswith("${")


@given(st.text(max_size=30))
def test_doubled_dollars_come_out_as_they_were_meant(text: str) -> None:
    assert expand(text.replace("$", "$$"))[0] == text


def test_all_that_is_filled_in_is_bounded_together(tmp_path: Path) -> None:
    (tmp_path / "large").write_text("x" * MAX_FILE_BYTES)
    substitution = Substitution({}, tmp_path)
    for _ in range(MAX_TEXT // MAX_FILE_BYTES):
        substitution.expand("${file:large}")
    with pytest.raises(Unresolved, match="16 MiB"):
        substitution.expand("${file:large}")
    read_so_far = len(substitution.files)
    with pytest.raises(Unresolved, match="16 MiB"):
        substitution.expand("${file:large}")
    assert len(substitution.files) == read_so_far, "further files are not even read"

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import ConfigInvalid
from sidecar.runtime import document as document_module
from sidecar.runtime.document import MAX_DEPTH, Document, path_text, read_document


def read(text: str, environ: dict[str, str] | None = None, folder: Path = Path()) -> Document:
    return read_document(text, source="c.yaml", environ=environ or {}, folder=folder)


def problems(document: Document) -> list[tuple[str, int, str]]:
    return [(fault.path, fault.line, fault.problem) for fault in document.faults]


def test_values_are_typed_and_know_their_lines() -> None:
    document = read("a: 1\nb:\n  c: [x, no, '5']\n  d/e:\n    f: ~\ng:\n")
    assert document.value == {"a": 1, "b": {"c": ["x", "no", "5"], "d/e": {"f": None}}, "g": None}
    assert not document.faults
    assert document.line(("b", "c", 1)) == 3
    assert document.line(("b", "d/e", "f")) == 5
    assert document.line(("b", "d/e", "g", "h")) == 4, "the nearest line above"
    assert document.line(("b", "c", 0)) == 3
    assert Document("").line(("a",)) == 0


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n...\n"])
def test_an_empty_document_is_null(text: str) -> None:
    document = read(text)
    assert document.value is None
    assert not document.faults


def test_paths_are_written_as_people_write_them() -> None:
    assert path_text(("traffic", "routes", "a", "policies", 0)) == "traffic.routes.a.policies[0]"
    assert path_text(()) == "config"


def test_a_key_that_stands_twice_is_a_fault_at_the_second_place() -> None:
    document = read("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n")
    assert problems(document) == [
        ("b.c", 5, "this key stands here for the second time"),
        ("a", 6, "this key stands here for the second time"),
    ]
    assert document.faults[0].hint == "the first one is in line 3"
    assert document.value == {"a": 1, "b": {"c": 1, "d": 2}}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: [1,\nb: 2", 2, "not YAML"),
        ("a:\n\t- b", 2, "not YAML"),
        ("a: *x", 1, "&x is not defined"),
        ("a: &x [*x]", 1, "&x is not defined"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: !!python/object:os.system x", 1, "the tag"),
        ("a: !mine\n  b: c", 1, "the tag !mine"),
        ("? [a, b]\n: c", 1, "a key has to be a text"),
        ("a: \x01", 1, "not YAML"),
        ("[" * (MAX_DEPTH + 2), 1, "deeper than"),
        ("a: " + "[" * 100_000, 1, "deeper than"),
        ("#" * ((1 << 20) + 1), 0, "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_read_is_one_fault(text: str, line: int, problem: str) -> None:
    document = read(text)
    assert document.value is None
    assert [(fault.path, fault.line) for fault in document.faults] == [("config", line)]
    assert problem in document.faults[0].problem


def test_a_substitution_without_quotes_in_braces_gets_a_hint() -> None:
    assert "quotes" in read("a: {b: ${env:X}, c: d}").faults[0].hint
    assert read("a: {b: [}").faults[0].hint == ""


def test_the_text_tag_keeps_a_number_a_text() -> None:
    assert read("a: !!str 5\nb: ! 5\nc: !!str ${N}\n", {"N": "6"}).value == {"a": "5", "b": "5", "c": "6"}


def test_aliases_are_followed_and_merge_keys_fill_in() -> None:
    document = read("base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\nsame: *base\nboth:\n  <<: [*base, {a: 9, c: 4}]\n")
    assert document.value["use"] == {"b": 3, "a": 1}
    assert document.value["same"] == {"a": 1, "b": 2}
    assert document.value["both"] == {"a": 1, "b": 2, "c": 4}
    assert document.line(("use", "b")) == 4
    assert document.line(("use", "a")) == 1
    assert not document.faults


def test_only_mappings_merge_and_a_quoted_merge_key_is_a_key() -> None:
    assert problems(read("a:\n  <<: 5\n")) == [("a.<<", 1, "only mappings can be merged")]
    assert read("'<<': 5\n").value == {"<<": 5}


def test_an_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    document = read("\n".join(lines))
    assert document.value is None
    assert "values once aliases are followed" in document.faults[0].problem


def test_aliases_cannot_nest_deeper_than_text_may() -> None:
    lines = ["a0: &a0 " + "[" * 40 + "]" * 40, *(f"a{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}" for n in range(1, 4))]
    document = read("\n".join(lines))
    assert "deeper than" in document.faults[0].problem


def test_variables_are_typed_by_yaml_when_they_are_the_whole_field() -> None:
    environ = {"N": "5", "T": "true", "E": "", "M": "{a: [1, 2]}", "L": "a: 1\nb: [x]\n", "Q": "'5'", "S": "x", "Z": "0123"}
    document = read('n: ${N}\nt: ${T}\ne: ${E}\nm: ${M}\nl: ${L}\nq: ${Q}\ns: ${S}\nz: ${Z}\nx: "${N}"\ny: ${N}${N}\n', environ)
    assert document.value == {
        "n": 5, "t": True, "e": None, "m": {"a": [1, 2]}, "l": {"a": 1, "b": ["x"]}, "q": "5", "s": "x", "z": 123, "x": "5", "y": "55",
    }  # fmt: skip
    assert str(document.value["z"]) == "0123"
    assert document.line(("l", "b", 0)) == 5, "what a variable holds stands where the variable stands"


@pytest.mark.parametrize(
    "secret",
    [
        "#abc",
        "a #b",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "- a",
        "{a",
        "[a",
        "'a",
        '"a',
        "a: [",
        "x: y: z",
        "-----BEGIN KEY\nabc\n-----",
        "$$",
        "${X}",
        "|",
        ">",
    ],
)
def test_a_secret_in_a_variable_may_have_any_characters(secret: str) -> None:
    document = read("a: ${SECRET}\n", {"SECRET": secret})
    assert document.value == {"a": secret}
    assert not document.faults


def test_what_a_variable_holds_is_not_searched_for_variables() -> None:
    assert read("a: ${X}\n", {"X": "{b: '${Y}'}"}).value == {"a": {"b": "${Y}"}}


def test_a_missing_variable_is_a_fault_at_its_place_and_silences_others_there() -> None:
    document = read("a:\n  b: ${GONE}\n  c: x-${env:GONE}\n")
    document.fault(("a", "b"), "has to be a number")
    document.fault(("a", "c"), "has to be a number")
    document.fault(("a", "d"), "missing")
    document.fault(("a", "d"), "missing")
    assert problems(document) == [
        ("a.b", 2, "the environment variable GONE is not set"),
        ("a.c", 3, "the environment variable GONE is not set"),
        ("a.d", 1, "missing"),
    ]


def test_files_are_read_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("b: 1\nc: [2]\n")
    document = read("a: ${file:part.yaml}\n", folder=tmp_path)
    assert document.value == {"a": {"b": 1, "c": [2]}}
    assert document.files == (tmp_path / "part.yaml",)


@pytest.mark.parametrize(
    ("text", "most"),
    [("a:\n" * 300_000, 50_000), ("".join(f"k{number}: ${{GONE}}\n" for number in range(40_000)), 40_000)],
    ids=["keys that stand twice", "missing variables"],
)
def test_very_many_faults_cost_no_more_than_each_of_them(text: str, most: int) -> None:
    started = time.process_time()
    assert 0 < len(read(text).faults) <= most
    assert time.process_time() - started < 10  # it took minutes when each was looked for among all others


def test_aliases_of_aliases_in_a_file_are_bounded_too(tmp_path: Path) -> None:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(["a0: &a0 [x]", *levels]))
    started = time.process_time()
    document = read("a: ${file:bomb.yaml}\n", folder=tmp_path)
    assert "values once aliases are followed" in document.faults[0].problem
    assert time.process_time() - started < 10  # it was hours


@pytest.mark.parametrize(("text", "line"), [("a: 1\nb: \0\n", 2), ("é: 1\n\n\x01", 3), ("\x7f", 1)])
def test_a_character_that_is_none_of_yaml_is_a_fault_with_its_line(text: str, line: int) -> None:
    assert [fault.line for fault in read(text).faults] == [line]


def test_faults_are_raised_in_the_order_of_the_file() -> None:
    document = read("a: 1\nb: 2\n")
    document.raise_faults()
    document.fault(("b",), "second", "do this")
    document.fault(("a",), "first")
    with pytest.raises(ConfigInvalid) as caught:
        document.raise_faults()
    assert str(caught.value) == "c.yaml:1: a: first\nc.yaml:2: b: second (do this)"


def test_reading_without_libyaml_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, 'b', {c: d}]\ne: *x\nf: |\n  g\n"
    expected = read(text)
    monkeypatch.setattr(document_module, "_LOADER", yaml.SafeLoader)
    slow = read(text)
    assert (slow.value, slow.lines) == (expected.value, expected.lines)
    assert "not YAML" in read("a: [").faults[0].problem


_plain: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="$\x85"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc/_.", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_plain)
def test_what_pyyaml_writes_is_read_as_it_was(value: Any) -> None:
    document = read(yaml.safe_dump(value, allow_unicode=True))
    assert not document.faults
    assert document.value == value


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    for fault in read(text).faults:
        assert 0 <= fault.line <= text.count("\n") + 1 + text.count("\r")

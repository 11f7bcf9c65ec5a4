"""
A YAML document that remembers where everything stood, and collects what is wrong with it.

Reading is bounded: 1 MiB of text, 50,000 values once aliases are followed, 64 levels. What makes the text unreadable ends
the reading with one fault; everything else (a key that stands twice, a missing variable) is noted, and reading goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sidecar.model.errors import ConfigFault, ConfigInvalid
from sidecar.runtime.scalars import typed
from sidecar.runtime.substitution import MAX_FILE_BYTES, Substitution, Unresolved

KeyPath = tuple[str | int, ...]

MAX_VALUES = 50_000
MAX_DEPTH = 64


@dataclass(slots=True)
class Document:
    """
    `value` is the tree of dicts, lists and scalars; `lines` says for each key path in which line (from 1) it stands.

    `files` are the files that `${file:…}` read. `fault` adds to `faults`; `raise_faults` ends the matter.
    """

    source: str
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    faults: list[ConfigFault] = field(default_factory=list)
    _unresolved: set[KeyPath] = field(default_factory=set)
    _noted: set[ConfigFault] = field(default_factory=set)

    def line(self, path: KeyPath) -> int:
        """The line of this path, or of the nearest one above it that was written; 0 where nothing was."""
        if not path:
            return self.lines.get((), 0)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines[path] if path else 0

    def fault(self, path: KeyPath, problem: str, hint: str = "") -> None:
        """Note a fault; where a `${…}` had no value, nothing more can be said about it."""
        fault = ConfigFault(path_text(path), self.line(path), problem, hint, self.source)
        if path not in self._unresolved and fault not in self._noted:
            self._noted.add(fault)
            self.faults.append(fault)

    def unresolved(self, path: KeyPath, problem: str, hint: str) -> None:
        """Note that a `${…}` has no value."""
        self.fault(path, problem, hint)
        self._unresolved.add(path)

    def raise_faults(self) -> None:
        """Raise ConfigInvalid with all faults in the order of the file, if there are any."""
        if self.faults:
            raise ConfigInvalid(sorted(self.faults, key=lambda fault: fault.line))


def path_text(path: KeyPath) -> str:
    """A key path as people write it: `traffic.routes.openai.policies[0]`; the whole document is `config`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".") or "config"


def read_document(text: str, *, source: str, environ: Mapping[str, str], folder: Path) -> Document:
    """Read a YAML document and fill in its `${…}`; never raises, the faults are in the document."""
    document = Document(source)
    substitution = Substitution(environ, folder)
    try:
        node = _parse(text)
        _Values(document, substitution).convert(node)
    except _Unreadable as error:
        document.value = None
        document.faults.append(ConfigFault("config", error.line, str(error), error.hint, source))
    document.files = tuple(substitution.files)
    return document


class _Unreadable(Exception):
    def __init__(self, line: int, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.line = line
        self.hint = hint


@dataclass(slots=True)
class _Node:
    """A scalar (`text`), a sequence (`items`) or a mapping (`pairs`), with the line where it begins."""

    line: int
    text: str | None = None
    is_plain: bool = False
    items: "list[_Node] | None" = None
    pairs: "list[tuple[_Node, _Node]] | None" = None


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one with libyaml is ten times as fast


def _parse(text: str) -> _Node:
    if len(text) > MAX_FILE_BYTES:
        raise _Unreadable(0, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return _Parser(iter(yaml.parse(text, Loader=_LOADER))).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 0
        nearby = "\n".join(text.splitlines()[max(0, line - 2) : line])
        hint = "inside { } and [ ], put ${…} in quotes" if "${" in nearby else ""
        raise _Unreadable(line, f"not YAML: {error.problem or error.context}", hint) from None
    except yaml.YAMLError as error:
        found = yaml.SafeLoader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 0
        raise _Unreadable(line, f"not YAML: {str(error).splitlines()[0]}") from None


class _Parser:
    """Makes nodes of libyaml's events; not of its nodes, because libyaml composes those without a bound on depth."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}

    def document(self) -> _Node:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return _Node(0, text="", is_plain=True)
        node = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise _Unreadable(following.start_mark.line + 1, "a second document", "put everything into one, without '---'")
        return node

    def _node(self, event: Any, depth: int) -> _Node:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _Unreadable(line, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _Unreadable(line, f"the anchor &{event.anchor} is not defined before this line")
            return self._anchors[event.anchor]
        node = self._collection(event, line, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node  # only now, so that nothing can hold itself
        return node

    def _collection(self, event: Any, line: int, depth: int) -> _Node:
        is_text = event.tag in ("tag:yaml.org,2002:str", "!")
        if event.tag is not None and not is_text:
            raise _Unreadable(line, f"the tag {event.tag} is not known", "leave the tag out")
        if isinstance(event, yaml.ScalarEvent):
            return _Node(line, text=event.value, is_plain=event.implicit[0] and not is_text)
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
            return _Node(line, items=items)
        keys = self._until(yaml.MappingEndEvent)
        return _Node(line, pairs=[(self._node(key, depth + 1), self._node(next(self._events), depth + 1)) for key in keys])

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event


class _Values:
    """Makes plain values of nodes: follows aliases and merge keys, substitutes, types scalars and notes lines."""

    def __init__(self, document: Document, substitution: Substitution) -> None:
        self._document = document
        self._substitution = substitution
        self._count = 0
        self._is_literal = False

    def convert(self, node: _Node) -> None:
        self._document.value = self._value(node, ())

    def _count_one(self, line: int) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Unreadable(line, f"more than {MAX_VALUES} values once aliases are followed")

    def _value(self, node: _Node, path: KeyPath) -> Any:
        self._count_one(node.line)
        self._document.lines.setdefault(path, node.line)
        if len(path) > MAX_DEPTH:
            raise _Unreadable(node.line, f"nested deeper than {MAX_DEPTH} levels")
        if node.text is not None:
            return self._scalar(node, path)
        if node.items is not None:
            return [self._value(item, (*path, index)) for index, item in enumerate(node.items)]
        return self._mapping(node, path)

    def _mapping(self, node: _Node, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[_Node] = []
        for key, value in node.pairs or ():
            if key.text is None:
                raise _Unreadable(key.line, "a key has to be a text", "put it in quotes")
            if key.text == "<<" and key.is_plain:
                merged.extend([value] if value.items is None else value.items)
                continue
            here = (*path, key.text)
            if key.text in found:
                self._count_one(key.line)
                first = self._document.lines[here]
                self._document.lines[here] = key.line  # the fault is at the second one
                self._document.fault(here, "this key stands here for the second time", f"the first one is in line {first}")
                continue
            self._document.lines.setdefault(here, key.line)
            found[key.text] = self._value(value, here)
        for other in merged:
            self._merge(other, path, found)
        return found

    def _merge(self, node: _Node, path: KeyPath, found: dict[str, Any]) -> None:
        """YAML's merge key (`<<: *anchor`): what is written here wins over what is merged, earlier over later."""
        value = self._value(node, path)
        if not isinstance(value, dict):
            self._document.fault((*path, "<<"), "only mappings can be merged")
            return
        for key, inner in value.items():
            found.setdefault(key, inner)

    def _scalar(self, node: _Node, path: KeyPath) -> Any:
        assert node.text is not None
        if "$" not in node.text or self._is_literal:
            return typed(node.text) if node.is_plain else node.text
        try:
            text, is_whole = self._substitution.expand(node.text)
        except Unresolved as error:
            self._document.unresolved(path, str(error), error.hint)
            return None
        if not (is_whole and node.is_plain):
            return text
        return self._typed_value(text, node.line, path)

    def _typed_value(self, text: str, line: int, path: KeyPath) -> Any:
        """
        What `key: ${…}` stands for: read by YAML's rules, as if the text stood there, but never cut short by them.

        A text that is neither a collection nor in quotes is taken as it is, with its `#` and `*`: it may be a password.
        """
        if text[:1] not in ("{", "[", '"', "'") and ": " not in text and "\n" not in text:
            return typed(text)
        try:
            node = _parse(text)
        except _Unreadable:
            return text
        if node.text is not None and node.is_plain:
            return text
        self._relocate(node, line)
        return self._literal(node, path)

    def _relocate(self, node: _Node, line: int) -> None:
        waiting, seen = [node], {id(node)}
        while waiting:  # each node once, however many aliases lead to it
            node = waiting.pop()
            node.line = line
            inner = node.items or [part for pair in node.pairs or () for part in pair]
            waiting += [each for each in inner if id(each) not in seen]
            seen.update(map(id, inner))

    def _literal(self, node: _Node, path: KeyPath) -> Any:
        """The value of a substituted text, in which nothing is substituted again."""
        self._is_literal = True
        try:
            return self._value(node, path)
        finally:
            self._is_literal = False

"""
The settings of a spec, as a person sees them: name, type, default, and the text under the field in the source.

One place knows how an annotation is to be read; the reader of configs, the list of components and the checks ask it.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sidecar.model.spec import Duration, Secret, Size, Spec


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a spec; `default` is meaningless where it `is_required`."""

    name: str
    annotation: Any
    default: Any
    is_required: bool


def is_spec(kind: Any) -> bool:
    """Whether this is a class whose fields are settings."""
    return isinstance(kind, type) and issubclass(kind, Spec) and dataclasses.is_dataclass(kind)


@functools.cache
def settings_of(kind: type) -> dict[str, Setting]:
    """The settings of a spec by name, in the order of the source."""
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found[field.name] = Setting(field.name, hints[field.name], default, default is MISSING)
    return found


@functools.cache
def docs_of(kind: type) -> dict[str, str]:
    """The texts under the fields of a spec and of its bases, each on one line; what has no source has no texts."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[name] = " ".join(doc.split())
    return docs


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone; what `Annotated` adds is left out."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def inner(annotation: Any, key: str | int) -> Any:
    """What a setting of this annotation holds at a key or an index; None where that cannot be said."""
    for kind in alternatives(annotation):
        if is_spec(kind) and key in settings_of(kind):
            return settings_of(kind)[str(key)].annotation
        arguments = get_args(kind)
        if get_origin(kind) is dict:
            return arguments[1]
        if get_origin(kind) in (tuple, list):
            is_alike = len(arguments) == 1 or arguments[-1] is ...
            return arguments[0] if is_alike else arguments[key] if isinstance(key, int) and key < len(arguments) else None
    return None


def spec_in(annotation: Any) -> type | None:
    """The spec among the alternatives of an annotation."""
    return next((kind for kind in alternatives(annotation) if is_spec(kind)), None)


def walk(kind: type, prefix: str = "") -> Iterator[tuple[str, Setting, str]]:
    """
    Every setting of a spec and of the specs in it, with its path and its text: `tls.ca_file`, `routes.*.upstream`.

    A setting that holds another spec is told by that one's settings; only where it may be left out it is told itself, too.
    """
    for setting in settings_of(kind).values():
        path = f"{prefix}{setting.name}"
        below, between = spec_in(setting.annotation), "."
        if below is None and (held := inner(setting.annotation, "*")) is not None and spec_in(held):
            below, between = spec_in(held), ".*."
        if below is None or between == ".*." or setting.default is None:
            yield path, setting, docs_of(kind).get(setting.name, "")
        if below is not None:
            yield from walk(below, f"{path}{between}")


_WORDS: dict[Any, str] = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything", type(None): "null",
    Duration: "duration", Size: "size", Secret: "secret",
}  # fmt: skip


def type_text(annotation: Any) -> str:
    """An annotation in words: `duration`, `list of text`, `'tunnel' or 'deny'`."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    if is_spec(annotation):
        return "mapping"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is dict:
        return f"map of {type_text(arguments[1])}"
    if origin in (tuple, list):
        return f"list of {type_text(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(kind) for kind in arguments if kind is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(repr(member.value) for member in annotation)
    return str(getattr(annotation, "__name__", annotation))

"""
From what was written to specs: a value and a spec's class go in, an instance comes out, or faults at their places.

Pydantic's core does the work; its schema is made here, from the dataclass, because the rest of pydantic would cost every
start some 60 ms and 8 MiB. A spec that uses more than `_schema` knows (or is no `Spec`) is read by pydantic's `TypeAdapter`.
Two rules are the Collector's: null stands for the defaults of what holds settings, and a null setting was not written.
"""

import dataclasses
import functools
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic_core import SchemaValidator, ValidationError

from sidecar.runtime.components import closest, meant
from sidecar.runtime.document import Document, KeyPath
from sidecar.runtime.scalars import bare
from sidecar.runtime.settings import alternatives, docs_of, inner, is_spec, settings_of, spec_in, type_text


def read_spec(kind: type, value: Any, document: Document, path: KeyPath) -> Any:
    """Make a `kind` of a value; None when that is impossible, and then the document has the faults."""
    prepared = _without_nulls(kind, {} if value is None else value)
    try:
        return _validator(kind)(prepared)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _note(kind, details, document, path)
        return None


def _without_nulls(annotation: Any, value: Any) -> Any:
    """The value with null replaced by {} where a spec is wanted, and left out where a setting cannot be null."""
    spec = spec_in(annotation)
    if value is None and spec is not None:
        return {}
    if isinstance(value, dict):
        prepared = {key: _without_nulls(inner(annotation, key), held) for key, held in value.items()}
        if spec is None:
            return prepared
        return {key: held for key, held in prepared.items() if held is not None or _may_be_null(inner(annotation, key))}
    if isinstance(value, list):
        return [_without_nulls(inner(annotation, index), held) for index, held in enumerate(value)]
    return value


def _may_be_null(annotation: Any) -> bool:
    return annotation is None or any(kind in (Any, type(None)) for kind in alternatives(annotation))


class _Unusual(Exception):
    """An annotation that only the whole of pydantic can read."""


@functools.cache
def _validator(kind: type) -> Callable[[Any], Any]:
    try:
        return SchemaValidator(_schema(kind)).validate_python
    except _Unusual:
        from pydantic import TypeAdapter  # heavy, and only needed here

        return TypeAdapter(kind).validate_python


def _schema(annotation: Any) -> Any:
    """The core schema of an annotation (pydantic_core.core_schema documents the dictionaries)."""
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if hasattr(annotation, "__get_pydantic_core_schema__") and not hasattr(annotation, "__pydantic_core_schema__"):  # no model
        return annotation.__get_pydantic_core_schema__(annotation, _schema)
    if is_spec(annotation):
        return _spec_schema(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"type": "literal", "expected": list(arguments)}
    if origin is dict:
        return {"type": "dict", "keys_schema": _schema(arguments[0]), "values_schema": _schema(arguments[1])}
    if origin is list:
        return {"type": "list", "items_schema": _schema(arguments[0])}
    if origin is tuple:
        return _tuple_schema(arguments)
    if len(kinds := alternatives(annotation)) > 1:
        choices = [_schema(kind) for kind in kinds if kind is not type(None)]
        chosen = choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
        return {"type": "nullable", "schema": chosen} if type(None) in kinds else chosen
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"type": "enum", "cls": annotation, "members": list(annotation), "sub_type": "str"}
    raise _Unusual(annotation)


def _tuple_schema(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments[-1] is ...:
        return {"type": "tuple", "items_schema": [_schema(arguments[0])], "variadic_item_index": 0}
    return {"type": "tuple", "items_schema": [_schema(kind) for kind in arguments]}


def _spec_schema(kind: type) -> dict[str, Any]:
    fields = []
    for field in dataclasses.fields(kind):
        schema = _schema(settings_of(kind)[field.name].annotation)
        if field.default is not dataclasses.MISSING:
            schema = {"type": "default", "schema": schema, "default": field.default}
        elif field.default_factory is not dataclasses.MISSING:
            schema = {"type": "default", "schema": schema, "default_factory": field.default_factory}
        fields.append({"type": "dataclass-field", "name": field.name, "schema": schema})
    return {
        "type": "dataclass",
        "cls": kind,
        "config": {"extra_fields_behavior": "forbid", "coerce_numbers_to_str": True, "allow_inf_nan": False},
        "fields": [field["name"] for field in fields],
        "post_init": hasattr(kind, "__post_init__"),
        "slots": True,
        "schema": {"type": "dataclass-args", "dataclass_name": kind.__name__, "fields": fields},
    }


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("has to be a number")  # no TypeError: pydantic collects ValueErrors only
    return value


def _number(kind: str) -> dict[str, Any]:
    """A number that is not `true` (which pydantic, like Python, takes for 1)."""
    return {"type": "function-before", "function": {"type": "no-info", "function": _no_truth}, "schema": {"type": kind}}


_SIMPLE: dict[Any, Any] = {
    str: {"type": "str"},
    int: _number("int"),
    float: _number("float"),
    bool: {"type": "bool"},
    type(None): {"type": "none"},
    Any: {"type": "function-plain", "function": {"type": "no-info", "function": bare}},
}


@dataclasses.dataclass(slots=True)
class _Place:
    """Where an error of pydantic is: the path below the spec, what is expected there, and which setting of which spec it is."""

    path: KeyPath
    annotation: Any
    holder: type | None = None
    setting: str = ""


def _place(kind: type, location: tuple[str | int, ...]) -> _Place:
    """Walk down a location of pydantic, which also names the members of unions that it tried."""
    place = _Place((), kind)
    tried: Any = kind
    for key in location:
        kinds = [kind for kind in alternatives(tried) if kind is not type(None)]
        if len(kinds) > 1:
            tried = next((kind for kind in kinds if getattr(kind, "__name__", "") == key), None)
            continue
        place.holder, place.setting = (spec, str(key)) if (spec := spec_in(tried)) else (place.holder, place.setting)
        place.path = (*place.path, key)
        place.annotation = tried = inner(tried, key)
    return place


def _note(kind: type, details: Any, document: Document, path: KeyPath) -> None:
    """One error of pydantic as a fault: where it is in the document, what is wrong, and what would be right."""
    place = _place(kind, details["loc"])
    document.fault((*path, *place.path), _problem(details, place), _hint(details, place))


def _hint(details: Any, place: _Place) -> str:
    if place.holder is None:
        return ""
    if details["type"] == "unexpected_keyword_argument":
        return closest(place.setting, settings_of(place.holder))
    if details["type"] == "literal_error":
        allowed = [str(word) for kind in alternatives(place.annotation) for word in get_args(kind)]
        return meant(str(details["input"]), allowed)
    if details["type"] == "string_type" and isinstance(details["input"], bool):
        return "put it in quotes"
    if details["type"] == "value_error" and spec_in(place.annotation):
        return ""  # a rule between the settings of a spec says it all
    return docs_of(place.holder).get(place.setting, "")


_PROBLEMS = {
    "unexpected_keyword_argument": "unknown setting",
    "missing": "this setting is missing",
    "missing_argument": "this setting is missing",
    "missing_keyword_only_argument": "this setting is missing",
    "dataclass_type": "has to be a mapping of settings",
    "dict_type": "has to be a mapping",
    "tuple_type": "has to be a list",
    "list_type": "has to be a list",
    "string_type": "has to be a text",
    "bool_type": "has to be true or false",
    "bool_parsing": "has to be true or false",
    "int_type": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_type": "has to be a number",
    "float_parsing": "has to be a number",
    "finite_number": "has to be a finite number",
}


def _problem(details: Any, place: _Place) -> str:
    kind = details["type"]
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if len(place.path) < len(details["loc"]):
        return f"has to be {type_text(place.annotation)}"
    if kind == "literal_error":
        return f"has to be {details['ctx']['expected']}"
    return _PROBLEMS.get(kind) or str(details["msg"]).replace("Input should be", "has to be")

"""
Which dialect a request is in: the one that the config names, or the first that knows the request by its head.

`auto` asks every dialect of `IN_ORDER`; the paths of the providers differ enough. JSON-RPC of A2A 0.3 cannot be told by a
head at all, and that of MCP before it had fields of its own only by what its clients accept: what looks like either is a guess,
which the caller makes for short bodies only and forgets when the body is none. A route that names its dialect guesses nothing.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import cast

from sidecar.dialects.dialect import Dialect, Heading
from sidecar.dialects.either import Either

AUTO = "auto"
PLAIN = "plain"

IN_ORDER = ("anthropic", "gemini", "bedrock", "openai", "cohere", "ollama", "mcp", "a2a")
"""
Who is asked, one after the other; those that know a request by more than its path come where they do not mistake another's
for theirs.
"""

_QUESTIONS = (*Dialect.__annotations__, *(question for question in vars(Dialect) if not question.startswith("_")))

_GUESSES = {"mcp": "maybe", "a2a": "message"}
"""The operation that a head alone gives to what may be a message of this dialect."""
_NAMED = {("mcp", "maybe"): "message"}
"""What the operation is where the config has said that it is one."""


@dataclass(slots=True)
class Recognised:
    """Who reads a request and what its head asks for; `is_guess` where only the body can tell whether that is so."""

    dialect: Dialect
    operation: str
    is_guess: bool


@cache
def dialect_named(name: str) -> Dialect:
    """Load a dialect: a module of this folder, or, with a dot in its name, somebody else's; raises ImportError."""
    module = importlib.import_module(name if "." in name else f"sidecar.dialects.{name}")
    return cast(Dialect, module)  # a test holds every module of the folder against the contract


def load() -> None:
    """Load every dialect, so that the first call need not wait for it; 100 ms, which a thread may spend."""
    for name in IN_ORDER:
        dialect_named(name)


def is_dialect(name: str) -> bool:
    """True where a module of this name can be imported and answers every question of the contract."""
    try:
        module = dialect_named(name)
    except ImportError:
        return False
    return all(hasattr(module, question) for question in _QUESTIONS)


def recognise(setting: str, heading: Heading) -> Recognised | None:
    """Return who reads a request, None for nobody; `setting` is `auto`, `plain` or a dialect's name."""
    if setting == PLAIN:
        return None
    if setting != AUTO:
        dialect = dialect_named(setting)
        operation = dialect.operation(heading)
        return Recognised(dialect, _NAMED.get((setting, operation), operation), is_guess=False) if operation else None
    guesses: list[tuple[Dialect, str]] = []
    for name in IN_ORDER:
        dialect = dialect_named(name)
        operation = dialect.operation(heading)
        if operation and operation == _GUESSES.get(name):
            guesses.append((dialect, operation))
        elif operation:
            return Recognised(dialect, operation, is_guess=False)
    if len(guesses) > 1:
        return Recognised(Either(guesses), guesses[0][1], is_guess=True)
    return Recognised(*guesses[0], is_guess=True) if guesses else None

"""
What makes a long body long: a few members (messages, tools, a system prompt) whose lengths are known since it was read.

    asked = weighed(asked, body, messages=told.messages, tools=told.tools)       # of a short body: the same object
    short = shortened(body, bulk_in(asked))                                      # `{"model": "m", "messages": null}`

Without them the rest is a short text. Places in it are found without another pass over all of it, and are places in the body.
"""

from dataclasses import dataclass, field, fields

import msgspec

from sidecar.dialects.lenient import raw_size
from sidecar.model.asked import Asked, ModelAsked

Bulk = tuple[tuple[str, int], ...]
"""Names and lengths of long members of the outermost object."""

LONG_BYTES = 64 * 1024
"""A body above this is long."""

_LEAST_BYTES = 4 * 1024  # a shorter member is no bulk
_MOST_REST_BYTES = 64 * 1024  # in front of, between and behind long members
_MOST_TRIES = 8
_WHITE = b" \t\n\r"
_NULL = b"null"
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class LongAsked(ModelAsked):
    """A request to a model whose body is long, and what makes it so."""

    bulk: Bulk = field(default=(), compare=False, repr=False)


def weighed(asked: ModelAsked, body: bytes, **members: msgspec.Raw) -> ModelAsked:
    """Return what is asked for with the bulk of the body, of which these members may be; the same object for a short body."""
    if len(body) <= LONG_BYTES:
        return asked
    return LongAsked(**{each.name: getattr(asked, each.name) for each in fields(asked)}, bulk=bulk_of(body, **members))


def bulk_of(body: bytes, **members: msgspec.Raw) -> Bulk:
    """Return which of these members make a body long; none of a short one."""
    if len(body) <= LONG_BYTES:
        return ()
    sizes = ((name, raw_size(raw)) for name, raw in members.items())
    return tuple((name, size) for name, size in sizes if size >= _LEAST_BYTES)


def bulk_in(asked: Asked) -> Bulk:
    """Return what makes the body of this request long, as far as that is known."""
    return asked.bulk if isinstance(asked, LongAsked) else ()


@dataclass(slots=True)
class Shortened:
    """A body in which `null` stands for each long member; `cuts` are where such a `null` ends, and what it is shorter by."""

    text: bytes
    cuts: list[tuple[int, int]]

    def place(self, at: int) -> int:
        """Return where in the body it is that this is in the text."""
        return at + sum(less for end, less in self.cuts if end <= at)


def shortened(body: bytes, bulk: Bulk) -> Shortened | None:
    """
    Return a body without its bulk, None where that is not short, or not sure to be it.

    The lengths are those of the last members of these names, as decoders have it. What was cut at another place would leave no
    JSON, or the member that was meant.
    """
    text, at = b"", 0
    cuts: list[tuple[int, int]] = []
    lengths = dict(bulk)
    while lengths:
        window = body[at : at + _MOST_REST_BYTES]
        found = _first(text, window, lengths)
        if found is None:
            break
        name, begin = found
        length = lengths.pop(name)
        text += window[:begin] + _NULL
        cuts.append((len(text), length - len(_NULL)))
        at += begin + length
    if not cuts or len(body) - at > _MOST_REST_BYTES:
        return None
    text += body[at:]
    try:
        members = _members(text)
    except _BROKEN:
        return None
    is_sure = all(bytes(members[name]) == _NULL for name, _ in bulk if name not in lengths)
    return Shortened(text, cuts) if is_sure else None


def _first(before: bytes, window: bytes, names: dict[str, int]) -> tuple[str, int] | None:
    """Which of these members begins first behind `before`, and where in the window its value does."""
    found = [(at, name) for name in names for at in _places(window, b'"%b"' % name.encode())]
    for at, name in sorted(found)[:_MOST_TRIES]:
        value = window[at + len(name) + 2 :].lstrip(_WHITE)
        if value[:1] == b":" and _is_outermost(before + window[:at]):
            value = value[1:].lstrip(_WHITE)
            return name, len(window) - len(value)
    return None


def _places(window: bytes, name: bytes) -> list[int]:
    places: list[int] = []
    at = window.find(name)
    while at >= 0 and len(places) < _MOST_TRIES:
        places.append(at)
        at = window.find(name, at + 1)
    return places


def _is_outermost(text: bytes) -> bool:
    """Whether what comes behind this text is a member of the outermost object: with a brace it is an object by itself."""
    text = text.rstrip(_WHITE)
    if text[-1:] == b",":
        text = text[:-1]
    elif text[-1:] != b"{":
        return False
    try:
        _members(text + b"}")
    except _BROKEN:
        return False
    return True

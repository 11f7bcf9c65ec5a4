"""
Changes to a JSON text at one place: every byte that is not meant stays as it came.

A place is a path of member names and indices, `("stream_options", "include_usage")`. The text is walked level by level: msgspec
checks it, and says how long each value is, in C; only the names of the objects on the path are looked at here.

A long text whose place is near its end, or whose bulk is known since it was read, is not walked at all; that it is JSON is
taken for granted then, as who changes a text has read it.
"""

import re

import msgspec

from sidecar.dialects.bulk import Bulk, shortened
from sidecar.dialects.dialect import Unreadable

Path = tuple[str | int, ...]

_MOST_MEMBERS = 10_000
_MARKED_BYTES, _MOST_MARKS = 1 << 20, 250_000
_MOST_WALKED_BYTES = 6 << 20
_NEAR_BYTES = 64 * 1024
_APPENDED_BYTES = 512  # what was appended to a text since it was read stands in its last bytes
_WHITE = b" \t\n\r"
_MOST_TRIES = 8
_SENTINEL = b'"\\u0000\\u0000"'
_DEEPEST = 512
_MOST_SCANNED_BYTES = 1 << 18  # of an object in which a name stands twice: these are walked by Python, a hundred times slower
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE = re.compile(rb"[ \t\n\r]*")
_SCALAR = re.compile(rb"[^ \t\n\r,\]}]*")
_STRUCTURE = re.compile(rb'["\[\]{}]')

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_Member = tuple[str | int, int, int, int]
"""Name or index, where the name (of an array's item: the value) begins, where the value begins, and where it ends."""


def find(body: bytes, path: Path) -> tuple[int, int] | None:
    """Return where the value at `path` stands, [start, end); None where there is none. Of equal names the last counts."""
    near = _near(body, path[0]) if len(body) > _NEAR_BYTES and path else None
    if near is not None:
        inner = find(body[slice(*near)], path[1:]) if len(path) > 1 else (0, near[1] - near[0])
        return (near[0] + inner[0], near[0] + inner[1]) if inner is not None else None
    start, end = _trimmed(body)
    if not path or body[start] not in b"{[":
        _check(body)
    for step in path:
        if body[start] not in b"{[":
            return None
        member = _last(_members(body, start, end), step)
        if member is None:
            return None
        start, end = member[2:]
    return start, end


def places(body: bytes, names: tuple[str, ...], bulk: Bulk = ()) -> dict[str, tuple[int, int]]:
    """
    Return where several members of the outermost object have their values, in one walk; without those that are absent.

    `bulk` is what is known to make the body long; none of the names is of it.
    """
    short = shortened(body, bulk) if bulk else None
    if short is not None:
        return {name: (short.place(begin), short.place(end)) for name, (begin, end) in places(short.text, names).items()}
    start, end = _trimmed(body)
    if body[start] != 0x7B:
        raise Unreadable("no JSON object")
    return {str(step): (begin, stop) for step, _, begin, stop in _members(body, start, end) if step in names}


def put(body: bytes, path: Path, value: bytes, bulk: Bulk = ()) -> bytes:
    """
    Return the text with the JSON text `value` at `path`: in the place of what is there, or as the last member of its object.

    Objects on the way that are missing (or null) are made. `bulk` is what is known to make the body long; the path leads into
    none of it. Raises `Unreadable` where something else is in the way.
    """
    short = shortened(body, bulk) if bulk else None
    if short is not None:
        (start, end), made = _put(short.text, path, value)
        return swap(body, (short.place(start), short.place(end)), made)
    near = _near(body, path[0]) if len(body) > _NEAR_BYTES and path else None
    if near is not None:
        inner = _made(body[slice(*near)], path[1:], value)
        return swap(body, near, inner)
    return swap(body, *_put(body, path, value))


def _put(body: bytes, path: Path, value: bytes) -> tuple[tuple[int, int], bytes]:
    """What has to be swapped, and for what."""
    start, end = _trimmed(body)
    for at, step in enumerate(path):
        if body[start] != (0x7B if isinstance(step, str) else 0x5B):
            if at and body[start:end] == b"null":
                return (start, end), _nested(path[at:], value)
            raise Unreadable("another kind of value is in the way")
        members = _members(body, start, end)
        member = _last(members, step)
        if member is None:
            place = members[-1][3] if members else start + 1
            comma = b"," if members else b""
            return (place, place), comma + _nested(path[at:], value)[1:-1]
        start, end = member[2:]
    return (start, end), value


def swap(body: bytes, place: tuple[int, int], value: bytes) -> bytes:
    """Return the text with something else at a place that `find` has told."""
    view = memoryview(body)  # so that a large text is copied once
    return b"".join((view[: place[0]], value, view[place[1] :]))


def append(body: bytes, name: str, value: bytes) -> bytes | None:
    """
    Return the object with one more member at its end, without looking at those that it has: at the cost of a copy.

    The caller has read the text, and knows that no member of this name was in it. None where one may have been appended since:
    then `find` and `put` know what to do. Raises `Unreadable` where the text does not end like an object.
    """
    end = _last_of(body, len(body))
    if end < 1 or body[end] != 0x7D:
        raise Unreadable("no JSON object")
    named = _name(name)
    if body.find(named, max(end - _APPENDED_BYTES, 0)) >= 0:
        return None
    last = _last_of(body, end)
    view = memoryview(body)
    return b"".join((view[: last + 1], b"" if body[last] == 0x7B else b",", named, b":", value, view[last + 1 :]))


def _last_of(body: bytes, end: int) -> int:
    """Where the last byte before `end` stands that is no white space; what is before very much of that is not looked for."""
    if not end or body[end - 1] not in _WHITE:
        return end - 1
    least = max(end - _NEAR_BYTES, 0)
    return least + len(body[least:end].rstrip(_WHITE)) - 1


def remove(body: bytes, path: Path) -> bytes:
    """Return the text without the member at `path`, however often its name stands there; the same object where it is absent."""
    if not path:
        raise Unreadable("the whole text cannot be removed")
    parent = find(body, path[:-1])
    if parent is None or body[parent[0]] not in b"{[":
        return body
    members = _members(body, *parent)
    parts: list[bytes] = []
    done = 0
    is_first = True
    for at, (step, named, _, end) in enumerate(members):
        if step != path[-1]:
            is_first = False
            continue
        # The comma before it goes too; where nothing stands before it, the comma behind it.
        if not is_first:
            cut = members[at - 1][3], end
        else:
            cut = named, members[at + 1][1] if at + 1 < len(members) else end
        parts.append(body[done : cut[0]])
        done = cut[1]
    return b"".join((*parts, body[done:])) if parts else body


def _near(body: bytes, step: str | int) -> tuple[int, int] | None:
    """
    Where the last member of this name in the outermost object has its value, if that is near the end.

    What stands from such a name on is, with a brace before it, an object by itself; in a JSON text that is so for no other place.
    """
    if not isinstance(step, str):
        return None
    name = _name(step)
    least = len(body) - _NEAR_BYTES
    at = body.rfind(name, least)
    for _ in range(_MOST_TRIES):
        if at < 0:
            return None
        try:
            raw = _OBJECT.decode(b"{" + body[at:])[step]
            begin = _after_space(body, _after_space(body, at + len(name)) + 1)
            end = begin + memoryview(raw).nbytes
            # It may be the end of a name that has a quote in it, or come again with escapes in it, where that value counts.
            others = _OBJECT.decode(b"{%b:%b%b" % (name, _SENTINEL, body[end:]))
            is_last = body[at - 1] != 0x5C and bytes(others[step]) == _SENTINEL
        except _BROKEN:
            at = body.rfind(name, least, at)
            continue
        return (begin, end) if is_last else None
    return None


def _made(value_there: bytes, path: Path, value: bytes) -> bytes:
    """The value that takes the place of one which stands there."""
    if not path:
        return value
    if value_there == b"null":
        return _nested(path, value)
    return put(value_there, path, value)


def _trimmed(body: bytes) -> tuple[int, int]:
    if len(body) > _MOST_WALKED_BYTES:
        raise Unreadable("too much to be looked through")
    start = _after_space(body, 0)
    end = max(start, len(body.rstrip(_WHITE)))
    if start == end:
        raise Unreadable("nothing is there")
    return start, end


def _check(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except _BROKEN as error:
        raise Unreadable("not JSON") from error


def _last(members: list[_Member], step: str | int) -> _Member | None:
    return next((member for member in reversed(members) if member[0] == step), None)


def _nested(path: Path, value: bytes) -> bytes:
    for step in reversed(path):
        if not isinstance(step, str):
            raise Unreadable("an item cannot be made")
        value = b"{" + _name(step) + b":" + value + b"}"
    return value


def _name(step: str) -> bytes:
    return msgspec.json.encode(step)


def _after_space(body: bytes, at: int) -> int:
    if body[at : at + 1] in (b'"', b",", b":"):
        return at
    match = _SPACE.match(body, at)
    assert match is not None
    return match.end()


def _members(body: bytes, start: int, end: int) -> list[_Member]:
    """What is in the object or array that stands at [start, end)."""
    view = memoryview(body)[start:end]
    if end - start > _MARKED_BYTES:
        _bound(body, start, end)
    try:
        if body[start] == 0x5B:
            items = _ARRAY.decode(view)
            if len(items) > _MOST_MEMBERS:
                raise Unreadable("too many items")
            return _items(body, start, items)
        raws = _OBJECT.decode(view)
    except _BROKEN as error:
        raise Unreadable("not JSON, or nested too deeply") from error
    if len(raws) > _MOST_MEMBERS:
        raise Unreadable("too many members")
    members = _measured(body, start, raws)
    if members is None:
        if end - start > _MOST_SCANNED_BYTES:
            raise Unreadable("a name stands twice in a large object")
        members = _scanned(body, start)
    return members


def _bound(body: bytes, start: int, end: int) -> None:
    """Raise for what would be a walk of many milliseconds: each member becomes an object, and nesting is slow to leap over."""
    is_object = body[start] == 0x7B
    members = body.count(b'":' if is_object else b",", start, end)
    if members > _MOST_MARKS or body.count(b"[", start, end) > _MOST_MARKS:
        raise Unreadable("too much to be looked through")


def _items(body: bytes, start: int, items: list[msgspec.Raw]) -> list[_Member]:
    members: list[_Member] = []
    at = start + 1
    for index, item in enumerate(items):
        begin = _after_space(body, at)
        end = begin + memoryview(item).nbytes
        members.append((index, begin, begin, end))
        at = _after_space(body, end) + 1
    return members


def _measured(body: bytes, start: int, raws: dict[str, msgspec.Raw]) -> list[_Member] | None:
    """Members by the lengths that msgspec told; None where names stand twice, as it then told only the last one's."""
    members: list[_Member] = []
    at = _after_space(body, start + 1)
    for key, raw in raws.items():
        named = at
        after_name = _string_end(body, named)
        if _text(body, named, after_name) != key:
            return None
        begin = _after_space(body, _after_space(body, after_name) + 1)
        value = bytes(raw)
        end = begin + len(value)
        at = _after_space(body, end)
        if not body.startswith(value, begin) or body[at] not in b",}":
            return None
        members.append((key, named, begin, end))
        if body[at] == 0x2C:
            at = _after_space(body, at + 1)
    return members if body[at] == 0x7D else None


def _scanned(body: bytes, start: int) -> list[_Member]:
    """Members by their own look; the text is known to be JSON."""
    members: list[_Member] = []
    at = _after_space(body, start + 1)
    while body[at] != 0x7D:
        if len(members) == _MOST_MEMBERS:
            raise Unreadable("too many members")
        named = at
        at = _string_end(body, named)
        key = _text(body, named, at)
        begin = _after_space(body, _after_space(body, at) + 1)
        end = _value_end(body, begin)
        members.append((key, named, begin, end))
        at = _after_space(body, end)
        if body[at] == 0x2C:
            at = _after_space(body, at + 1)
    return members


def _text(body: bytes, start: int, end: int) -> str:
    raw = body[start:end]
    return msgspec.json.decode(raw, type=str) if b"\\" in raw else raw[1:-1].decode()


def _string_end(body: bytes, start: int) -> int:
    at = start
    while True:
        at = body.index(b'"', at + 1)
        before = at - 1
        while body[before] == 0x5C:
            before -= 1
        if (at - before) % 2:
            return at + 1


def _value_end(body: bytes, start: int) -> int:
    if body[start] == 0x22:
        return _string_end(body, start)
    if body[start] not in b"{[":
        match = _SCALAR.match(body, start)
        assert match is not None
        return match.end()
    depth = 0
    at = start
    while True:
        found = _STRUCTURE.search(body, at)
        assert found is not None
        at = found.end()
        kind = body[at - 1]
        if kind == 0x22:
            at = _string_end(body, at - 1)
        elif kind in b"{[":
            depth += 1
            if depth > _DEEPEST:
                raise Unreadable("nested too deeply")
        else:
            depth -= 1
            if not depth:
                return at

"""
JSON-RPC 2.0 as MCP and A2A speak it: messages taken apart as far as somebody needs them, and errors written.

    message, count = described(body)         # of a batch the first request, and how many messages there are
    if message.kind is Kind.REQUEST: ...     # text(message.method), the parameters still as raw JSON

Every member stays raw JSON until somebody asks for it, so a member of the wrong type costs that member and nothing else. A
struct of such members is read by `members`; in JSON that has a name twice, the last one counts. What is no JSON at all, or
nested deeper than the decoder goes, raises `Unreadable`.

Source: https://www.jsonrpc.org/specification; batches are part of MCP 2025-03-26 only, and never were of A2A.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from sidecar.dialects.dialect import Unreadable
from sidecar.dialects.lenient import LONG_BYTES, MOST_SECOND_TRY_BYTES, is_crowded, is_object
from sidecar.dialects.unfinished import finished
from sidecar.model.errors import Refused

MOST_TEXT = 256
"""Characters of a name or id that are kept."""
MOST_MESSAGE = 512
"""Characters of an error's message that are kept."""
MOST_OBJECTS = 10_000
"""Objects that a batch may have, at any depth, to be taken apart."""

SIDECAR_ERROR = -32019
"""
The code of the sidecar's own errors, whose word stands in `data`.

The last of the band that is left to implementations (-32000 to -32019, https://modelcontextprotocol.io, error codes of
2026-07-28); SDKs of MCP use -32000 to -32002 of it and A2A -32001 to -32009.
"""

_LONGEST_KEY = 8 * 1024  # bytes; a longer id is nobody's

NOTHING = Raw(b"")
"""A member that is not there."""

_HEAD_BYTES = 4096
_PARAMS = re.compile(rb'"params"[ \t\r\n]*:[ \t\r\n]*\{')
_ESCAPE_BYTES = 6
_PER_CHARACTER = 2 * _ESCAPE_BYTES  # bytes, at most: one for each half of a pair
_WHITE = b" \t\r\n"
_QUOTE = b'"'


class Kind(Enum):
    """What a message is, by its members."""

    REQUEST = auto()
    NOTIFICATION = auto()
    RESPONSE = auto()
    OTHER = auto()


class Message(msgspec.Struct, gc=False):
    """One message; what is not in it is `NOTHING`."""

    id: Raw = NOTHING
    method: Raw = NOTHING
    params: Raw = NOTHING
    result: Raw = NOTHING
    error: Raw = NOTHING

    @property
    def kind(self) -> Kind:
        """A request has method and id, a notification a method only, and a response neither method nor nothing."""
        if self.method:
            return Kind.REQUEST if has_id(self.id) else Kind.NOTIFICATION
        return Kind.RESPONSE if self.result or self.error else Kind.OTHER


class _Error(msgspec.Struct, gc=False):
    code: Raw = NOTHING
    message: Raw = NOTHING


S = TypeVar("S", bound=msgspec.Struct)

_one = msgspec.json.Decoder(Message).decode
_several = msgspec.json.Decoder(list[Message]).decode
_error = msgspec.json.Decoder(_Error)
_encode = msgspec.json.Encoder().encode


def is_as_usual(body: bytes) -> bool:
    """
    Whether a body looks like one message with an object as its parameters, which one typed decode reads.

    Asked for the sake of long ones only: a text of many megabytes in the place of an object would be decoded before anybody said
    that it is none. Raises `Unreadable` for what is too crowded to be read at all.
    """
    if len(body) <= LONG_BYTES:
        return True
    if is_crowded(body):
        raise Unreadable("more lists and objects than anybody means")
    return is_object(body) and _PARAMS.search(body, 0, _HEAD_BYTES) is not None


def check_again(body: bytes) -> None:
    """Raise `Unreadable` for a body that did not fit, and is too long to be read a second time."""
    if len(body) > MOST_SECOND_TRY_BYTES:
        raise Unreadable("too much to be read again, member by member")


def described(body: bytes) -> tuple[Message, int]:
    """
    Return the message that a body is about and how many messages it holds; of a batch it is the first request, else the first.

    Raises `Unreadable` for what is no message, an empty batch, a batch of more than `MOST_OBJECTS`, and a body whose bulk are
    brackets and names.
    """
    found = messages(body)
    for message in found:
        if message.kind is Kind.REQUEST:
            return message, len(found)
    return found[0], len(found)


def messages(body: bytes) -> list[Message]:
    """Return the messages of a body, which are several in a batch; raises as `described`."""
    if is_crowded(body):
        raise Unreadable("more lists and objects than anybody means")
    try:
        if body[:1] == b"{":
            return [_one(body)]
        begin = body[:_HEAD_BYTES].lstrip(_WHITE)[:1]
        if begin == b"{":
            return [_one(body)]
        if begin != b"[":  # a long text would be decoded before anybody said that it is no object
            raise Unreadable("no JSON-RPC message")
        if body.count(b"{") > MOST_OBJECTS:
            raise Unreadable(f"the batch has more than {MOST_OBJECTS} objects")
        found = _several(body)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON-RPC message: {type(error).__name__}") from None
    if not found:
        raise Unreadable("the batch is empty")
    return found


def members(raw: Raw | bytes, decoder: "msgspec.json.Decoder[S]", nothing: S) -> S:
    """Read an object whose members are all `Raw`; `nothing` where it is no object, or cannot be read."""
    if not raw or memoryview(raw)[0] != 0x7B:  # a long text would be decoded before anybody said that it is no object
        return nothing
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):
        return nothing


def has_id(raw: Raw | bytes) -> bool:
    """Whether this is an id that somebody will answer to; null counts as none, as MCP has it."""
    return bool(raw) and bytes(raw) != b"null"


def is_text(raw: Raw | bytes) -> bool:
    """Whether this is a string."""
    return bool(raw) and memoryview(raw)[0] == _QUOTE[0]


def text(raw: Raw | bytes, most: int = MOST_TEXT) -> str:
    """Return a string's characters or a number as it is written, cut; "" for everything else."""
    if not raw:
        return ""
    value = bytes(raw)
    if value[:1] == _QUOTE:
        if b"\\" in value:
            return _escaped(value, most)
        return value[1 : 1 + 4 * most].removesuffix(_QUOTE).decode("utf-8", "replace")[:most]
    return value[:most].decode("ascii", "replace") if value[:1].isdigit() or value[:1] == b"-" else ""


def key(raw: Raw | bytes) -> int | float | str | None:
    """
    Return what an id is the same as, however it is written; None where it is none.

    `1` and `"1"` are two ids, `"a"` and `"\\u0061"` are one.
    """
    if not raw or memoryview(raw).nbytes > _LONGEST_KEY or memoryview(raw)[0] in b"{[":
        return None
    try:
        decoded = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, int | float | str) and not isinstance(decoded, bool) else None


def told(raw: Raw | bytes) -> tuple[int, str]:
    """Return code and message of an `error` member: 0 and "" where it does not say."""
    error = members(raw, _error, _Error())
    code = key(error.code) if error.code else 0
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    known = isinstance(code, int) and -(2**31) <= code < 2**31
    return code if known and isinstance(code, int) else 0, text(error.message, MOST_MESSAGE)


def failed(raw_id: bytes, code: int, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """Write an error response; `raw_id` is the request's id as raw JSON, b"" where it has none (null)."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (raw_id or b"null", _encoded(error))


def refusal(raw_id: bytes, refused: Refused) -> bytes:
    """Write an error of the sidecar's own: its code stands in `data`, with whose fault it was and what to do."""
    meaning = refused.meaning
    data: dict[str, Any] = {
        "type": "sidecar_error",
        "code": refused.code,
        "fault": meaning.fault.value,
        "retry": meaning.retry,
        "advice": meaning.advice,
    }
    if refused.retry_after_s is not None:
        data["retry_after_s"] = refused.retry_after_s
    return failed(raw_id, SIDECAR_ERROR, f"{refused.code}: {refused.detail or meaning.advice}", data)


def _encoded(value: Mapping[str, Any]) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a detail that quotes bytes which are no Unicode
        return _encode({name: _clean(member) for name, member in value.items()})


def _clean(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _escaped(value: bytes, most: int) -> str:
    """A string with escapes; one that is no Unicode, as with half a surrogate pair, is nobody's name."""
    longest = _PER_CHARACTER * (most + 1)
    for end in (longest, longest - _ESCAPE_BYTES):  # the first may end between the halves of a pair
        try:
            return msgspec.json.decode(value if len(value) <= longest else finished(value[:end]), type=str)[:most]
        except (ValueError, RecursionError):
            pass
    return ""

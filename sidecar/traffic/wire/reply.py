"""The response as the client gets it: the upstream's own lines, in a framing that this client understands."""

from dataclasses import dataclass, field

from sidecar.traffic.wire.head import CHUNKED, without_framing
from sidecar.traffic.wire.response_head import ResponseHead

_KEEPS = b"\r\nConnection: keep-alive\r\n\r\n"
_CLOSES = b"\r\nConnection: close\r\n\r\n"


@dataclass(slots=True)
class Signature:
    """What a listener adds to each response: its Via for both versions, and a Date where the upstream sent none."""

    via_line: bytes
    via_line_1_0: bytes
    date: bytes
    common_end: bytes = field(init=False)
    """The end of the commonest head: Via and the empty line."""

    def __post_init__(self) -> None:
        self.common_end = self.via_line + b"\r\n\r\n"


def reply_head(head: ResponseHead, signature: Signature, *, keeps_alive: bool, is_1_1: bool) -> bytes:
    """Build the head for a client that speaks HTTP/1.1 or not; `keeps_alive` says whether another request may follow."""
    if head.as_is:
        if head.has_date and keeps_alive and is_1_1:
            return head.as_is + signature.common_end
        out = head.as_is + signature.via_line
    else:
        head.lines[0] = b"HTTP/1.1 " + head.status_line
        out = b"\r\n".join([*head.lines, signature.via_line if head.is_1_1 else signature.via_line_1_0])
    if not head.has_date:
        out += b"\r\nDate: " + signature.date
    if keeps_alive and is_1_1:
        return out + b"\r\n\r\n"
    return out + (_KEEPS if keeps_alive else _CLOSES)


def interim(head: ResponseHead, signature: Signature) -> bytes:
    """Build an interim response (1xx); it has no framing (RFC 9110 section 8.6)."""
    head.lines[0] = b"HTTP/1.1 " + head.status_line
    via_line = signature.via_line if head.is_1_1 else signature.via_line_1_0
    return b"\r\n".join([*without_framing(head.lines), via_line, b"", b""])


def upgraded(head: ResponseHead, protocol: bytes, signature: Signature) -> bytes:
    """Build the 101 that turns the connection over to another protocol."""
    head.lines[0] = b"HTTP/1.1 " + head.status_line
    lines = [*head.lines, b"Connection: Upgrade", b"Upgrade: " + (head.upgrade or protocol), signature.via_line]
    return b"\r\n".join([*lines, b"", b""])


@dataclass(frozen=True, slots=True)
class Framing:
    """
    How a body goes on.

    `relays`: as it came, chunks included; else its content alone. `wraps`: we put content into chunks. `ends_with_connection`:
    only the end of the connection ends it, so there cannot be another request.
    """

    relays: bool = True
    wraps: bool = False
    ends_with_connection: bool = False


AS_IT_CAME = Framing()


def reframe(head: ResponseHead, *, is_1_1: bool, content_only: bool = False) -> Framing:
    """
    Fit the body to the client, and the head's lines to that (RFC 9112 section 6.3).

    `content_only` asks for chunks or an end by the connection whatever the upstream's framing was, because stages change it.
    """
    length = head.length
    if length == 0:
        if head.declared == CHUNKED or head.status == 204:
            head.take_apart()
            head.lines = without_framing(head.lines)  # RFC 9110 section 8.6, RFC 9112 section 6.1
        return AS_IT_CAME
    if is_1_1 and length == CHUNKED and not content_only:
        return AS_IT_CAME
    head.take_apart()
    head.lines = without_framing(head.lines)
    if is_1_1:
        head.lines.append(b"Transfer-Encoding: chunked")
        return Framing(relays=False, wraps=True)
    return Framing(relays=False, ends_with_connection=True)

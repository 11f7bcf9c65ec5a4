"""
What a filter returned, made fit for the wire: whatever it has changed, the message is framed as its body is.

Header fields that frame the message or belong to one hop are the wire's, never a filter's; a status that has no body (RFC 9110
section 6.4.1) gets none. What cannot be mended is `Refused("policy_failed")`, before anything has been written.
"""

import re
from typing import TYPE_CHECKING

from sidecar.model.errors import Refused
from sidecar.traffic.response import Response
from sidecar.traffic.wire.fields import KINDS, Field
from sidecar.traffic.wire.head import CHUNKED, UNTIL_CLOSE, framing_of, without_framing
from sidecar.traffic.wire.reply import AS_IT_CAME, Framing, reframe
from sidecar.traffic.wire.response_head import ResponseHead

if TYPE_CHECKING:
    from sidecar.traffic.wire.listener import Listener

_OF_ONE_HOP = frozenset((int(Field.CONNECTION), int(Field.HOP_BY_HOP), int(Field.UPGRADE)))
_FIELD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_STATUS_LINE = re.compile(rb"[2-5][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_WITHOUT_BODY = frozenset((204, 304))


def end_stages(listener: "Listener", response: Response, error: str) -> bytes:
    """Tell the stages of a response that it was not whole; returns what is still to be written, where that can be."""
    try:
        return response.stages.end(error)
    except Refused as refused:
        count_failed(listener, refused)
        return b""


def count_failed(listener: "Listener", refused: Refused) -> None:
    """Count a stage that failed; one that refuses to go on has not."""
    if refused.code == "policy_failed":
        help_text = "Stages that raised, or gave bytes where there is no body."
        listener.runtime.metrics.counter("traffic.stages.failures", help_text).value += 1


def received_head(response: Response, *, is_head: bool, is_1_1: bool) -> tuple[ResponseHead, Framing]:
    """Return head and framing of an upstream's response as the filters want it; `is_head` for the answer to a HEAD."""
    head = response.head
    assert head is not None
    came = head.lines[1:]
    is_as_it_came = response.fields == came and response.status == head.status and response.status_line == head.status_line
    if is_as_it_came and head.length > 0 and not response.stages:
        return head, AS_IT_CAME  # the commonest case: a filter that only waits, counts or repeats
    without_body = is_head or response.status in _WITHOUT_BODY
    if head.length != 0 and without_body:
        raise Refused("policy_failed", f"a policy made {response.status} of a response that has a body")
    take_fields(head, response)
    is_reframed = framing_of(head.lines) != framing_of(came)
    if head.length == 0:
        if without_body:
            if is_reframed or response.stages or head.declared == CHUNKED or response.status == 204:
                head.lines = without_framing(head.lines)
        elif is_reframed or head.declared != 0:
            head.lines = [*without_framing(head.lines), b"Content-Length: 0"]
        return head, AS_IT_CAME
    if head.length < 0 or response.stages:
        framing = reframe(head, is_1_1=is_1_1, content_only=True)
        head.length = UNTIL_CLOSE  # nobody knows any more; where it ends with the connection, a cut has to be a reset
        return head, framing
    if is_reframed:
        head.lines = [*without_framing(head.lines), b"Content-Length: %d" % head.length]
    return head, AS_IT_CAME


def made_head(response: Response, content: bytes, *, method: bytes) -> ResponseHead:
    """Return the head of a response that a filter has made itself, with `content` as it is after the stages."""
    if not isinstance(content, bytes):
        raise Refused("policy_failed", f"a policy made a body of {type(content).__name__}")
    head = ResponseHead()
    if content and response.status in _WITHOUT_BODY:
        raise Refused("policy_failed", f"a policy made a {response.status} with a body")
    if method == b"CONNECT" and response.status < 300:
        raise Refused("policy_failed", f"a policy made a {response.status} to CONNECT without a tunnel")
    take_fields(head, response)
    head.lines = without_framing(head.lines)
    if response.status not in _WITHOUT_BODY:
        head.lines.append(b"Content-Length: %d" % len(content))
    return head


def take_fields(head: ResponseHead, response: Response) -> None:
    """
    Give a head status and fields of a response, which go out as they stand: no line of it may be two (response splitting).

    What the upstream sent itself has been judged already; raises `Refused("policy_failed")` for the rest.
    """
    came, came_line = (head.lines[1:], head.status_line) if response.head is not None else ([], b"")
    try:
        head.status_line = _status_line(response, came_line)
        head.lines = [b"", *_fields(response.fields, came)]
    except (TypeError, ValueError) as fault:
        raise Refused("policy_failed", f"a policy made a bad response head: {fault}") from None
    head.status = response.status
    head.has_date = any(KINDS[field[: field.index(b":")]] == Field.DATE for field in head.lines[1:])


def _status_line(response: Response, came: bytes) -> bytes:
    line = response.status_line
    if not line.startswith(b"%d" % response.status):
        line = b"%d " % response.status  # the filter has changed the one and not the other
    if line != came and not _STATUS_LINE.fullmatch(line):
        raise ValueError(f"the status line {line!r}")
    return line


def _fields(fields: list[bytes], came: list[bytes]) -> list[bytes]:
    if fields == came:
        return fields
    known = frozenset(came)
    for field in fields:
        if field not in known and not _FIELD_LINE.fullmatch(field):
            raise ValueError(f"the field {field[:40]!r}")
    return [field for field in fields if KINDS[field[: field.index(b":")]] not in _OF_ONE_HOP]

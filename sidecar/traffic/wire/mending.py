"""
Heads that llhttp refuses although a proxy may pass them on, mended before they are judged again.

RFC 9112 section 6.3 (equal Content-Lengths collapse), section 5.2 (a folded line of a response becomes one line), section
5.1 (a response's space before the colon is taken out), and methods that llhttp has not heard of. Anything else stays refused.
"""

import re

import httptools

from sidecar.model.errors import Refused, UpstreamFailed

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")


def mend_request(lines: list[bytes]) -> list[bytes]:
    """
    Return the lines with what may be mended mended; the caller judges their fields again under a method that llhttp knows.

    Raises `Refused` where the request line itself is at fault.
    """
    method, target, _version = lines[0].split(b" ")
    if not _TOKEN.fullmatch(method):
        raise Refused("bad_request_line", "the method is not a token")
    if not _TARGET.fullmatch(target):
        raise Refused("bad_target", "the target has a control character")
    return _collapse_lengths(lines)


def mend_response(lines: list[bytes], fault: httptools.HttpParserError) -> list[bytes]:
    """Return the lines with folds joined by a space, spaces before colons removed and equal Content-Lengths collapsed."""
    mended = [lines[0]]
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t"):
            if len(mended) == 1:
                raise UpstreamFailed("upstream_malformed", str(fault))
            mended[-1] += b" " + line.strip(b" \t")
            continue
        name, colon, value = line.partition(b":")
        mended.append(name.rstrip(b" \t") + colon + value)
    return _collapse_lengths(mended)


def _collapse_lengths(lines: list[bytes]) -> list[bytes]:
    values: set[bytes] = set()
    kept: list[bytes] = []
    first: int | None = None
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or name.lower() != b"content-length":
            kept.append(line)
            continue
        values.update(part.strip(b" \t") for part in value.split(b","))
        if first is None:
            first = len(kept)
            kept.append(line)
    if first is not None and len(values) == 1:
        kept[first] = b"Content-Length: " + values.pop()
    elif first is not None:
        return lines  # they differ: llhttp's refusal stands
    return kept

"""
Asking a corporate proxy for a tunnel: CONNECT, and what its answer means (RFC 9110 section 9.3.6).

Whatever it answers, but for a tunnel, is an error of ours towards the client: the destination has said nothing yet. Only the
head of its answer is read, and nothing of what follows: that belongs to the tunnel, or is a page for people.
"""

import asyncio
import base64
import re
import socket

from sidecar.model.authority import authority
from sidecar.model.errors import UpstreamFailed
from sidecar.traffic.wire.proxy import Via

_MAX_ANSWER_BYTES = 16 * 1024
_MAX_SHOWN = 200
_SHORTEST_PASSWORD = 4
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r\n)")
"""The reason may be left out (RFC 9112 section 4)."""
_CODES = {401: "proxy_auth_failed", 403: "proxy_denied", 407: "proxy_auth_failed", 451: "proxy_denied"}
"""401 is what Tinyproxy answers to a wrong password; a destination could not, because CONNECT has not reached it."""
_REASONS = (b"x-squid-error", b"proxy-status")
"""Fields in which a proxy says why: Squid's own, and that of RFC 9209."""
_SCHEME = re.compile(rb"(?:^|,)[ \t]*([A-Za-z][A-Za-z0-9-]*)(?=[ \t]+[^ \t=]|[ \t]*(?:,|$))")


async def ask_for_tunnel(sock: socket.socket, host: str, port: int, via: Via) -> None:
    """Make a socket that leads to a proxy lead to the destination; raises `UpstreamFailed`."""
    where = authority(host, port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if via.authorization:
        lines.append(f"Proxy-Authorization: {via.authorization.reveal()}")
    try:
        await asyncio.get_running_loop().sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = await _answer(sock, via)
    except OSError as fault:
        raise UpstreamFailed("proxy_failed", f"{via.shown}: {fault}") from None
    found = _STATUS.match(answer)
    if found is None or not 200 <= int(found[1]) < 300:
        raise refusal(answer, int(found[1]) if found is not None else 0, via)


async def _answer(sock: socket.socket, via: Via) -> bytes:
    """Read the head of the answer; what is said in between (1xx) does not count, but its bytes do."""
    left = _MAX_ANSWER_BYTES
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if len(head) >= left:
                raise UpstreamFailed("proxy_failed", f"{via.shown}: the answer to CONNECT is too long")
            piece = await asyncio.get_running_loop().sock_recv(sock, 1)
            if not piece:
                raise UpstreamFailed("proxy_failed", f"{via.shown} closed the connection instead of answering CONNECT")
            head += piece
            if not head.endswith(b"\r\n\r\n"):
                head += _rest_of_head(sock, head[-3:])
        if _STATUS.match(head) is None or head[9:10] != b"1":
            return head
        left -= len(head)


def _rest_of_head(sock: socket.socket, before: bytes) -> bytes:
    """Take what has come of the head, and nothing behind it; `before` are the three bytes that came last."""
    try:
        there = sock.recv(_MAX_ANSWER_BYTES, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return b""
    end = (before + there).find(b"\r\n\r\n")
    return sock.recv(len(there) if end < 0 else end + 4 - len(before)) if there else b""


def refusal(answer: bytes, status: int, via: Via) -> UpstreamFailed:
    """
    Say what is wrong where a proxy refuses: its status, and its own words for why, bounded; status 0 is no HTTP.

    A proxy may repeat what it was told, for example as a page that shows the request; its credential is not told on.
    """
    for credential in _spellings(via):
        answer = answer.replace(credential, b"***")
    lines = answer.split(b"\r\n")
    said = lines[0].decode("latin-1")[:_MAX_SHOWN]
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
    detail = f"{via.shown} answered {said!r}"
    if status == 407:
        wanted = [word.decode() for name, value in fields if name == b"proxy-authenticate" for word in _SCHEME.findall(value)]
        detail += f"; it wants {', '.join(wanted)[:_MAX_SHOWN]}" if wanted else ""
    for name, value in fields:
        if name in _REASONS:
            detail += f"; {name.decode()}: {value.decode('latin-1')[:_MAX_SHOWN]}"
            break
    return UpstreamFailed(_CODES.get(status, "proxy_failed"), detail)


def _spellings(via: Via) -> list[bytes]:
    """The credential as it was sent, without its padding, and in clear; a short password alone would be found in any text."""
    token = via.authorization.reveal().partition(" ")[2].encode()
    if not token:
        return []
    clear = base64.b64decode(token)
    password = clear.partition(b":")[2]
    return [token, token.rstrip(b"="), clear, *([password] if len(password) >= _SHORTEST_PASSWORD else [])]

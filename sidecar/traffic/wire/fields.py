"""Which header fields mean something to a proxy; all others pass untouched (RFC 9110 section 7.6.1)."""

from enum import IntEnum


class Field(IntEnum):
    """A field that the wire looks at; 0 stands for every other field."""

    OTHER = 0
    HOST = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    HOP_BY_HOP = 5
    """Keep-Alive, Proxy-Connection and TE: between two neighbours only, so they are taken out."""
    PROXY_AUTHORIZATION = 6
    UPGRADE = 7
    EXPECT = 8
    TRACEPARENT = 9
    TRACESTATE = 10
    BAGGAGE = 11
    AGENT_ID = 12
    AGENT_TASK_ID = 13
    VIA = 14
    DATE = 15
    ORIGIN = 16


_NAMES: dict[bytes, Field] = {
    b"host": Field.HOST,
    b"content-length": Field.CONTENT_LENGTH,
    b"transfer-encoding": Field.TRANSFER_ENCODING,
    b"connection": Field.CONNECTION,
    b"keep-alive": Field.HOP_BY_HOP,
    b"proxy-connection": Field.HOP_BY_HOP,
    b"te": Field.HOP_BY_HOP,
    b"proxy-authorization": Field.PROXY_AUTHORIZATION,
    b"upgrade": Field.UPGRADE,
    b"expect": Field.EXPECT,
    b"traceparent": Field.TRACEPARENT,
    b"tracestate": Field.TRACESTATE,
    b"baggage": Field.BAGGAGE,
    b"x-agent-id": Field.AGENT_ID,
    b"x-agent-task-id": Field.AGENT_TASK_ID,
    b"via": Field.VIA,
    b"date": Field.DATE,
    b"origin": Field.ORIGIN,
}

_KNOWN_LIMIT = 4096
"""Spellings remembered; agents use a few dozen, and a hostile one must not make us keep more."""


class _Kinds(dict[bytes, int]):
    """Field name as spelt -> `Field`; a spelling is lower-cased once and remembered."""

    __slots__ = ()

    def __missing__(self, name: bytes) -> int:
        kind = int(_NAMES.get(name.lower(), Field.OTHER))
        if len(name) <= 64:
            if len(self) >= _KNOWN_LIMIT:
                self.clear()
            self[name] = kind
        return kind


KINDS: dict[bytes, int] = _Kinds()
"""`KINDS[name]` is the kind of a field of that name, whatever its case."""

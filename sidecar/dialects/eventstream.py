"""
AWS event streams (`application/vnd.amazon.eventstream`): frames in, frames out, both checksums looked at.

    total u32 | headers' length u32 | CRC-32 of these 8 bytes | headers | payload | CRC-32 of all before

A header is `length u8, name, type u8, value`; only strings (type 7: `length u16, text`) mean anything to a reader here. Source:
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from collections.abc import Mapping
from struct import Struct, error
from zlib import crc32

Headers = Mapping[str, str]
"""The headers of a frame whose values are text, such as `:event-type`."""

MOST_HEADER_BYTES = 128 * 1024
"""Headers above this are malformed (the specification's bound)."""

MOST_FRAME_BYTES = 24 * 1024 * 1024 + MOST_HEADER_BYTES + 16
"""A frame above this is malformed: 24 MiB of payload is the specification's bound."""

_PRELUDE_BYTES = 12
_CHECK_BYTES = 4
_KNOWN_BLOCKS = 32  # a stream has a dozen kinds of events, each with the same headers every time
_KNOWN_BLOCK_BYTES = 512

_prelude = Struct("!III").unpack_from
_check = Struct("!I").unpack_from
_length = Struct("!H").unpack_from
_pack = Struct("!I").pack

_STRING = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # types of fixed length: booleans, integers, timestamp, UUID
_COUNTED = frozenset({6, _STRING})  # types that say their length: byte array and string


class Frames:
    """
    Reads frames out of whatever pieces the network makes; never raises.

    `is_between`: the bytes so far end with a frame. `is_broken`: a checksum or a length was wrong; nothing after that place can
    be found, so nothing more is read. A frame above `most_bytes` is passed over without being kept (its own checksum is then not
    looked at) and counted in `skipped`.
    """

    __slots__ = ("_held", "_known", "_most_bytes", "_need", "_passing", "is_between", "is_broken", "skipped")

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        self.is_between = True
        self.is_broken = False
        self.skipped = 0
        self._most_bytes = most_bytes
        self._held = bytearray()
        self._need = 0  # bytes that have to be held before it is worth looking again
        self._passing = 0  # bytes still to come of a frame that is passed over
        self._known: dict[bytes, Headers] = {}

    def feed(self, data: bytes) -> list[tuple[Headers, bytes]]:
        """Take the next bytes, and give the frames that are complete with them as (headers, payload)."""
        if not self.is_between:
            if self.is_broken:
                return []
            data = self._joined(data)
        frames: list[tuple[Headers, bytes]] = []
        size = len(data)
        at = 0
        need = _PRELUDE_BYTES
        while size - at >= _PRELUDE_BYTES:
            total, block_bytes, check = _prelude(data, at)
            begin = at + 8
            end = at + total
            if crc32(data[at:begin]) != check or not _is_sane(total, block_bytes):
                self._break()
                return frames
            if total > self._most_bytes:
                self.skipped += 1
                self._passing = max(0, end - size)
                at = min(end, size)
                continue
            if end > size:
                need = total
                break
            tail = end - _CHECK_BYTES
            block_end = begin + _CHECK_BYTES + block_bytes
            block = data[begin + _CHECK_BYTES : block_end]
            headers = self._known.get(block) or self._headers(block)
            # The checksum of the prelude goes on over the rest: it covers the 8 bytes before itself.
            if headers is None or crc32(data[begin:tail], check) != _check(data, tail)[0]:
                self._break()
                return frames
            frames.append((headers, data[block_end:tail]))
            at = end
        if at < size:
            self._held += data[at:]
            self._need = need
        self.is_between = not (self._held or self._passing)
        return frames

    def _joined(self, data: bytes) -> bytes:
        """What can be read now: the bytes that were held and these, without those of a frame that is passed over."""
        if self._passing:
            passed = min(self._passing, len(data))
            self._passing -= passed
            return data[passed:]
        self._held += data
        if len(self._held) < self._need:
            return b""
        data = bytes(self._held)
        self._held.clear()
        return data

    def _headers(self, block: bytes) -> Headers | None:
        headers = _read_headers(block)
        if headers is not None and len(block) <= _KNOWN_BLOCK_BYTES and len(self._known) < _KNOWN_BLOCKS:
            self._known[block] = headers
        return headers

    def _break(self) -> None:
        self.is_broken = True
        self.is_between = False
        self._known.clear()


def frame(headers: Headers, payload: bytes) -> bytes:
    """Write one frame; its headers are strings, and bounded as the specification says."""
    block = b"".join(_write_header(name, value) for name, value in headers.items())
    total = _PRELUDE_BYTES + len(block) + len(payload) + _CHECK_BYTES
    assert _is_sane(total, len(block)), "a frame above the bounds of the format"
    prelude = _pack(total) + _pack(len(block))
    body = b"".join((prelude, _pack(crc32(prelude)), block, payload))
    return body + _pack(crc32(body))


def _is_sane(total: int, block_bytes: int) -> bool:
    return block_bytes <= MOST_HEADER_BYTES and _PRELUDE_BYTES + block_bytes + _CHECK_BYTES <= total <= MOST_FRAME_BYTES


def _write_header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return b"%c%b\x07%b%b" % (len(key), key, len(text).to_bytes(2, "big"), text)


def _read_headers(block: bytes) -> Headers | None:
    """The headers that are text; None where the block is malformed. The last of equal names counts."""
    headers: dict[str, str] = {}
    at, size = 0, len(block)
    try:
        while at < size:
            after_name = at + 1 + block[at]
            name, kind = block[at + 1 : after_name], block[after_name]
            at = after_name + 1
            if kind in _COUNTED:
                begin = at + 2
                at = begin + _length(block, at)[0]
                if kind == _STRING:
                    headers[name.decode()] = block[begin:at].decode()
            else:
                at += _SIZES[kind]
    except (IndexError, KeyError, UnicodeDecodeError, error):
        return None
    return headers if at == size else None

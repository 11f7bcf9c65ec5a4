"""
Server-sent events: bytes in, whole events out, in whatever pieces they come.

The rules are those of the HTML standard, section 9.2 (Server-sent events): lines end with LF, CR or CRLF, a byte order mark may
stand at the beginning, an empty line ends an event, an event without `data` is none, and what a stream breaks off with is
dropped. `id`, `retry` and unknown fields mean nothing here.
"""

_BOM = b"\xef\xbb\xbf"


class EventStream:
    """
    Splits one stream into its events; nothing is decoded, and at most one event is kept.

    An event whose `event` and `data` lines have more than `most_bytes` together is passed over and counted in `skipped`.
    `is_between` says that no byte of an unfinished event waits here: who recognises a whole event in the next bytes may then
    count it without asking.
    """

    __slots__ = ("_after_cr", "_data", "_head", "_is_skipping", "_line", "_most_bytes", "_name", "_size", "is_between", "skipped")

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        self.skipped = 0
        self.is_between = False
        self._most_bytes = most_bytes
        self._head: bytes | None = b""  # the first bytes, until they are known to be a byte order mark or none
        self._after_cr = False
        self._line = bytearray()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._is_skipping = False

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the events that these bytes complete: the name (b"" where none was given), and the data lines joined by LF."""
        if self.is_between and data[-2:] == b"\n\n" and b"\r" not in data and len(data) <= self._most_bytes:
            return self._whole(data)
        if self._head is not None:
            data = self._begun(data)
        return self._pieces(data) if data else []

    def _begun(self, data: bytes) -> bytes:
        assert self._head is not None
        data = self._head + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data.removeprefix(_BOM)

    def _whole(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The usual case, at a third of the price: whole events of one `data` line, with or without an `event` line before it."""
        if data[:6] == b"data: " and data.find(b"\n") == len(data) - 2:
            return [(b"", data[6:-2])]
        if data[:7] == b"event: ":
            at = data.find(b"\n")
            if data[at + 1 : at + 7] == b"data: " and data.find(b"\n", at + 7) == len(data) - 2:
                return [(data[7:at], data[at + 7 : -2])]
        events: list[tuple[bytes, bytes]] = []
        for block in data[:-2].split(b"\n\n"):
            first, _, rest = block.partition(b"\n")
            if not rest and first[:6] == b"data: ":
                events.append((b"", first[6:]))
            elif first[:7] == b"event: " and rest[:6] == b"data: " and b"\n" not in rest:
                events.append((first[7:], rest[6:]))
            else:
                events += self._pieces(block + b"\n\n")
        return events

    def _pieces(self, data: bytes) -> list[tuple[bytes, bytes]]:
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        self._after_cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        events: list[tuple[bytes, bytes]] = []
        if lines:
            if self._line:
                lines[0] = bytes(self._line) + lines[0]
                self._line.clear()
            for line in lines:
                if line:
                    self._take(line)
                else:
                    self._dispatch(events)
        if rest:
            self._keep(rest)
        self.is_between = not (self._line or self._data or self._name or self._is_skipping or self._after_cr)
        return events

    def _keep(self, rest: bytes) -> None:
        self._line += rest
        if len(self._line) > len(b"event") and len(self._line) + self._size > self._most_bytes:
            # What cannot be used any more is kept as an empty comment, so that the line is still known not to be an empty one.
            if self._line.startswith((b"data:", b"event:")):
                self._skip()
            self._line[:] = b":"

    def _skip(self) -> None:
        self._is_skipping = True
        self._data.clear()
        self._name = b""

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if self._is_skipping or (field != b"data" and field != b"event"):
            return
        self._size += len(line)
        if self._size > self._most_bytes:
            self._skip()
            return
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            self._data.append(value)
        else:
            self._name = value

    def _dispatch(self, events: list[tuple[bytes, bytes]]) -> None:
        if self._data:
            events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._data.clear()
        elif self._is_skipping:
            self.skipped += 1
            self._is_skipping = False
        self._name = b""
        self._size = 0


def event(data: bytes, name: bytes = b"") -> bytes:
    """Write one event; `data` may have several lines, `name` has one."""
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"event: " + name + b"\ndata: " + text + b"\n\n" if name else b"data: " + text + b"\n\n"

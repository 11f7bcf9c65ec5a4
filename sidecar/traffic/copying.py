"""
A bounded copy of what passes, for routes that have content collected: the rest of the sidecar keeps no bodies.

A reader that keeps what it is fed stands in front of the dialect's own, so that where nothing is collected nothing is asked.
"""

from sidecar.dialects.dialect import Reader
from sidecar.model.answered import Answered

MOST_BYTES = 256 * 1024
"""Of a request, and of an answer, that are kept; of more the beginning stays."""


class CopyingReader:
    """
    Keeps the beginning of what a reader reads, which is of `content_type`.

    `is_cut` says that there was more.
    """

    __slots__ = ("_inner", "_kept", "content_type", "is_cut")

    def __init__(self, inner: Reader, content_type: str) -> None:
        self._inner = inner
        self.content_type = content_type
        self._kept = bytearray()
        self.is_cut = False

    @property
    def answered(self) -> Answered:
        return self._inner.answered

    @property
    def kept(self) -> bytes:
        """What has come, as far as it is kept."""
        return bytes(self._kept)

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, as far as there is room, and have them read."""
        room = MOST_BYTES - len(self._kept)
        if len(data) <= room:
            self._kept += data
        else:
            self.is_cut = True
            self._kept += data[:room]
        self._inner.feed(data)

    def end(self) -> None:
        """Have the end read."""
        self._inner.end()

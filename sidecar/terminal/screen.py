"""The screen that we write to: how wide it is, whether it has colours, which characters it can show."""

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

NARROWEST, WIDTH_OF_NO_TERMINAL = 40, 120

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Screen:
    """`width` in cells; `colour` and `unicode` say what may be used. A file or pipe is a screen without colours."""

    width: int = WIDTH_OF_NO_TERMINAL
    colour: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> "Screen":
        """
        Look at the stream and the environment.

        `NO_COLOR` (no-color.org: any value but the empty one) and `TERM=dumb` switch colours off, `COLUMNS` sets the width.
        """
        terminal = stream.isatty()
        colour = terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
        return cls(max(_width(stream, environ, terminal), NARROWEST), colour, _shows_unicode(stream))

    def paint(self, text: str, colour: str) -> str:
        """Colour the text where the screen can; `colour` is bold, dim, red, green, yellow, cyan or "" for none."""
        if not (self.colour and colour and text):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    def clean(self, text: str) -> str:
        """
        Make text from elsewhere harmless: what would move the cursor or cannot be shown becomes `?`.

        Names of hosts, paths and agents come off the wire; an escape sequence among them must not reach a terminal.
        """
        text = "".join(char if char.isprintable() else "?" for char in text)
        return text if self.unicode else text.encode("ascii", "replace").decode("ascii")

    def cut(self, text: str, width: int) -> str:
        """Shorten clean text to `width` cells; an ellipsis says that something is missing."""
        if cells(text) <= width:
            return text
        ellipsis = "…" if self.unicode else "~"
        while text and cells(text) > width - 1:
            text = text[:-1]
        return text + ellipsis if width > 0 else ""


def cells(text: str) -> int:
    """How many cells of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _width(stream: TextIO, environ: Mapping[str, str], terminal: bool) -> int:
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    if not terminal:
        return WIDTH_OF_NO_TERMINAL
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH_OF_NO_TERMINAL
    except OSError:
        return WIDTH_OF_NO_TERMINAL


def _shows_unicode(stream: TextIO) -> bool:
    try:
        "├─└│…·".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

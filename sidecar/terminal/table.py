"""A table that fits its screen: what matters least is left out first, what is still too long is cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.terminal.screen import Screen, cells

_GAP = "  "
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` says who leaves a narrow screen first: the highest; rank 0 stays. Figures stand at the `right`."""

    title: str
    rank: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text and its colour (see `Screen.paint`)."""

    text: str
    colour: str = ""


def draw(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], screen: Screen) -> list[str]:
    """
    Return the lines of the table, its head first; none is wider than the screen.

    Columns leave by rank until the rest fits; then the first column is cut.
    """
    texts = [[screen.clean(cell.text) for cell in row] for row in rows]
    widths = [max([cells(column.title), *(cells(row[at]) for row in texts)]) for at, column in enumerate(columns)]
    shown = _shown(columns, widths, screen.width)
    spare = screen.width - _total([widths[at] for at in shown])
    if spare < 0:
        widths[shown[0]] = max(widths[shown[0]] + spare, 1)
    head = [screen.paint(_fit(columns[at].title, widths[at], columns[at].right, screen), "bold") for at in shown]
    lines = [_GAP.join(head).rstrip()]
    for row, text in zip(rows, texts, strict=True):
        fitted = ((_fit(text[at], widths[at], columns[at].right, screen), row[at].colour) for at in shown)
        lines.append(_GAP.join(screen.paint(cell, colour) for cell, colour in fitted).rstrip())
    return lines


def _shown(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The columns that stay, when the first may shrink to a readable rest."""
    shown = list(range(len(columns)))
    while True:
        first = shown[0]
        need = _total([min(widths[at], max(_LEAST, width // 3)) if at == first else widths[at] for at in shown])
        last = max(shown, key=lambda at: columns[at].rank)
        if need <= width or not columns[last].rank:
            return shown
        shown.remove(last)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fit(text: str, width: int, right: bool, screen: Screen) -> str:
    text = screen.cut(text, width)
    space = " " * (width - cells(text))
    return space + text if right else text + space

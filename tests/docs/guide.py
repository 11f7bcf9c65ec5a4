"""
A guide as a test runs it: the fenced blocks of a Markdown file, in order, as one session in a folder of its own.

    ```yaml     has to be a config that is good (or, below `<!-- file: NAME -->`, is written to that file)
    ```sh       is run by bash, all of a guide's in one shell; what it leaves running is stopped at the end
    ```python   is run by Python

A comment right above a block changes that: `<!-- not run: REASON -->`, `<!-- file: NAME -->` (write it to a file of that name),
and `<!-- run in: sidecar -->` (run it while a sidecar with the config of the repository runs, as after `make run`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (?P<what>not run|file|run in): (?P<about>[^>]*?) -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, and what the comment above says (`what` is empty where there is none)."""

    kind: str
    text: str
    line: int
    what: str = ""
    about: str = ""


def blocks(path: Path) -> Iterator[Block]:
    """Every fenced block of a Markdown file, from top to bottom."""
    document = path.read_text()
    for found in _FENCE.finditer(document):
        comment = _COMMENT.search(document[: found.start()])
        what, about = (comment["what"], comment["about"]) if comment else ("", "")
        text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(found["kind"], text, document.count("\n", 0, found.start()) + 1, what, about)

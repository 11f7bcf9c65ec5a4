"""
`${…}` in the values of a config, in the Collector's grammar (confmap/README.md).

    ${env:NAME}   ${NAME}            an environment variable; a missing one is a fault
    ${env:NAME:-default}             … or else this text
    ${file:path}                     a file's text; a relative path starts at the config's folder
    $$                               a dollar sign

They nest (`${env:URL:-http://${env:HOST}}`). `${1}` and a `$` without a brace are left as they are; what was put in is not
searched again, so a secret may hold any text.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?::-.*)?", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?!-)(.*)", re.DOTALL)

MAX_FILE_BYTES = 1 << 20
MAX_TEXT = 16 << 20
"""Characters that all values of one config may have once `${…}` is filled in."""
_MAX_NESTING = 10


class Unresolved(Exception):
    """Something in `${…}` has no value; `hint` says what to do about it."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


class Substitution:
    """Puts values in the place of `${…}`; `files` collects the files that were read, so that they can be watched."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._size = 0
        self.files: list[Path] = []

    def expand(self, text: str) -> tuple[str, bool]:
        """The text with its values, and whether it was one single `${…}`; raises Unresolved."""
        self._check_size()  # before a further file is read, too
        expanded, is_whole = self._expand(text, 0)
        self._size += len(expanded)
        self._check_size()
        return expanded, is_whole

    def _check_size(self) -> None:
        if self._size > MAX_TEXT:
            raise Unresolved(f"more than {MAX_TEXT >> 20} MiB of text once '${{…}}' is filled in")

    def _expand(self, text: str, depth: int) -> tuple[str, bool]:
        if depth > _MAX_NESTING:
            raise Unresolved(f"more than {_MAX_NESTING} levels of '${{…}}' inside one another")
        parts: list[str] = []
        start, whole = 0, False
        while (dollar := text.find("$", start)) >= 0:
            parts.append(text[start:dollar])
            following = text[dollar + 1 : dollar + 2]
            if following != "{":
                parts.append("$")
                start = dollar + 2 if following == "$" else dollar + 1
                continue
            end = _closing(text, dollar + 2)
            reference = text[dollar + 2 : end]
            if _SCHEME.fullmatch(reference) or _BARE.fullmatch(reference):
                parts.append(self._value(self._expand(reference, depth + 1)[0]))
                whole = dollar == 0 and end + 1 == len(text)
            else:
                parts.append(text[dollar : end + 1])
            start = end + 1
        parts.append(text[start:])
        return "".join(parts), whole

    def _value(self, reference: str) -> str:
        found = _SCHEME.fullmatch(reference)
        if found is None:
            return self._variable(reference)
        scheme, rest = found.groups()
        if scheme == "env":
            return self._variable(rest)
        if scheme == "file":
            return self._text_of(rest)
        raise Unresolved(f"'${{{scheme}:…}}' is not known", "write ${env:NAME} or ${file:path}, or $$ for a dollar sign")

    def _variable(self, reference: str) -> str:
        name, colon, default = reference.partition(":-")
        if not _NAME.fullmatch(name):
            raise Unresolved(f"{name!r} is no name of an environment variable", "write ${env:NAME} or ${env:NAME:-default}")
        if name in self._environ:
            return self._environ[name]
        if colon:
            return default
        raise Unresolved(f"the environment variable {name} is not set", f"set it, or give a default: ${{env:{name}:-default}}")

    def _text_of(self, name: str) -> str:
        path = self._folder / name
        self.files.append(path)
        try:
            text = read_bounded(path).decode()
        except OSError as error:
            raise Unresolved(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Unresolved(f"{path} is not UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")


def read_bounded(path: Path) -> bytes:
    """The bytes of a regular file of at most 1 MiB; raises OSError, also for what is larger or no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make us wait
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(0, f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _closing(text: str, start: int) -> int:
    """Where the brace ends that was opened just before `start`."""
    depth, at = 1, start
    while at < len(text):
        if text.startswith("${", at):
            depth, at = depth + 1, at + 2
            continue
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise Unresolved("'${' has no '}'", "close the brace, or write $$ for a dollar sign")

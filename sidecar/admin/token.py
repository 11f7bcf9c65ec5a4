"""The bearer token of the admin API: made at start, kept in a file that only its owner can read, gone at stop."""

import contextlib
import fcntl
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

DEFAULT_PORT = 4141
_FOLDER = "agent-sre-sidecar"


def default_path(environ: Mapping[str, str], port: int) -> Path:
    """
    Where the token lies when the config does not say (XDG Base Directory Specification 0.8).

    The port is in the name where it is not the default one, so that two sidecars of one user do not take each other's.
    """
    name = "admin-token" if port == DEFAULT_PORT else f"admin-token-{port}"
    base = environ.get("XDG_RUNTIME_DIR") or environ.get("XDG_STATE_HOME")
    if base and os.path.isabs(base):
        return Path(base, _FOLDER, name)
    return Path(environ.get("HOME") or Path.home(), ".local", "state", _FOLDER, name)


class Token:
    """256 random bits as text, and the file that holds them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = secrets.token_urlsafe(32)
        self._written = False
        self._lock = -1

    def __repr__(self) -> str:
        return f"Token({str(self.path)!r})"

    @property
    def written(self) -> bool:
        """Whether anybody can know the token."""
        return self._written

    def matches(self, offered: str) -> bool:
        """Whether this is the token; takes the same time however much of it is right."""
        return hmac.compare_digest(self._text.encode(), offered.encode("utf-8", "replace"))

    def write(self) -> None:
        """Write the file with mode 0600, whole or not at all; a link in its place is replaced, not followed. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o600)  # the umask may have taken even the owner's rights
                file.write(f"{self._text}\n")
                self._hold(file.fileno())
            os.replace(draft, self.path)
        except OSError:
            self._let_go()
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self._written = True

    def _hold(self, descriptor: int) -> None:
        """Lock the file for as long as this process lives, so that others can tell whether it does (leftovers.py)."""
        self._let_go()
        with contextlib.suppress(OSError):  # a file system without locks: there, nobody can take it for a leftover either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock = os.dup(descriptor)

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def remove(self) -> None:
        """Remove the file, unless somebody else has put theirs there meanwhile."""
        if not self._written:
            return
        self._written = False
        self._let_go()
        with contextlib.suppress(OSError):
            if self.path.read_text(encoding="ascii", errors="replace").strip() == self._text:
                self.path.unlink()

"""
Token files that killed sidecars have left: removed by the next one that starts, where it is certain that nobody uses them.

The owner of a token holds a lock on its file for as long as it lives, and listens on the port that the name tells. Only what has
neither, is a plain file of our own user with mode 0600 and stands in a folder of our own, is a leftover.
"""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import re
import socket
import stat
from pathlib import Path

from sidecar.admin.token import DEFAULT_PORT

_NAME = re.compile(r"admin-token(?:-(?P<port>[1-9][0-9]{0,4}))?")
_HIGHEST_PORT = 65_535
_MOST = 1024
"""Files that are looked at."""

_log = logging.getLogger("sidecar.admin")


def remove_leftovers(folder: Path, but: Path) -> int:
    """Remove the tokens in `folder` whose owners are gone, but never `but`; returns how many those were. Blocks, briefly."""
    removed = 0
    try:
        if folder.lstat().st_uid != os.geteuid():
            return 0
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST)]
    except OSError:
        return 0
    for name in names:
        found = _NAME.fullmatch(name)
        if found is not None and name != but.name and _remove(folder / name, int(found["port"] or DEFAULT_PORT)):
            removed += 1
    if removed:
        _log.info("removed %d token files of sidecars that are gone from %s", removed, folder)
    return removed


def _remove(path: Path, port: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if port > _HIGHEST_PORT or not _is_ours(os.fstat(descriptor)):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where the owner lives, and where there are no locks
        if not _is_free(port) or not os.path.samestat(os.fstat(descriptor), path.lstat()):
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_ours(status: os.stat_result) -> bool:
    mode = status.st_mode
    return stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o600 and status.st_uid == os.geteuid() and status.st_nlink == 1


def _is_free(port: int) -> bool:
    """Whether nobody listens on this port of any address; False where that cannot be known."""
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - bound, never listening
        try:
            with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is only on its way out does not count
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((everywhere, port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue
            return False
    return True

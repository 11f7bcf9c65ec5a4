"""The token file: only its owner reads it, it is never half there, and nobody else's is removed."""

import os
import stat
from pathlib import Path

import pytest

from sidecar.admin.token import Token, default_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_and_its_folder_are_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o277):
        token = Token(tmp_path / f"made-{umask}" / "admin-token")
        (tmp_path / f"made-{umask}").mkdir(mode=0o700)
        before = os.umask(umask)
        try:
            token.write()
        finally:
            os.umask(before)
        assert mode(token.path) == 0o600
    token = Token(tmp_path / "new" / "admin-token")
    token.write()
    assert mode(token.path.parent) == 0o700


def test_what_is_in_the_file_is_the_token_and_nothing_else_is(tmp_path: Path) -> None:
    token = Token(tmp_path / "admin-token")
    assert not token.written
    token.write()
    text = token.path.read_text().strip()
    assert token.written
    assert len(text) >= 43
    assert token.matches(text)
    for wrong in ("", text[:-1], text + "x", text.swapcase(), "ü\ud800"):
        assert not token.matches(wrong)


def test_each_token_is_new_and_not_shown(tmp_path: Path) -> None:
    token, other = Token(tmp_path / "a"), Token(tmp_path / "b")
    token.write()
    text = token.path.read_text().strip()
    assert not other.matches(text)
    assert text not in repr(token)


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    token = Token(tmp_path / "admin-token")
    token.path.symlink_to(victim)
    token.write()
    assert victim.read_text() == "precious"
    assert not token.path.is_symlink()
    assert mode(token.path) == 0o600


def test_remove_takes_our_own_file_away_once(tmp_path: Path) -> None:
    token = Token(tmp_path / "admin-token")
    token.remove()
    token.write()
    token.remove()
    token.remove()
    assert list(tmp_path.iterdir()) == []
    assert not token.written


def test_remove_leaves_the_file_of_a_successor(tmp_path: Path) -> None:
    first, second = Token(tmp_path / "admin-token"), Token(tmp_path / "admin-token")
    first.write()
    second.write()
    first.remove()
    assert second.matches(second.path.read_text().strip())


def test_a_file_that_cannot_be_put_there_leaves_nothing_behind(tmp_path: Path) -> None:
    token = Token(tmp_path / "admin-token")
    token.path.mkdir()
    with pytest.raises(OSError):
        token.write()
    assert not token.written
    assert [path.name for path in tmp_path.iterdir()] == ["admin-token"]


@pytest.mark.parametrize(
    ("environ", "port", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/1", "HOME": "/h"}, 4141, "/run/user/1/agent-sre-sidecar/admin-token"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/h"}, 4141, "/state/agent-sre-sidecar/admin-token"),
        ({"HOME": "/h"}, 4141, "/h/.local/state/agent-sre-sidecar/admin-token"),
        ({"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, 4141, "/h/.local/state/agent-sre-sidecar/admin-token"),
        ({"HOME": "/h"}, 5000, "/h/.local/state/agent-sre-sidecar/admin-token-5000"),
        ({}, 4141, str(Path.home() / ".local/state/agent-sre-sidecar/admin-token")),
    ],
)
def test_the_default_place_is_what_xdg_says(environ: dict[str, str], port: int, expected: str) -> None:
    assert default_path(environ, port) == Path(expected)

"""Only what certainly belongs to nobody is removed."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.admin.leftovers import remove_leftovers
from sidecar.admin.token import Token
from tests.repository import ROOT


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "admin-token"


def left(folder: Path, name: str, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text("secret\n")
    path.chmod(mode)
    return path


def test_the_token_of_a_killed_sidecar_is_removed(tmp_path: Path, ours: Path, free_port: Callable[[], int]) -> None:
    path = tmp_path / f"admin-token-{free_port()}"
    script = "import os, pathlib, sys; from sidecar.admin.token import Token; Token(pathlib.Path(sys.argv[1])).write(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=False)
    assert path.exists()
    assert remove_leftovers(tmp_path, ours) == 1
    assert not path.exists()


def test_the_token_of_a_sidecar_that_lives_stays_though_its_port_cannot_be_seen(
    tmp_path: Path, ours: Path, free_port: Callable[[], int]
) -> None:
    token = Token(tmp_path / f"admin-token-{free_port()}")
    token.write()
    assert remove_leftovers(tmp_path, ours) == 0
    assert token.matches(token.path.read_text().strip())
    token.remove()
    assert not token.path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_the_token_of_a_port_where_somebody_listens_stays(tmp_path: Path, ours: Path, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        path = left(tmp_path, f"admin-token-{listening.getsockname()[1]}")
        assert remove_leftovers(tmp_path, ours) == 0
        assert path.exists()
    assert remove_leftovers(tmp_path, ours) == 1


@pytest.mark.parametrize(
    "name", ["admin-token-x", "admin-token-{}-1", "token-{}", ".admin-token-{}.ab", "admin-token-0{}", "admin-token-99999"]
)
def test_other_names_are_nobodys_business(tmp_path: Path, ours: Path, free_port: Callable[[], int], name: str) -> None:
    path = left(tmp_path, name.format(free_port()))
    assert remove_leftovers(tmp_path, ours) == 0
    assert path.exists()


def test_what_is_no_token_of_ours_stays(
    tmp_path: Path, ours: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [f"admin-token-{free_port()}" for _ in range(5)]
    left(tmp_path, ports[0], 0o644)
    (tmp_path / ports[1]).symlink_to(left(tmp_path, "precious"))
    (tmp_path / ports[2]).mkdir()
    os.mkfifo(tmp_path / ports[3], 0o600)
    os.link(left(tmp_path, "twice"), tmp_path / ports[4])
    left(tmp_path, "admin-token")
    assert remove_leftovers(tmp_path, ours) == 0
    assert {path.name for path in tmp_path.iterdir()} == {*ports, "precious", "twice", "admin-token"}
    left(tmp_path, f"admin-token-{free_port()}")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert remove_leftovers(tmp_path, ours) == 0


def test_a_folder_that_is_not_there_has_none(tmp_path: Path, ours: Path) -> None:
    assert remove_leftovers(tmp_path / "nowhere", ours) == 0


def test_a_token_that_was_replaced_meanwhile_is_the_successors(
    tmp_path: Path, ours: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left(tmp_path, f"admin-token-{free_port()}")

    def replaced(port: int) -> bool:
        os.replace(left(tmp_path, "draft"), path)
        return True

    monkeypatch.setattr("sidecar.admin.leftovers._is_free", replaced)
    assert remove_leftovers(tmp_path, ours) == 0
    assert path.exists()


def test_where_there_is_no_ipv6_the_port_is_looked_for_without(
    tmp_path: Path, ours: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    left(tmp_path, f"admin-token-{free_port()}")
    made = socket.socket

    def only_v4(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return made(family, kind)

    monkeypatch.setattr(socket, "socket", only_v4)
    assert remove_leftovers(tmp_path, ours) == 1

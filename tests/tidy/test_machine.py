"""The repository stands for itself: nothing in it knows the machine or the people that it was written on."""

import getpass
import re
from pathlib import Path

from tests.repository import ROOT, files, name

HOMES = re.compile(r"/(?:home|Users)/(?!user\b|agent\b|sidecar\b)[a-z][\w.-]*/|/root/|\.pyenv/|[A-Z]:\\\\Users")
SCRATCH = re.compile(r"(?<![\w.$}\]])/(?:tmp|work|mnt|var/tmp)/(?!sidecar\b)[\w.-]+")
TEXT = [path for path in files() if path != Path(__file__) and b"\0" not in path.read_bytes()[:4096]]


def test_no_file_names_a_path_of_a_developers_machine() -> None:
    wrong = [
        f"{name(path)}:{number}: {line.strip()[:120]}"
        for path in TEXT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if HOMES.search(line) or SCRATCH.search(line) or str(ROOT) in line
    ]
    assert not wrong


def test_no_file_names_the_person_who_runs_the_tests() -> None:
    user = getpass.getuser()
    if user in {"root", "agent", "sidecar", "user", "runner", "nobody", "test"}:  # words of their own
        user = str(Path.home())
    assert not [name(path) for path in TEXT if re.search(rf"\b{re.escape(user)}\b", path.read_text()) and user != "/"]


def test_no_file_is_large() -> None:
    assert not [name(path) for path in files() if path.stat().st_size > 256 * 1024]


def test_nothing_that_looks_like_a_real_secret_is_committed() -> None:
    """Invented ones say so: `sk-proj-not-a-key-…`, so that no scanner cries wolf."""
    forms = (
        "sk-(?:ant-|proj-)(?!not-a-key)[A-Za-z0-9_-]{40,}",
        "AKIA[0-9A-Z]{16}",
        "-----BEGIN (?:RSA |EC )?PRIVATE KEY-----",
        "ghp_[A-Za-z0-9]{36}",
    )
    real = re.compile("|".join(forms))
    assert not [name(path) for path in TEXT if real.search(path.read_text())]

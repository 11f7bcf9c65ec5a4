import platform

import pytest

from sidecar import __version__, cli


def test_version_says_what_runs_on_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"sidecar {__version__} (Python {platform.python_version()}, ")
    assert shown.endswith(f" {platform.machine()})\n")

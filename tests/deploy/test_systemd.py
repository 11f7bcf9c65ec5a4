"""The systemd unit: systemd's own opinion where it is installed, and that it agrees with the command line and the config."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.config import load
from tests.repository import ROOT

UNIT = ROOT / "deploy" / "systemd" / "sidecar.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read(UNIT)
    return dict(parser["Service"])


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    copy = tmp_path / "sidecar.service"
    copy.write_text(UNIT.read_text().replace("/opt/sidecar/bin/sidecar", "/bin/true"))  # it asks for an executable
    checked = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False, timeout=50)
    ours = [line for line in checked.stderr.splitlines() if "sidecar.service" in line]
    assert not ours


@needs_systemd
def test_systemd_calls_its_exposure_ok() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(UNIT)]  # 20 means 2.0 of 10
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    if "unrecognized option" in checked.stderr:
        pytest.skip("this systemd is older than 250")
    assert checked.returncode == 0, checked.stdout[-400:]


def test_a_reload_is_a_hangup_and_what_is_started_was_validated(service: dict[str, str]) -> None:
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["ExecStart"] == "/opt/sidecar/bin/sidecar run --config /etc/sidecar/sidecar.yaml"
    assert service["ExecStartPre"] == service["ExecStart"].replace(" run ", " validate ")


def test_it_may_write_where_the_admin_token_goes(service: dict[str, str]) -> None:
    assert service["Environment"] == f"XDG_RUNTIME_DIR=%t/{service['RuntimeDirectory']}"
    assert service["RuntimeDirectoryMode"] == "0700" and service["DynamicUser"] == "yes"


def test_systemd_waits_longer_than_the_sidecar_drains(service: dict[str, str]) -> None:
    drain = load(ROOT / "config" / "sidecar.yaml", environ={}).traffic.drain
    assert float(service["TimeoutStopSec"].removesuffix("s")) > drain + 10

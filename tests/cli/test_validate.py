from pathlib import Path

import pytest

from sidecar import cli
from tests.repository import ROOT


def test_a_good_config_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "traffic:\n  upstreams: {http/a: {url: http://a}, http/b: {url: http://b}}\n  routes: {a: {upstream: http/a}}\n"
    )
    assert cli.main(["validate", "--config", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        f"{file}: ok (1 listener, 1 route, 1 upstream, 0 policies, 0 pipelines)\n"
        f"{file}: traffic.upstreams.http/b is declared, but nothing uses it\n"
    )
    assert shown.err == ""


def test_every_fault_is_printed_with_file_line_path_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("traffic:\n  drain: 5s\n  rotes: {}\nadmn: {}\n")
    assert cli.main(["validate", "--config", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"{file}:3: traffic.rotes: unknown setting (did you mean 'routes'?)\n"
        f"{file}:4: admn: unknown key (did you mean 'admin'?)\n"
        f"{file}: 2 faults\n"
    )


def test_several_files_are_checked_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("x: 1\n")
    good.write_text("")
    assert cli.main(["validate", "--config", str(bad), "--config", str(good)]) == 1
    shown = capsys.readouterr()
    assert f"{good}: ok" in shown.out
    assert f"{bad}: 1 fault\n" in shown.err


def test_the_default_is_the_config_that_run_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["validate"]) == 0
    assert capsys.readouterr().out.startswith("built-in config: ok")
    monkeypatch.setenv("SIDECAR_CONFIG", str(ROOT / "config/minimal.yaml"))
    assert cli.main(["validate"]) == 0
    assert capsys.readouterr().out.startswith(f"{ROOT}/config/minimal.yaml: ok")
    monkeypatch.setenv("SIDECAR_CONFIG", "gone.yaml")
    assert cli.main(["validate"]) == 1
    assert "gone.yaml cannot be read: No such file or directory (name a file with --config)" in capsys.readouterr().err

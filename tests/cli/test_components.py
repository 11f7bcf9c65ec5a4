import json
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.runtime.components import SECTIONS, types


def test_every_type_is_listed_with_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["components", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == ["traffic", "service", "admin", *(section for section in SECTIONS if types(section))]
    for section in SECTIONS:
        assert list(listed.get(section, {})) == types(section)
    for section, kinds in listed.items():
        for name, described in kinds.items():
            assert described["doc"].strip(), (section, name)


def test_a_setting_is_told_with_type_default_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["components", "traffic.upstreams", "--json"]) == 0
    settings = {
        setting["name"]: setting for setting in json.loads(capsys.readouterr().out)["traffic.upstreams"]["http"]["settings"]
    }
    assert settings["connect_timeout"] == {
        "name": "connect_timeout",
        "type": "duration",
        "doc": settings["connect_timeout"]["doc"],
        "default": "5s",
    }
    assert settings["url"]["required"] is True
    assert "default" not in settings["url"]
    assert settings["max_header_bytes"]["default"] == "64KiB"
    assert settings["tls.ca_file"]["type"] == "text"


def test_every_setting_of_ours_has_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["components", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    silent = [
        f"{section}.{name}.{setting['name']}"
        for section, kinds in listed.items()
        for name, described in kinds.items()
        for setting in described["settings"]
        if not setting["doc"]
    ]
    assert silent == []


def test_people_get_a_page_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["components", "admin", "traffic.upstreams"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("\nadmin\n")
    assert '    endpoint: text, default "127.0.0.1:4141"\n      Address and port' in shown
    assert "\ntraffic.upstreams\n\n  grpc\n" in shown
    assert "\n  http\n\n    An HTTP/1.1 endpoint" in shown
    assert "    url: text, required\n" in shown
    assert "exporters" not in shown


def test_an_unknown_section_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["components", "exportes"]) == 1
    assert "exportes" in capsys.readouterr().err


def test_a_component_whose_library_is_missing_is_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "foreign_parts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "needs_extra.py").write_text("import a_library_that_is_not_there")
    (package / "odd.py").write_text("'''Odd.'''\nclass Config: pass\ndef build(name, config, runtime): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(SECTIONS, "extensions", "foreign_parts")
    assert cli.main(["components", "extensions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["extensions"]
    assert "No module named 'a_library_that_is_not_there'" in listed["needs_extra"]["doc"]
    assert listed["odd"] == {"doc": "Odd.", "settings": []}

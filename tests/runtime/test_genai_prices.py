import logging
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.runtime import genai_prices, price_export
from tests.engines.prices.calls import NOW, installed
from tests.repository import ROOT


def test_the_installed_list_is_read_with_its_version() -> None:
    found = installed()
    assert found.source == "genai-prices"
    assert found.version.count(".") == 2
    assert {"openai", "anthropic", "google", "aws", "azure", "mistral"} <= {provider.id for provider in found.providers}


def test_a_providers_models_are_unpacked_once_and_only_when_they_are_asked_for() -> None:
    found = genai_prices.catalogue(b"".join(price_export.export(genai_prices.installed() or Path())))
    openai = found.provider("openai", "")
    assert openai is not None
    assert openai.models() is openai.models()
    model = found.find(openai, "gpt-4o")
    assert model is not None
    assert model.model.quote(NOW, "").price.base.per_million[0] == 2_500_000_000


def test_without_the_package_there_is_no_list_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(genai_prices, "find_spec", lambda name: None)
    assert genai_prices.read() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "not installed" in caplog.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "data.py"),
        ("providers = 1 / 0", "division by zero"),
        ("other = 1", "providers"),
        ("providers = [Provider(id='x')]", "KeyError"),
        (
            "providers = [Provider(id='x', models=[ModelInfo(id='m', match=SoundsLike(sounds_like='z'))])]",
            "'sounds_like' is not known",
        ),
        ("providers = [Provider(id='x', models=[ModelInfo(id='m', match=Regex(regex='('))])]", "unterminated"),
    ],
)
def test_a_list_that_cannot_be_read_is_logged_and_none(
    tmp_path: Path, data: str | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    if data is not None:
        (tmp_path / "data.py").write_text(f"from .types import *\n{data}\n")
    assert genai_prices.read(tmp_path) is None
    (record,) = caplog.records
    assert words in record.getMessage()


@pytest.mark.parametrize(
    "export", [b"", b"{}\n", b"[]\n", b'{"version": "1", "providers": [{}]}\n', b'{"version": "1", "providers": 5}\n']
)
def test_what_is_no_export_is_an_error_that_reading_expects(export: bytes) -> None:
    with pytest.raises(genai_prices._TROUBLE):
        genai_prices.catalogue(export)


def test_nothing_of_the_package_is_imported_into_the_sidecar() -> None:
    program = "import sys\nfrom sidecar.runtime import genai_prices\nassert genai_prices.read()\nprint([name for name in sys.modules if name.startswith(('genai_prices', 'httpx', 'pydantic'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"

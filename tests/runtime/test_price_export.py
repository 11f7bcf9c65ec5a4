import datetime
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from sidecar.engines.prices.price import CLASSES
from sidecar.runtime import price_export
from sidecar.runtime.genai_prices import installed

DATA = """
import datetime
from decimal import Decimal
from .types import *
__all__ = ('providers',)
providers: list[Provider] = [
    Provider(
        id='groq', api_pattern='https://api.groq.com', provider_match=ClauseOr(or_=[ClauseEquals(equals='groq'), ClauseContains(contains='Groq')]),
        fallback_model_providers=['openai'], extractors=[SomethingNew(path=['a', OrOther(deep=1)])],
        models=[
            ModelInfo(
                id='whisper-large-v3', match=ClauseAnd(and_=[ClauseStartsWith(starts_with='w'), ClauseRegex(regex='3$')]), description='x' * 1000,
                prices=ModelPrice(audio_hours=Decimal('0.111'), input_audio_hours=Decimal('0.222')),
            ),
            ModelInfo(
                id='m', match=ClauseEquals(equals='m'), context_window=1000,
                prices=[
                    ConditionalPrice(prices=ModelPrice(
                        input_mtok=TieredPrices(base=Decimal('1.5'), tiers=[Tier(start=20, price=Decimal('3')), Tier(start=10, price=Decimal('2'))]),
                        output_mtok=Decimal('0.13999999999999999'), cache_read_mtok=None,
                    )),
                    ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(1970, 1, 11)), prices=ModelPrice(
                        web_searches_kcount=Decimal('10'), requests_kcount=Decimal('5'), input_document_kpages=Decimal('1'))),
                    ConditionalPrice(constraint=TimeOfDateConstraint(
                        start_time=datetime.time(0, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
                        end_time=datetime.time(16, 30, 5)), prices=ModelPrice()),
                ],
                price_variants=[PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('1')))],
            ),
        ],
    ),
]
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "genai_prices"
    folder.mkdir()
    (folder / "data.py").write_text(DATA)
    (tmp_path / "genai_prices-9.8.7.dist-info").mkdir()
    return folder


def exported(package: Path) -> tuple[Any, Any]:
    head, _, packed = b"".join(price_export.export(package)).partition(b"\n")
    index = json.loads(head)
    assert sum(provider["size"] for provider in index["providers"]) == len(packed)
    return index, json.loads(zlib.decompress(packed))


def test_the_index_has_the_version_and_how_a_provider_is_found(package: Path) -> None:
    index, _ = exported(package)
    (provider,) = index["providers"]
    assert index["version"] == "9.8.7"
    assert provider["is_called"] == ["or", [["equals", "groq"], ["contains", "Groq"]]]
    assert (provider["id"], provider["serves"], provider["is_known_for"], provider["lenders"]) == (
        "groq",
        "https://api.groq.com",
        None,
        ["openai"],
    )


def test_a_model_is_written_with_whole_numbers_for_prices(package: Path) -> None:
    _, (_, model) = exported(package)
    assert model == {
        "id": "m",
        "matches": ["equals", "m"],
        "prices": [
            [
                None,
                {"by_class": {"input": [1_500_000_000, [[10, 2_000_000_000], [20, 3_000_000_000]]], "output": [140_000_000, []]}},
            ],
            [
                [10, 0, 0],
                {
                    "by_class": {"web_search": [10_000_000_000_000, []]},
                    "per_request": 5_000_000,
                    "uncounted": ["input_document_kpages"],
                },
            ],
            [[0, 23 * 3600 + 1800, 16 * 3600 + 1805], {"by_class": {}}],
        ],
        "variants": [[{"processing": "batch"}, None, {"by_class": {"input": [1_000_000_000, []]}}]],
        "window": 1000,
    }


def test_what_the_package_says_in_its_code_only_is_written_down_too(package: Path) -> None:
    _, (whisper, _) = exported(package)
    assert whisper["prices"] == [[None, {"by_class": {}, "per_hour": 222_000_000, "least_seconds": 10}]]
    assert whisper["matches"] == ["and", [["starts_with", "w"], ["regex", "3$"]]]


def test_it_writes_classes_that_we_have() -> None:
    assert {*price_export._PER_MILLION.values(), *price_export._PER_THOUSAND.values()} <= CLASSES.keys()


def test_a_time_without_a_zone_is_utc() -> None:
    assert price_export._second_of_day(datetime.time(1, 2, 3)) == 3723


def test_it_runs_without_the_package_around_the_data_and_without_the_sidecar() -> None:
    program = f"import sys, runpy; sys.argv = ['x', {str(installed())!r}]; runpy.run_path({price_export.__file__!r}, run_name='__main__'); sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, check=True)
    modules = {name.partition(".")[0] for name in done.stderr.decode().split()}
    assert not modules & {"genai_prices", "pydantic", "httpx2", "sidecar", "asyncio"}
    assert 50_000 < len(done.stdout) < 250_000

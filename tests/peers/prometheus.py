"""
A real Prometheus that scrapes targets, where Debian's package of it is installed.

    async with Prometheus(tmp_path, port, "127.0.0.1:4141") as prometheus:
        series = (await prometheus.scraped())["127.0.0.1:4141"]

Its first scrape comes 5 s after its start (its service discovery waits so long), so ask for all targets at once.
"""

import asyncio
import json
import shutil
import urllib.request
from pathlib import Path

BINARY = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
PATIENCE_S = 30.0


class Prometheus:
    """Keeps its files in `folder` and listens on `port` of 127.0.0.1."""

    def __init__(self, folder: Path, port: int, *targets: str) -> None:
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [{"job_name": "sidecar", "static_configs": [{"targets": targets}]}],
        }
        self._folder = folder
        self._port = port
        self._targets = targets
        (folder / "prometheus.yml").write_text(json.dumps(config))

    async def __aenter__(self) -> "Prometheus":
        assert BINARY is not None, "skip the test where there is none"
        self._process = await asyncio.create_subprocess_exec(
            BINARY, f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=error",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()

    async def scraped(self) -> dict[str, dict[str, float]]:
        """Wait for the first scrape; returns for each target its series by name (one of them, where a name has several)."""
        async with asyncio.timeout(PATIENCE_S):
            found: dict[str, dict[str, float]] = {}
            while any("scrape_samples_scraped" not in found.get(target, {}) for target in self._targets):
                await asyncio.sleep(0.05)
                found = await asyncio.to_thread(self._every_series)
        return found

    def _every_series(self) -> dict[str, dict[str, float]]:
        url = f"http://127.0.0.1:{self._port}/api/v1/query?query=%7B__name__%21%3D%22%22%7D"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                answer = json.load(response)
        except OSError:  # it does not listen yet
            return {}
        found: dict[str, dict[str, float]] = {}
        for series in answer["data"]["result"]:
            found.setdefault(series["metric"]["instance"], {})[series["metric"]["__name__"]] = float(series["value"][1])
        return found

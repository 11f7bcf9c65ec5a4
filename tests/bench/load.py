"""Closed-loop load by wrk."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import LoadFailed
from tests.bench.payload import request_heads

_WRK_SCRIPT = """
local requests = {}
local count = 0
local following = 0
for line in io.lines(%(requests)s) do
  count = count + 1
  requests[count] = (line:gsub("\\\\n", "\\r\\n"))
end
local body = io.open(%(body)s, "rb"):read("*a")
for i = 1, count do requests[i] = requests[i] .. body end
function request()
  following = following %% count + 1
  return requests[following]
end
function done(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format('{"calls":%%d,"duration_us":%%d,"failed":%%d,"p50_us":%%d,"p99_us":%%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What wrk did: `failed` counts answers above 399, socket errors and timeouts."""

    calls: int
    duration_us: int
    failed: int

    @property
    def calls_per_s(self) -> float:
        return self.calls * 1e6 / self.duration_us


class Wrk:
    """Closed-loop load by wrk, one thread; it runs on the harness's core."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def run(self, port: int, path: str, body: bytes, *, connections: int, duration_s: float, traced: bool = True) -> Throughput:
        """Send POSTs for so long; raises `LoadFailed` when wrk itself fails."""
        script = self._script(port, path, body, traced)
        url = f"http://127.0.0.1:{port}{path}"
        command = [self._program, "-t1", f"-c{connections}", f"-d{duration_s:.0f}s", "--timeout", "5s", "-s", str(script), url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + 30, check=False)
        if ended.returncode != 0 or not ended.stderr.startswith("{"):
            raise LoadFailed(f"wrk ended with {ended.returncode}: {ended.stderr or ended.stdout}")
        numbers = json.loads(ended.stderr)
        return Throughput(numbers["calls"], numbers["duration_us"], numbers["failed"])

    def _script(self, port: int, path: str, body: bytes, traced: bool) -> Path:
        heads, content, script = (self._folder / name for name in ("wrk.heads", "wrk.body", "wrk.lua"))
        lines = [head.decode().replace("\r\n", "\\n") for head in request_heads(path, f"127.0.0.1:{port}", body, traced=traced)]
        heads.write_text("\n".join(lines) + "\n")
        content.write_bytes(body)
        script.write_text(_WRK_SCRIPT % {"requests": json.dumps(str(heads)), "body": json.dumps(str(content))})
        return script

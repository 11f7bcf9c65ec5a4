"""
The sidecar beside nginx and Envoy: `python -m tests.bench [--quick] [--publish]`, from the root of the checkout.

Everything runs on loopback: the proxy on one core, load and upstreams on another. Table on the terminal, numbers in
`tests/bench/results.json`; `--publish` also draws `docs/bench.svg` and rewrites the README between its markers.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.bench.client import LoadFailed
from tests.bench.goals import ROWS
from tests.bench.hotspots import profile
from tests.bench.load import Wrk
from tests.bench.machine import Missing, Programs, describe_machine, find_programs, versions
from tests.bench.measures import Numbers, measure_fresh, measure_steady
from tests.bench.proxy import QUICK, Bench, Plan
from tests.bench.report import OURS, PEERS, Rounds, publish, readme_block, subjects_of, text_table, verdicts
from tests.bench.subjects import Envoy, Nginx, Sidecar, Subject
from tests.bench.svg import picture
from tests.bench.upstreams import ROOT, running_upstreams, spans_received

RESULTS = ROOT / "tests" / "bench" / "results.json"
PICTURE = ROOT / "docs" / "bench.svg"
PUBLISHED_ROUNDS = 5


def main(argv: list[str] | None = None) -> int:
    """Run, or with `--from` only show, what was asked for; 1 when a goal was missed and `--strict` was given."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started us with & and Ctrl-C ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the context managers, which stop all children
    try:
        if arguments.profile:
            return _profile(arguments)
        results = json.loads(arguments.show.read_text()) if arguments.show else _measure(arguments)
    except (Missing, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    _show(results, arguments)
    missed = [one for row in ROWS for one in verdicts(results["rounds"], row) if not one.is_reached]
    return 1 if missed and arguments.strict else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the sidecar beside nginx and Envoy.")
    parser.add_argument("--quick", action="store_true", help="one round, for a first look (two minutes); writes no results.json")
    parser.add_argument("--rounds", type=int, help="how many rounds instead of 5")
    parser.add_argument(
        "--subjects", default="nginx,envoy,sidecar", help="a comma between; sidecar:DIRECTORY is a sidecar of another checkout"
    )
    parser.add_argument("--no-tls", action="store_true", help="leave the TLS upstreams out")
    parser.add_argument("--proxy-core", type=int, default=0, help="the proxy's core (0)")
    parser.add_argument("--load-core", type=int, default=1, help="the core of load and upstreams (1)")
    parser.add_argument("--output", type=Path, help="where the numbers go instead of tests/bench/results.json")
    parser.add_argument("--from", dest="show", type=Path, metavar="FILE", help="measure nothing, show these results")
    parser.add_argument("--publish", action="store_true", help="draw docs/bench.svg and rewrite the README's block")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--profile", type=int, metavar="SECONDS", help="instead: where the sidecar's time goes under load")
    parser.add_argument("--tls", action="store_true", help="profile with TLS upstreams")
    return parser


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    plan = QUICK if arguments.quick else Plan()
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    programs = find_programs(with_envoy="envoy" in arguments.subjects.split(","))
    subjects = [_subject(name, programs) for name in arguments.subjects.split(",")]
    began = time.monotonic()
    machine = describe_machine()
    with _bench(arguments, programs, plan) as bench:
        rounds = [_round(bench, subjects, number, with_tls=not arguments.no_tls) for number in range(plan.rounds)]
        requests, size_bytes = spans_received(bench.upstreams)
    return {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "took_s": round(time.monotonic() - began),
        "machine": machine,
        "versions": versions({subject.name: subject.version_command() for subject in subjects}, programs.wrk),
        "plan": asdict(plan),
        "otlp_requests": requests,
        "otlp_bytes": size_bytes,
        "rounds": rounds,
    }


@contextlib.contextmanager
def _bench(arguments: argparse.Namespace, programs: Programs, plan: Plan) -> Iterator[Bench]:
    """A temporary folder, the upstreams, and this process on the load's core with enough descriptors."""
    os.sched_setaffinity(0, {arguments.load_core})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "upstream").mkdir()
        with running_upstreams(programs.nginx, folder / "upstream", arguments.load_core) as upstreams:
            yield Bench(upstreams, Wrk(programs.wrk, folder), plan, folder, arguments.proxy_core)


def _round(bench: Bench, subjects: list[Subject], number: int, *, with_tls: bool) -> dict[str, Numbers]:
    """Visit every subject in every step; who comes first changes from round to round."""
    turned = subjects[number % len(subjects) :] + subjects[: number % len(subjects)]
    results: dict[str, Numbers] = {subject.name: {} for subject in subjects}

    def told(name: str, step: str, numbers: Numbers) -> None:
        shown = ", ".join(f"{key} {value:.6g}" for key, value in numbers.items())
        print(f"round {number + 1}/{bench.plan.rounds}  {name:8}  {step:18}  {shown}", file=sys.stderr, flush=True)

    for tls in (False, True) if with_tls else (False,):
        prefix = "tls_" if tls else ""
        for subject in turned:
            numbers = measure_fresh(bench, subject, tls=tls)
            told(subject.name, prefix + "fresh", numbers)
            results[subject.name] |= {prefix + key: value for key, value in numbers.items()}
        for name, numbers in measure_steady(bench, turned, tls=tls, told=told).items():
            results[name] |= {prefix + key: value for key, value in numbers.items()}
    for numbers in results.values():
        numbers["failed"] = sum(value for key, value in numbers.items() if "failed" in key)
        numbers["broken"] = sum(value for key, value in numbers.items() if "broken" in key)
    return results


def _subject(name: str, programs: Programs) -> Subject:
    kind, _, directory = name.partition(":")
    if kind == "nginx":
        return Nginx(programs.nginx)
    if kind == "envoy":
        return Envoy(programs.envoy)
    if kind == OURS:
        return Sidecar(name, Path(directory).resolve()) if directory else Sidecar()
    raise Missing(f"there is no subject {name!r}; there are nginx, envoy, sidecar and sidecar:DIRECTORY")


def _show(results: dict[str, Any], arguments: argparse.Namespace) -> None:
    rounds: Rounds = results["rounds"]
    print(text_table(rounds))
    print(f"\n{len(rounds)} rounds in {results['took_s']} s; medians (least–greatest); × are ratios of medians")
    noise = max((numbers[name].get("others_share", 0.0) for numbers in rounds for name in numbers), default=0.0)
    if noise > 0.05:
        print(f"NOISY: other processes took up to {noise:.0%} of the proxy's core during a load; repeat on a quiet machine")
    spans = min((numbers[OURS].get("spans_a_call", 2.0) for numbers in rounds if OURS in numbers), default=2.0)
    if spans < 1.9:
        print(f"UNFAIR: the sidecar exported {spans:.2f} spans a call instead of 2, so it did less than its work")
    target = arguments.output or (None if arguments.quick or arguments.show else RESULTS)
    if target:
        target.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.publish and (len(rounds) < PUBLISHED_ROUNDS or not {OURS, *PEERS} <= set(subjects_of(rounds))):
        print(f"not published: that takes {PUBLISHED_ROUNDS} rounds with all three subjects")
    elif arguments.publish:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(picture(rounds))
        publish(ROOT / "README.md", readme_block(results))


def _profile(arguments: argparse.Namespace) -> int:
    programs = find_programs(with_envoy=False)
    with _bench(arguments, programs, QUICK) as bench:
        print(profile(bench, Sidecar(), arguments.profile, tls=arguments.tls))
    return 0


if __name__ == "__main__":
    sys.exit(main())

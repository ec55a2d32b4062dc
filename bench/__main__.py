"""`python -m bench`: this server and its peers side by side, on one machine, in one go."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench import contestants, loads, machine, report, rounds, works
from bench.contestants import ROOT, WORKSPACE
from bench.loads import Load
from bench.rounds import Pace, Result, Series
from bench.servers import H2LOAD, Running, Server, ServerError, start
from bench.targets import Work

CPP = "C++ client"
CLIENTS = {CPP: loads.cpp, H2LOAD: loads.h2load}
LOGS = WORKSPACE / "logs"
STARTS = 5
RATES = (500, 1000, 2000, 4000, 8000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all that is installed was measured, 1 when a server failed, 2 when a tool is missing."""
    options = parse(arguments)
    if missing := [tool for tool in (str(WORKSPACE / "loadgen"), H2LOAD) if not shutil.which(tool)]:
        print(f"bench: {' and '.join(missing)} missing: `make bench` builds, or names what to install", file=sys.stderr)
        return 2
    models, runs = WORKSPACE / "models", WORKSPACE / "runs"
    works.make_models(runs, models)
    LOGS.mkdir(parents=True, exist_ok=True)
    work = works.works(runs, models)
    limits = works.limits(models, work)
    alone = start_alone(models, list(work.values())[:1])
    with ExitStack() as stack:
        running, absent = start_all(contestants.everyone(models), options.only, list(work.values()), stack)
        results = [result for series in plan(work, options) for result in measure(series, running, options)]
        servers = [_facts(each) for each in running]
    told = {**_setting(options), "limits": limits, "alone_seconds": alone, "servers": servers, "absent": absent}
    told["results"] = [asdict(result) for result in results]
    failed = [reason for reason in absent.values() if reason.startswith("failed")]
    options.results.write_text(json.dumps(told, indent=1) + "\n")
    options.page.write_text(report.page(told))
    print(f"\n{options.page}")
    return 1 if failed or any(result.failures for result in results) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--rounds", type=int, default=5, help="of every server in every table")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round")
    parser.add_argument("--pause-seconds", type=float, default=0, help="between rounds: leaves the machine to others")
    parser.add_argument("--tries", type=int, default=4, help="of a round that others disturb")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="servers whose name holds one of these")
    parser.add_argument(
        "--works", nargs="*", default=[], metavar="WORK", help="kinds of work whose name holds one of these"
    )
    parser.add_argument("--no-open-loop", action="store_true", help="leave out the fixed arrival rates")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--results", type=Path, default=WORKSPACE / "results.json", help="every round, as JSON")
    return parser.parse_args(arguments)


def start_all(
    servers: Sequence[Server], only: Sequence[str], work: Sequence[Work], stack: ExitStack
) -> tuple[list[Running], dict[str, str]]:
    """The servers that answer, and why the others do not."""
    running: list[Running] = []
    absent: dict[str, str] = {}
    for server in servers:
        if only and not any(name.lower() in server.name.lower() for name in only):
            continue
        if not server.needs.exists():
            absent[server.name] = "skipped: not installed, see bench/README.md"
        else:
            try:
                running.append(start(server, work, LOGS))
                stack.callback(running[-1].stop)
            except ServerError as error:
                absent[server.name] = f"failed: {error}"
        print(f"{server.name}: {absent.get(server.name, 'ready')}", flush=True)
    return running, absent


def start_alone(models: Path, work: Sequence[Work]) -> float:
    """Seconds from the start of our server with one model to its first right answer: the median of a few starts."""
    one = WORKSPACE / "one"
    shutil.rmtree(one, ignore_errors=True)
    shutil.copytree(models / work[0].model, one / work[0].model)
    seconds: list[float] = []
    for _ in range(STARTS):
        running = start(contestants.hourglass("native", one), work, LOGS)
        running.stop()
        seconds.append(running.start_seconds)
    return median(seconds)


def plan(work: Mapping[str, Work], options: argparse.Namespace) -> Iterator[Series]:
    """What is measured, in this order."""
    callers = {"encode 1 image": (1, 8, 64), "encode 64 images": (4,), "denoise 1 image": (8, 64)}
    wanted = [name for name in work if not options.works or any(part in name for part in options.works)]
    for name in wanted:
        for load in (Load(callers=count) for count in callers[name]):
            for client, generator in CLIENTS.items():
                yield Series(work[name], load, client, generator)
    if not options.no_open_loop and "encode 1 image" in wanted:
        for rate in RATES:
            yield Series(work["encode 1 image"], Load(rate=rate), CPP, loads.cpp)


def measure(series: Series, running: Sequence[Running], options: argparse.Namespace) -> Iterator[Result]:
    """Measures one series and tells it at once."""
    print(f"\n{series.work.name}, {series.load}, {series.client}", flush=True)
    for result in rounds.run(series, running, _pace(options)):
        for failure in result.failures:
            print(f"  {result.server}: a round failed: {failure}", flush=True)
        if not result.rounds:
            continue
        low, high = result.spread("per_second")
        print(
            f"  {result.server:<28}{result.middle('per_second'):>9,.0f}/s ({low:,.0f} to {high:,.0f})"
            f"{result.middle('p50_ms'):>9.2f} ms p50{result.middle('p99_ms'):>9.2f} ms p99"
            f"{result.middle('server_microseconds'):>8.0f} µs CPU{result.middle('foreign_cores'):>6.2f} cores foreign",
            flush=True,
        )
        yield result


def _facts(running: Running) -> dict[str, object]:
    """What is known of a server beside its speed; its memory after all that load."""
    resident, proportional = machine.memory_mib(running.process.pid)
    return {
        "name": running.server.name,
        "note": running.server.note,
        "start_seconds": running.start_seconds,
        "idle_mib": running.idle_mib,
        "resident_mib": resident,
        "proportional_mib": proportional,
    }


def _pace(options: argparse.Namespace) -> Pace:
    return Pace(options.rounds, options.seconds, options.tries, options.pause_seconds)


def _priority() -> str:
    if os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}:
        return "at real-time priority: the other programs of the machine got what these left idle"
    return f"at niceness {os.nice(0)}"


def _setting(options: argparse.Namespace) -> dict[str, object]:
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    revision = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine.description(),
        "revision": revision,
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "quiet_cores": rounds.QUIET_CORES,
        "tries": options.tries,
        "priority": _priority(),
    }


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench`: benchmark of this server and its peers on one machine, in one run."""

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench import load_generators, machine, report, rounds, server_list, works
from bench.load_generators import Load
from bench.rounds import Pace, Result, Series
from bench.servers import H2LOAD, Running, Server, ServerError, start
from bench.targets import Work
from bench.works import ROOT, WORKSPACE

CPP = "C++ client"
CLIENTS = {CPP: load_generators.cpp, H2LOAD: load_generators.h2load}
LOGS = WORKSPACE / "logs"
STARTS = 5
RATES = (500, 1000, 2000, 4000, 8000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 if everything installed was measured, 1 if a server failed, 2 if a tool is missing."""
    options = parse(arguments)
    if missing := [tool for tool in (str(WORKSPACE / "loadgen"), H2LOAD) if not shutil.which(tool)]:
        print(
            f"bench: {' and '.join(missing)} missing: `make bench` builds it or says what to install",
            file=sys.stderr,
        )
        return 2
    models, runs = WORKSPACE / "models", WORKSPACE / "runs"
    works.make_models(runs, models)
    LOGS.mkdir(parents=True, exist_ok=True)
    work = works.works(runs, models)
    limits = works.limits(models, work)
    alone = start_alone(models, list(work.values())[:1])
    with ExitStack() as stack:
        running, absent = start_all(server_list.all_servers(models), options.only, list(work.values()), stack)
        results = [result for series in plan(work, options) for result in measure(series, running, options)]
        servers = [_facts(each) for each in running]
    record = {**_setting(options), "limits": limits, "alone_seconds": alone, "servers": servers, "absent": absent}
    record["results"] = [asdict(result) for result in results]
    failed = [reason for reason in absent.values() if reason.startswith("failed")]
    options.results.write_text(json.dumps(record, indent=1) + "\n")
    options.page.write_text(report.page(record))
    print(f"\n{options.page}")
    return 1 if failed or any(result.failures for result in results) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--rounds", type=int, default=5, help="rounds per server in every table")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a round")
    parser.add_argument("--pause-seconds", type=float, default=0, help="pause between rounds, for other programs")
    parser.add_argument("--tries", type=int, default=4, help="attempts at a round that other programs disturb")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="NAME", help="servers whose name contains one of these"
    )
    parser.add_argument(
        "--works", nargs="*", default=[], metavar="WORK", help="workloads whose name contains one of these"
    )
    parser.add_argument("--no-open-loop", action="store_true", help="skip the fixed arrival rates")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--results", type=Path, default=WORKSPACE / "results.json", help="every round, as JSON")
    return parser.parse_args(arguments)


def start_all(
    servers: Sequence[Server], only: Sequence[str], work: Sequence[Work], stack: ExitStack
) -> tuple[list[Running], dict[str, str]]:
    """The servers that started, and why the others did not."""
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
    """Seconds from the start of our server with one model to its first correct answer: the median of five starts."""
    one = WORKSPACE / "one"
    shutil.rmtree(one, ignore_errors=True)
    shutil.copytree(models / work[0].model, one / work[0].model)
    seconds: list[float] = []
    for _ in range(STARTS):
        running = start(server_list.hourglass("native", one), work, LOGS)
        running.stop()
        seconds.append(running.start_seconds)
    return median(seconds)


def plan(work: Mapping[str, Work], options: argparse.Namespace) -> Iterator[Series]:
    """All series, in the order of measuring."""
    callers = {"encode 1 image": (1, 8, 64), "encode 64 images": (4,), "denoise 1 image": (8, 64)}
    chosen = [name for name in work if not options.works or any(part in name for part in options.works)]
    for name in chosen:
        for load in (Load(callers=count) for count in callers[name]):
            for client, generator in CLIENTS.items():
                yield Series(work[name], load, client, generator)
    if not options.no_open_loop and "encode 1 image" in chosen:
        for rate in RATES:
            yield Series(work["encode 1 image"], Load(rate=rate), CPP, load_generators.cpp)


def measure(series: Series, running: Sequence[Running], options: argparse.Namespace) -> Iterator[Result]:
    """Measure one series and print each result at once."""
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
    """Facts about a server other than its speed; memory after the load."""
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
        return "at real-time priority: other programs on the machine got only idle time"
    return f"at niceness {os.nice(0)}"


def _setting(options: argparse.Namespace) -> dict[str, object]:
    return {
        **machine.date_and_revision(),
        "machine": machine.description(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "quiet_cores": rounds.QUIET_CORES,
        "tries": options.tries,
        "priority": _priority(),
    }


if __name__ == "__main__":
    sys.exit(main())

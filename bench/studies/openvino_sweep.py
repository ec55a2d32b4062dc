"""Settings of the C++ server on the OpenVINO runtime, beside the C++ echo and this server; writes a page.

`python -m bench.studies.openvino_sweep` after `make bench-peers` and one run of `make bench`, which builds what is
needed.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from statistics import median

from bench import load_generators, machine, openvino_servers, server_list, works
from bench.load_generators import Load
from bench.servers import Running, Server, start
from bench.works import ROOT, WORKSPACE

PAGE = ROOT / "docs" / "benchmarks-openvino.md"
ROUNDS, SECONDS = 3, 0.4
LOADS = {"encode 1 image": Load(callers=64), "encode 64 images": Load(callers=4), "denoise 1 image": Load(callers=64)}
Rates = Mapping[tuple[str, str], float]


def settings() -> Iterator[tuple[str, ...]]:
    """Flags: gRPC's or OpenVINO's threads, free or fixed batch, streams and threads."""
    for sync in ("0", "1"):
        yield ("--sync", sync)
        for streams, threads in (("1", "1"), ("1", "2"), ("2", "2"), ("4", "4")):
            yield ("--sync", sync, "--fixed", "1", "--streams", streams, "--threads", threads)


def main() -> int:
    """Measure all settings, and write the page."""
    models, runs, program = WORKSPACE / "models", WORKSPACE / "runs", WORKSPACE / "openvino_server"
    work, logs = works.works(runs, models), WORKSPACE / "logs"
    named = {server.name: server for server in server_list.all_servers(models)}
    servers = [named["C++ echo"], named["OpenVINO, stubbed"], named["hourglass native"]]
    servers += [openvino_servers.server(program, " ".join(flags), "", models, *flags) for flags in settings()]
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        running: list[Running] = []
        for server in servers:
            running.append(start(server, list(work.values()), logs))
            stack.callback(running[-1].stop)
        rates = {
            (each.server.name, name): rate
            for name, load in LOADS.items()
            for each, rate in measure(running, work[name], load)
        }
    PAGE.write_text("\n".join(page(servers, rates)) + "\n")
    print(PAGE)
    return 0


def measure(running: list[Running], work: works.Work, load: Load) -> Iterator[tuple[Running, float]]:
    """Answers a second of each server that does this work: the median of interleaved rounds."""
    able = [(each, target) for each in running if (target := each.server.target(work)) is not None]
    seen: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        for index in range(len(able)):
            each, target = able[(index + turn) % len(able)]
            answers = load_generators.cpp(each.address, target, load, SECONDS)
            seen.setdefault(each.server.name, []).append(answers.per_second)
    return ((each, median(seen[each.server.name])) for each, _ in able)


def page(servers: list[Server], rates: Rates) -> Iterator[str]:
    """The table, with the best setting for one image marked."""
    facts = machine.date_and_revision()
    best = max((s.name for s in servers if s.name.startswith("--")), key=lambda name: rates[name, "encode 1 image"])
    yield "# The C++ server on OpenVINO: settings"
    yield ""
    written = f"on {facts['date']} at revision {facts['revision']}"
    yield f"Written by `python -m bench.studies.openvino_sweep` {written}. Machine:"
    yield f"{machine.description()}; servers and load generator share it, over loopback."
    yield f"Answers a second with the C++ client, medians of {ROUNDS} interleaved rounds of {SECONDS} s; precision as"
    yield "OpenVINO chooses it. `bench/native/openvino_server.cc` says what the flags do; without streams and threads"
    yield "OpenVINO chooses them for throughput. [Benchmarks](benchmarks.md) run it as `bench/server_list.py` says."
    yield ""
    yield f"| server | {' | '.join(f'{name}, {load}' for name, load in LOADS.items())} |"
    yield "| --- |" + " ---: |" * len(LOADS)
    for server in servers:
        cells = [rates.get((server.name, name)) for name in LOADS]
        shown = " | ".join("-" if cell is None else f"{cell:,.0f}" for cell in cells)
        name = f"`{server.name}`" if server.name.startswith("--") else server.name
        yield f"| {name}{' (best)' if server.name == best else ''} | {shown} |"


if __name__ == "__main__":
    sys.exit(main())

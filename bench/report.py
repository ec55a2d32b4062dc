"""The page: what was measured, as tables, beside what is aimed at."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from bench import goals
from bench.results import Results, Rounds

CLIENTS = ("C++ client", "h2load")
METHOD = """\
- All servers run at the same time; in each table they take turns, {rounds} rounds of {seconds} s, the order moved on by
  one every round. Shown: the median, and the least and the largest in brackets.
- A round during which other programs kept more than {quiet_cores} cores busy is spoiled. Tries of a spoiled round in
  all: {tries}; the least disturbed one is kept, whatever its result. † marks medians that still had such company.
- Servers and load generators ran {priority}.
- All servers run the same ONNX files in onnxruntime with one thread a session. Every answer is compared with
  onnxruntime's own before the clock starts; during it its size is checked, by the C++ client its status too.
- C++ client: `bench/native/loadgen.cc` on Debian's libgrpc++, one thread. h2load: nghttp2's, gRPC frames over HTTP/2,
  or HTTP/1.1 for servers without gRPC. 1, 4, 8 and 64 callers share 1, 4, 4 and 8 connections (HTTP/1.1: one each).
- Open loop: requests leave at a fixed rate whatever the server does, latency counts from the moment at which a request
  was meant to leave. "owed": requests without an answer two seconds after the end.
- CPU: time of all processes of the server per answer. On a machine like this ratios below 1.2 mean little.
"""


def page(told: Mapping[str, Any]) -> str:
    """The whole page in Markdown."""
    results = Results(told)
    parts = (_head(told), _goals(results), *(_table(results, work, client) for work, client in results.works()))
    return "\n".join(line for part in (*parts, _failures(told), _servers(told), _limits(told)) for line in part)


def _head(told: Mapping[str, Any]) -> Iterator[str]:
    yield "# Benchmarks\n"
    yield f"Written by `make bench` (`{told['command']}`) on {told['date']} at revision {told['revision']}."
    yield f"Machine: {told['machine']}; servers and load generators share it, over loopback.\n"
    yield METHOD.format(**told)


def _goals(results: Results) -> Iterator[str]:
    yield "## Aims\n"
    yield "Ratios of medians of this run; in brackets the floor that must not be missed. Where the time goes where one"
    yield "is missed, and what was tried: [performance notes](performance-notes.md). Measured apart from this run:"
    yield "a fast model beside a slow one, size on disk ([checked](performance-notes.md#checked)); memory after many"
    yield "requests ([reliability](reliability.md#memory)).\n"
    yield from goals.table(results, CLIENTS)
    yield ""


def _table(results: Results, work: str, client: str) -> Iterator[str]:
    loads = results.loads(work, client)
    for kind, shown in (
        ("closed loop", [x for x in loads if "/s" not in x]),
        ("open loop", [x for x in loads if "/s" in x]),
    ):
        if not shown:
            continue
        yield f"## {work.capitalize()}, {client}, {kind}\n"
        yield "| server | load | answers a second | p50 ms | p99 ms | CPU µs | RSS MiB |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for server in results.servers(work, client):
            for load in shown:
                if rounds := results.rounds(server, work, load, client):
                    yield _row(server, load, rounds, results.told["quiet_cores"])
        yield ""


def _row(server: str, load: str, rounds: Rounds, quiet_cores: float) -> str:
    middle = {name: median(each[name] for each in rounds) for name in rounds[0]}
    speeds = [each["per_second"] for each in rounds]
    mark = " †" if middle["foreign_cores"] > quiet_cores else ""
    owed = f", {middle['unfinished']:.0f} owed" if middle["unfinished"] else ""
    return (
        f"| {server} | {load.replace('1 callers', '1 caller')} "
        f"| {middle['per_second']:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}){owed}{mark} "
        f"| {middle['p50_ms']:.2f} | {middle['p99_ms']:.2f} "
        f"| {middle['server_microseconds']:.0f} | {middle['memory_mib']:.0f} |"
    )


def _failures(told: Mapping[str, Any]) -> Iterator[str]:
    failed = [(each, text) for each in told["results"] for text in each["failures"]]
    if failed:
        yield "## Rounds that failed\n"
        for each, text in failed:
            yield f"- {each['server']}, {each['work']}, {each['load']}, {each['client']}: {text.splitlines()[0]}"
        yield ""


def _servers(told: Mapping[str, Any]) -> Iterator[str]:
    yield "## Who took part\n"
    yield "| server | what it is | start to first answer, two models, s | RSS idle, MiB | RSS / PSS at the end, MiB |"
    yield "| --- | --- | --- | --- | --- |"
    for each in told["servers"]:
        memory = f"{each['resident_mib']:.0f} / {each['proportional_mib']:.0f}"
        yield f"| {each['name']} | {each['note']} | {each['start_seconds']:.2f} | {each['idle_mib']:.0f} | {memory} |"
    for name, reason in told["absent"].items():
        yield f"| {name} | {reason.splitlines()[0]} | - | - | - |"
    yield ""


def _limits(told: Mapping[str, Any]) -> Iterator[str]:
    yield "## onnxruntime alone\n"
    yield "One session, one thread, one caller in the same process, no server: the limit of one core.\n"
    yield "| work | runs a second |"
    yield "| --- | --- |"
    for work, speed in told["limits"].items():
        yield f"| {work} | {speed:,.0f} |"
    yield ""

"""The report: measurements and goals as Markdown tables."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from bench import goals
from bench.results import Results, Rounds

CLIENTS = ("C++ client", "h2load")
METHOD = """\
- All servers run at the same time; in each table they are measured in turn, {rounds} rounds of {seconds} s, in an order
  rotated by one every round. Shown: the median, with the minimum and maximum in brackets.
- A round during which other programs kept more than {quiet_cores} cores busy is disturbed. It is repeated, up to
  {tries} attempts in all; the least disturbed one is kept, whatever its result. † marks medians that remain disturbed.
- Servers and load generators ran {priority}.
- All servers run the same ONNX files in onnxruntime with one thread a session. Every answer is compared with
  onnxruntime's before the clock starts; while it runs, their size is checked, by the C++ client the status too.
- C++ client: `bench/native/loadgen.cc` on Debian's libgrpc++, one thread. h2load: nghttp2's, gRPC frames over HTTP/2,
  or HTTP/1.1 for servers without gRPC. 1, 4, 8 and 64 callers share 1, 4, 4 and 8 connections (HTTP/1.1: one each).
- Open loop: requests are sent at a fixed rate whatever the server does; latency counts from the scheduled send time.
  "owed": requests without an answer two seconds after the end.
- CPU: time of all processes of the server per answer. On a machine like this, ratios below 1.2 mean little.
"""


def page(record: Mapping[str, Any]) -> str:
    """The whole page in Markdown."""
    results = Results(record)
    parts = (_head(record), _goals(results), *(_table(results, work, client) for work, client in results.works()))
    return "\n".join(line for part in (*parts, _failures(record), _servers(record), _limits(record)) for line in part)


def _head(record: Mapping[str, Any]) -> Iterator[str]:
    yield "# Benchmarks\n"
    yield f"Written by `make bench` (`{record['command']}`) on {record['date']} at revision {record['revision']}."
    yield f"Machine: {record['machine']}; servers and load generators share it, over loopback.\n"
    yield METHOD.format(**record)


def _goals(results: Results) -> Iterator[str]:
    yield "## Aims\n"
    yield "Ratios of medians of this run, with the floor (the hard limit) in brackets. Where the time goes when one is"
    yield "missed, and what was tried: [performance notes](performance-notes.md). Measured separately:"
    yield "a fast model next to a slow one, size on disk ([checked](performance-notes.md#checked)); memory after many"
    yield "requests ([reliability](reliability.md#memory-leaks)).\n"
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
                    yield _row(server, load, rounds, results.record["quiet_cores"])
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


def _failures(record: Mapping[str, Any]) -> Iterator[str]:
    failed = [(each, text) for each in record["results"] for text in each["failures"]]
    if failed:
        yield "## Rounds that failed\n"
        for each, text in failed:
            yield f"- {each['server']}, {each['work']}, {each['load']}, {each['client']}: {text.splitlines()[0]}"
        yield ""


def _servers(record: Mapping[str, Any]) -> Iterator[str]:
    yield "## Servers\n"
    yield "| server | what it is | start to first answer, two models, s | RSS idle, MiB | RSS / PSS at the end, MiB |"
    yield "| --- | --- | --- | --- | --- |"
    for each in record["servers"]:
        memory = f"{each['resident_mib']:.0f} / {each['proportional_mib']:.0f}"
        yield f"| {each['name']} | {each['note']} | {each['start_seconds']:.2f} | {each['idle_mib']:.0f} | {memory} |"
    for name, reason in record["absent"].items():
        yield f"| {name} | {reason.splitlines()[0]} | - | - | - |"
    yield ""


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    yield "## onnxruntime alone\n"
    yield "One session, one thread, one caller in the same process, no server: the limit of one core.\n"
    yield "| work | runs a second |"
    yield "| --- | --- |"
    for work, speed in record["limits"].items():
        yield f"| {work} | {speed:,.0f} |"
    yield ""

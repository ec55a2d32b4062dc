"""Scrapes of idle models: latency of a paced caller with and without a scrape a second, in interleaved rounds.

`python -m bench.studies.scrapes` prints the medians and their ratios, and how long the server took to be ready; exit 1 when
p99.9 with scrapes is more than twice that without.
"""

import argparse
import gc
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from bench import machine, works
from bench.server_list import ROOT, WORKSPACE
from bench.targets import Target, hourglass

LIMIT = 2.0
MODEL = "fc-ae"
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
INTERVAL_SECONDS = 1.0
# What Prometheus asks for.
ACCEPT = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5"
_LISTENING = re.compile(r"listening grpc=(\S+) metrics=(\S+)")


@dataclass(frozen=True)
class Ready:
    """A server that is ready."""

    address: str
    metrics: str
    """Address of its metrics."""
    seconds: float
    """From the start of the program until it was ready."""
    cpu_seconds: float


def copies(model: Path, count: int, repository: Path) -> None:
    """Write a repository of one model under many names."""
    document = json.loads((model / "1" / "model.json").read_text())
    for number in range(count):
        folder = repository / f"{model.name}-{number}" / "1"
        shutil.copytree(model / "1", folder)
        (folder / "model.json").write_text(json.dumps({**document, "name": folder.parent.name}))


@contextmanager
def served(repository: Path, flags: Sequence[str]) -> Generator[Ready]:
    """Run the server on free ports."""
    command = [sys.executable, "-m", "server", "--repository", str(repository), "--port", "0", "--metrics-port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
    ) as process:
        try:
            found = _LISTENING.search(process.stdout.readline() if process.stdout else "")
            if found is None:
                sys.exit("scrapes: the server did not listen")
            while not _ready(found[2]):
                time.sleep(0.02)
            yield Ready(found[1], found[2], time.perf_counter() - began, machine.cpu_seconds(process.pid))
        finally:
            process.terminate()


def _ready(metrics: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{metrics}/readyz", timeout=10):
            return True
    except OSError:
        return False


def scrape(metrics: str) -> bytes:
    """The page that Prometheus gets."""
    request = urllib.request.Request(f"http://{metrics}/metrics", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return answer.read()


def scrape_repeatedly(metrics: str, due: Event) -> None:
    """Scrape once a second while an event is set."""
    while due.wait():
        scrape(metrics)
        time.sleep(INTERVAL_SECONDS)


@contextmanager
def scraper(metrics: str) -> Generator[Event]:
    """A process that scrapes while the event is set."""
    context = multiprocessing.get_context("spawn")
    due = context.Event()
    process = context.Process(target=scrape_repeatedly, args=(metrics, due), daemon=True)
    process.start()
    try:
        yield due
    finally:
        process.kill()


def call(channel: grpc.Channel, target: Target, rate: float, seconds: float) -> dict[str, float]:
    """Call at a fixed rate; quantiles of the milliseconds from when each call was due to its answer."""
    ask = channel.unary_unary(target.path)
    waits: list[float] = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        time.sleep(max(0, due - time.perf_counter()))
        ask(target.body, timeout=5)
        waits.append(time.perf_counter() - due)
    return {name: float(np.quantile(waits, share)) * 1e3 for name, share in QUANTILES.items()}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--models", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=10, help="of each kind")
    parser.add_argument("--seconds", type=float, default=5, help="length of a round")
    parser.add_argument("--rate", type=float, default=200, help="calls a second")
    parser.add_argument("--starts", type=int, default=0, metavar="N", help="only start the server, N times")
    parser.add_argument("flags", nargs="*", help="of the server, after --")
    options = parser.parse_args()
    runs, models = WORKSPACE / "runs", WORKSPACE / "models"
    works.make_models(runs, models)
    encode = replace(works.works(runs, models)["encode 1 image"], model=f"{MODEL}-0")
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        copies(models / MODEL, options.models, repository)
        for _ in range(options.starts):
            with served(repository, options.flags) as ready:
                print(f"{options.models} models ready after {ready.seconds:.2f} s, {ready.cpu_seconds:.2f} s of CPU")
        if options.starts:
            return 0
        with served(repository, options.flags) as ready, grpc.insecure_channel(ready.address) as channel:
            return measure(ready, channel, hourglass(encode), options)


def measure(ready: Ready, channel: grpc.Channel, target: Target, options: argparse.Namespace) -> int:
    """Print the table; the exit code."""
    gc.disable()
    alone: list[dict[str, float]] = []
    beside: list[dict[str, float]] = []
    with scraper(ready.metrics) as due:
        # The scraper starts meanwhile.
        call(channel, target, options.rate, 3)
        for _ in range(options.rounds):
            alone.append(call(channel, target, options.rate, options.seconds))
            due.set()
            beside.append(call(channel, target, options.rate, options.seconds))
            due.clear()
            time.sleep(INTERVAL_SECONDS)
    began = time.perf_counter()
    page = scrape(ready.metrics)
    seconds = time.perf_counter() - began
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    print(f"{options.models} models: {series} series, {len(page) / 1e3:.0f} kB, {seconds * 1e3:.0f} ms a scrape")
    ratios: dict[str, float] = {}
    for name in QUANTILES:
        without, with_ = (median(each[name] for each in rounds) for rounds in (alone, beside))
        ratios[name] = with_ / without
        print(f"{name}: {without:.2f} ms, with scrapes {with_:.2f} ms, {ratios[name]:.2f} times")
    for name, rounds in (("without", alone), ("with", beside)):
        print(f"p99.9 of each round {name} scrapes:", *(f"{each['p99.9']:.1f}" for each in rounds))
    return 0 if ratios["p99.9"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

"""Scrapes of idle models: latency of a paced caller with and without a scrape a second, in interleaved rounds.

`python -m bench.studies.scrapes` prints quantiles over all rounds of a kind and their ratios, and how long the server
took to be ready; exit 1 when p99.9 with scrapes is more than twice that without, or a scrape failed.
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
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
import numpy as np

from bench import machine, works
from bench.server_list import ROOT, WORKSPACE
from bench.servers import READY_SECONDS
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
            wait_until_ready(process, found[2], READY_SECONDS)
            yield Ready(found[1], found[2], time.perf_counter() - began, machine.cpu_seconds(process.pid))
        finally:
            process.terminate()


def wait_until_ready(process: subprocess.Popen[str], metrics: str, seconds: float) -> None:
    """Wait; exit with a sentence where the server ends before it is ready, or takes longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while not _ready(metrics):
        if (status := process.poll()) is not None:
            sys.exit(f"scrapes: the server ended with status {status} before it was ready")
        if time.monotonic() > deadline:
            sys.exit(f"scrapes: the server was not ready after {seconds:g} s")
        time.sleep(0.02)


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


@dataclass(frozen=True)
class Scraper:
    """A process that scrapes while the event is set, and ends where a scrape fails."""

    process: BaseProcess
    due: Event

    def check(self) -> None:
        """Exit with a sentence where a scrape has failed: what follows would be measured without any."""
        if not self.process.is_alive():
            sys.exit("scrapes: a scrape failed, as its traceback says; nothing was measured")


@contextmanager
def scraper(metrics: str) -> Generator[Scraper]:
    """A process that scrapes when it is due."""
    context = multiprocessing.get_context("spawn")
    due = context.Event()
    process = context.Process(target=scrape_repeatedly, args=(metrics, due), daemon=True)
    process.start()
    try:
        yield Scraper(process, due)
    finally:
        process.kill()


def call(channel: grpc.Channel, target: Target, rate: float, seconds: float) -> list[float]:
    """Call at a fixed rate; milliseconds from when each call was due to its answer."""
    ask = channel.unary_unary(target.path)
    waits: list[float] = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        time.sleep(max(0, due - time.perf_counter()))
        ask(target.body, timeout=5)
        waits.append((time.perf_counter() - due) * 1e3)
    return waits


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
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    with scraper(ready.metrics) as scrapes:
        # The scraper starts meanwhile.
        call(channel, target, options.rate, 3)
        for _ in range(options.rounds):
            alone.append(call(channel, target, options.rate, options.seconds))
            scrapes.due.set()
            beside.append(call(channel, target, options.rate, options.seconds))
            scrapes.due.clear()
            scrapes.check()
            time.sleep(INTERVAL_SECONDS)
    began = time.perf_counter()
    page = scrape(ready.metrics)
    seconds = time.perf_counter() - began
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    print(f"{options.models} models: {series} series, {len(page) / 1e3:.0f} kB, {seconds * 1e3:.0f} ms a scrape")
    return compare(alone, beside)


def compare(alone: Sequence[Sequence[float]], beside: Sequence[Sequence[float]]) -> int:
    """Print quantiles of the milliseconds of rounds without and with scrapes; the exit code."""
    ratio = 0.0
    for name, share in QUANTILES.items():
        # Of all rounds together: a round of 1,000 calls has one beyond p99.9.
        without, with_ = (float(np.quantile(np.concatenate(rounds), share)) for rounds in (alone, beside))
        ratio = with_ / without
        print(f"{name}: {without:.2f} ms, with scrapes {with_:.2f} ms, {ratio:.2f} times")
    for name, rounds in (("without", alone), ("with", beside)):
        print(f"p99.9 of each round {name} scrapes:", *(f"{np.quantile(each, 0.999):.1f}" for each in rounds))
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

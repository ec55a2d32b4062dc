"""The real server as a subprocess, and its metrics."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families

from bench.gpu.outcome import ROOT, Setting
from bench.servers import free_port

START_SECONDS = 120.0


class StartError(Exception):
    """The server exited, or was not ready in time; the text is the end of its log."""


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    address: str
    metrics_address: str
    log: Path
    process: subprocess.Popen[bytes]

    def values(self, metric: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Values of a metric by its labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = (sample for family in families for sample in family.samples)
        return {tuple(sorted(sample.labels.items())): sample.value for sample in samples if sample.name == metric}

    def providers(self) -> set[str]:
        """Execution providers of all served models."""
        return {dict(labels)["provider"] for labels in self.values("autoencoder_model_info")}


def command(python: Path | str, repository: Path, device: str, *flags: str) -> list[str]:
    """The server's command line."""
    return [str(python), "-m", "server", "--repository", str(repository), "--device", device, *flags]


@contextmanager
def serving(
    setting: Setting,
    *flags: str,
    repository: Path | None = None,
    python: Path | str = sys.executable,
    environment: Mapping[str, str] | None = None,
    device: str | None = None,
) -> Iterator[Served]:
    """A server with these flags, stopped at the end.

    Raises:
        StartError: it is not ready.
    """
    ports = free_port(), free_port()
    log = setting.scratch / f"server-{ports[0]}.log"
    line = command(python, repository or setting.repository, device or setting.device, *flags)
    line += ["--port", str(ports[0]), "--metrics-port", str(ports[1])]
    with log.open("wb") as output:
        process = subprocess.Popen(
            line, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **(environment or {})}
        )
    try:
        served = Served(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", log, process)
        _await_ready(served)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(served: Served) -> None:
    end = monotonic() + START_SECONDS
    while served.process.poll() is None and monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://{served.metrics_address}/readyz", timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            sleep(0.1)
    raise StartError(f"exit code {served.process.poll()}: {served.log.read_text()[-500:]}")

"""The server's process of one replica: started, probed, stopped; it ends with the process that owns it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from deploy.ray.decision import Phase

_ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"listening grpc=(\S+) metrics=(\S+)")
_ROWS = re.compile(r"^autoencoder_queue_rows\{.*\} (\S+)$", re.MULTILINE)
_LOADS = re.compile(r'^autoencoder_model_loads_total\{model="([^"]*)",result="([^"]*)"\} (\S+)$', re.MULTILINE)
_REFUSED = {"invalid", "self_test_failed", "warm_up_failed"}
_LOADED = "ok"
_PROBE_SECONDS = 2.0
_LOG_LINES = 50
# To a server on this machine: without the proxies of the environment.
_DIRECT = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class Probe:
    """State of the process: its phase and why, HOST:PORT of gRPC and metrics, rows waiting, bundles it refused."""

    phase: Phase
    reason: str = ""
    address: str = ""
    metrics_address: str = ""
    rows: float = 0.0
    refused: bool = False


class Refusals:
    """Models whose newest bundle a server refused, by its counts of loads."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], float] = {}
        self._refused: set[str] = set()

    def take(self, metrics: str) -> bool:
        """Whether there are any, given the text of /metrics; a bundle that was loaded since clears its model."""
        counts = {(model, result): float(count) for model, result, count in _LOADS.findall(metrics)}
        more = {key for key, count in counts.items() if count > self._counts.get(key, 0.0)}
        self._counts = counts
        # Of a good and a bad one since the last look, the bad one counts: the good one may be the older version.
        self._refused -= {model for model, result in more if result == _LOADED}
        self._refused |= {model for model, result in more if result in _REFUSED}
        return bool(self._refused)


class ServerProcess:
    """`python -m server` as a child of this process.

    Start it from a thread that lives as long as its owner: the kernel signals the child when that thread ends
    (PR_SET_PDEATHSIG). It gets SIGTERM, and answers what it has accepted.
    """

    def __init__(self, repository: Path, host: str, ports: tuple[int, int], settings: Mapping[str, str]) -> None:
        places = {"repository": str(repository), "host": host, "port": str(ports[0]), "metrics_port": str(ports[1])}
        # A new replica that misses a model must not take over.
        values = {"strict_readiness": "true"} | dict(settings) | places
        self._environment = os.environ | {f"HOURGLASS_{key.upper()}": value for key, value in values.items()}
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._addresses: tuple[str, str] | None = None
        self._stopping = False
        self._refusals = Refusals()
        self._was_ready = False
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "server"]
        self._process = subprocess.Popen(  # noqa: S603 (our own program)
            command, cwd=_ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, args=(self._process,), name="server's output", daemon=True).start()

    def stop(self) -> None:
        """Begin an orderly stop: lame duck, drain, exit."""
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def probe(self) -> Probe:
        """Look at the process and its metrics port."""
        if self._process is None:
            return Probe(Phase.FAILED, "not started")
        if (code := self._process.poll()) is not None:
            said = [line for line in self._lines if line.startswith("python -m server")]
            return Probe(Phase.FAILED, said[-1] if said else f"the server exited with code {code}")
        if self._addresses is None:
            return Probe(Phase.STARTING, "starting")
        address, metrics_address = self._addresses
        if self._stopping:
            return Probe(Phase.STOPPING, "stopping", address, metrics_address)
        try:
            ready, reason = _ask(f"http://{metrics_address}/readyz")
            # A page that failed has no rows and no loads, which is not to say that there are none.
            metrics = _get(f"http://{metrics_address}/metrics")
        except OSError as error:
            return Probe(Phase.STARTING, f"no answer: {error}", address, metrics_address)
        refused = self._refusals.take(metrics)
        self._was_ready |= ready
        # One that has served has time, whatever it refuses.
        phase = Phase.READY if ready else Phase.FAILED if refused and not self._was_ready else Phase.STARTING
        rows = sum(map(float, _ROWS.findall(metrics)))
        return Probe(phase, reason, address, metrics_address, rows, refused)

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                print(line, end="", flush=True)  # noqa: T201 (Ray keeps it as the actor's log)
                if found := _LISTENING.search(line):
                    self._addresses = (found[1], found[2])


def _ask(url: str) -> tuple[bool, str]:
    try:
        return True, _get(url)
    except HTTPError as error:
        return False, error.read().decode().strip()


def _get(url: str) -> str:
    with _DIRECT.open(url, timeout=_PROBE_SECONDS) as answer:
        return answer.read().decode().strip()

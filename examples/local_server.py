"""Run the real server as a subprocess."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

LISTENING = re.compile(r"listening grpc=(\S+) metrics=(\S+)")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
# For pages of a server on this machine: without the proxies of the environment.
DIRECT = build_opener(ProxyHandler({}))


class ServerError(Exception):
    """The server did not start, or did not stop cleanly."""


@dataclass(frozen=True)
class LocalServer:
    """A server that listens: HOST:PORT of gRPC and of the metrics page, and its process."""

    address: str
    metrics_address: str
    process: subprocess.Popen[str]


@contextmanager
def running(
    repository: Path, log: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[LocalServer]:
    """A server of `repository` on free ports, its log in the file `log`; stopped by SIGTERM at the end."""
    command = [sys.executable, "-m", "server", "--repository", str(repository), "--port", "0", "--metrics-port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603 (our own program)
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
        ) as process,
    ):
        try:
            server = _listening(process, log)
            _await_ready(server, log)
            yield server
            _stop(process, log)
        finally:
            process.kill()


def _listening(process: subprocess.Popen[str], log: Path) -> LocalServer:
    """Read the server's output up to the line with its ports."""
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout or ():
            if found := LISTENING.search(line):
                return LocalServer(found[1], found[2], process)
    finally:
        watchdog.cancel()
    raise ServerError(f"the server exited before it listened (exit code {process.wait()}); {_tail(log)}")


def _await_ready(server: LocalServer, log: Path) -> None:
    """Wait until models serve: the server listens before they are loaded."""
    end, reason = monotonic() + START_SECONDS, "it exited"
    while monotonic() < end and server.process.poll() is None:
        try:
            with DIRECT.open(f"http://{server.metrics_address}/readyz", timeout=5):
                return
        except HTTPError as not_yet:
            reason = not_yet.read().decode().strip()
            sleep(0.05)
    raise ServerError(f"the server listens, but no model serves: {reason}; {_tail(log)}")


def _stop(process: subprocess.Popen[str], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise ServerError(f"the server did not exit within {STOP_SECONDS:.0f} s of SIGTERM; {_tail(log)}") from late
    if code != 0:
        raise ServerError(f"the server exited with code {code} on SIGTERM; {_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text().splitlines()[-15:]
    return f"the end of its log {log}:\n" + "\n".join(lines)

"""Servers of the comparison: start, wait for the first correct answer, stop."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import perf_counter, sleep

import grpc
import numpy as np

from bench.machine import memory_mib
from bench.targets import GRPC, Target, Work

READY_SECONDS = 90.0
STOP_SECONDS = 10.0
# Tolerance of a correct answer: graph and runtime are the same everywhere, versions of the runtime are not.
TOLERANCE = 1e-4
H2LOAD = "h2load"


class ServerError(Exception):
    """A server did not start, or its answer is wrong."""


@dataclass(frozen=True)
class Server:
    """A server program: its command line with {port}, and the target for each workload that it supports."""

    name: str
    note: str
    """What it is and how it is set up, for the page."""
    command: Sequence[str]
    target: Callable[[Work], Target | None]
    needs: Path
    """A file that exists once the server is installed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    port_variables: Sequence[str] = ()
    """Environment variables that take the port."""
    spare_port_variables: Sequence[str] = ()
    """Environment variables that take a free port each, for endpoints that are not measured."""
    folder: Path = Path()
    tolerance: float = TOLERANCE
    """Of its first answer: more where it computes in fewer bits, as it comes."""

    def can(self, work: Work, client: str, *, closed_loop: bool = True) -> bool:
        """Whether it does this work with this client: the C++ one does gRPC, and streams in a closed loop."""
        target = self.target(work)
        if target is None:
            return False
        if client == H2LOAD:
            return not target.stream
        return target.content_type == GRPC and (closed_loop or not target.stream)


@dataclass(frozen=True)
class Running:
    """A running server."""

    server: Server
    address: str
    process: subprocess.Popen[bytes]
    start_seconds: float = 0
    """From the start of the program to its first correct answer."""
    idle_mib: float = 0
    """Resident memory after one answer of every workload."""

    def stop(self) -> None:
        """Terminate the program and its children."""
        for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def start(server: Server, works: Sequence[Work], logs: Path) -> Running:
    """Start a server and wait until it answers every workload that it supports correctly."""
    port = free_port()
    began = perf_counter()
    log = logs / f"{server.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in server.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=server.folder,
            env={**os.environ, **server.environment, **_ports(server, port)},
            start_new_session=True,
        )
    running = Running(server, f"127.0.0.1:{port}", process)
    try:
        _await_answer(running, works[0], began, log)
        seconds = perf_counter() - began
        for work in works[1:]:
            _await_answer(running, work, began, log)
    except BaseException:
        running.stop()
        raise
    return replace(running, start_seconds=seconds, idle_mib=memory_mib(process.pid)[0])


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _channel(address: str, target: Target) -> grpc.Channel:
    options = [("grpc.max_receive_message_length", -1)]
    if target.certificate is None:
        return grpc.insecure_channel(address, options)
    # It is written when the server starts.
    trusted = target.certificate.read_bytes() if target.certificate.exists() else None
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted), options)


def _ports(server: Server, port: int) -> dict[str, str]:
    taken = dict.fromkeys(server.port_variables, str(port))
    return taken | {name: str(free_port()) for name in server.spare_port_variables}


def _await_answer(running: Running, work: Work, began: float, log: Path) -> None:
    target = running.server.target(work)
    if target is None:
        return
    while True:
        try:
            answer = target.read(ask(running.address, target))
            break
        except (grpc.RpcError, OSError, HTTPException) as error:
            if running.process.poll() is not None or perf_counter() - began > READY_SECONDS:
                raise ServerError(f"{running.server.name} does not answer {work.name}: {error}; see {log}") from error
            sleep(0.02)
    difference = float(np.abs(answer - work.expected).max())
    if not difference <= running.server.tolerance:
        raise ServerError(f"{running.server.name} answers {work.name} with an error of {difference}")


def ask(address: str, target: Target) -> bytes:
    """Call once and return the raw answer."""
    if target.content_type == GRPC:
        with _channel(address, target) as channel:
            if target.stream:
                return next(channel.stream_stream(target.path)(iter([target.body]), timeout=5))
            return channel.unary_unary(target.path)(target.body, timeout=5)
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("POST", target.path, target.body, {"content-type": target.content_type})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:  # noqa: PLR2004 (HTTP's own)
        raise HTTPException(f"HTTP {response.status}: {body[:300]!r}")
    return body

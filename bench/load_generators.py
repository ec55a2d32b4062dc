"""The two load generators: `loadgen`, ours on Debian's C++ gRPC, and h2load of nghttp2."""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.targets import FRAME_BYTES, GRPC, Target

BUILT = Path("build/bench")
CONNECTIONS = {1: 1, 4: 4, 8: 4, 64: 8}
TIMEOUT_SECONDS = 30.0
_TOTAL = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data")


class LoadError(Exception):
    """A round without usable measurements."""


@dataclass(frozen=True)
class Load:
    """Offered load: callers in a closed loop, or requests per second in an open loop."""

    callers: int = 0
    rate: float = 0

    def __str__(self) -> str:
        return f"{self.rate:.0f}/s" if self.rate else f"{self.callers} callers"


@dataclass(frozen=True)
class Answers:
    """Measurements of a load generator in one round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    all: int
    """Answers including those of the warm-up."""
    unfinished: int = 0


Generator = Callable[[str, Target, Load, float], Answers]


def cpp(address: str, target: Target, load: Load, seconds: float) -> Answers:
    """One round with the C++ client; it checks every status, and that no answer is smaller than the correct one."""
    with tempfile.NamedTemporaryFile() as payload:
        payload.write(target.body)
        payload.flush()
        flags = {
            "target": address,
            "method": target.path,
            "payload": payload.name,
            "callers": load.callers,
            "stream": int(target.stream),
            "rate": load.rate,
            "connections": CONNECTIONS.get(load.callers, 8),
            "seconds": seconds,
            "least-bytes": target.least_bytes,
            **({"certificate": target.certificate} if target.certificate else {}),
        }
        output = _run(
            [str(BUILT / "loadgen"), *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]
        )
    counts = json.loads(output)
    if counts["errors"] or not counts["answers"]:
        raise LoadError(f"{target.path} at {load}: {counts['errors'] or 'no answers'}")
    return Answers(
        counts["answers"] / counts["seconds"], counts["p50_ms"], counts["p99_ms"], counts["all"], counts["unfinished"]
    )


def h2load(address: str, target: Target, load: Load, seconds: float) -> Answers:
    """One round with h2load: gRPC frames over HTTP/2, or plain HTTP/1.1.

    It checks only the HTTP status, so the received bytes are counted: a gRPC error has none.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(framed(target.body) if target.content_type == GRPC else target.body)
        output = _run(
            [
                "h2load",
                *_shape(target, load),
                *("-D", f"{seconds * 1000:.0f}ms", "-d", str(body), f"--log-file={log}"),
                f"{'https' if target.certificate else 'http'}://{address}{target.path}",
            ]
        )
        microseconds = np.loadtxt(log, dtype=np.int64, usecols=2, ndmin=1)
    total, done, succeeded = _numbers(_TOTAL, output)
    (received,) = _numbers(_DATA, output)
    if succeeded == 0 or succeeded != total or received < done * target.least_bytes:
        raise LoadError(f"{target.path} at {load}: {succeeded} of {total} succeeded, got {received} bytes\n{output}")
    p50, p99 = np.quantile(microseconds, (0.5, 0.99)) / 1e3
    return Answers(done / seconds, p50, p99, done)


def _numbers(pattern: re.Pattern[str], output: str) -> list[int]:
    found = pattern.search(output)
    if found is None:
        raise LoadError(f"expected {pattern.pattern!r} in the output of h2load, got\n{output}")
    return [int(number) for number in found.groups()]


def _shape(target: Target, load: Load) -> list[str]:
    if target.content_type != GRPC:
        return ["--h1", "-c", str(load.callers), "-m", "1", "-H", f"content-type: {target.content_type}"]
    connections = CONNECTIONS[load.callers]
    streams = load.callers // connections
    return [
        *("-c", str(connections), "-m", str(streams)),
        *("-H", f"content-type: {GRPC}", "-H", "te: trailers"),
    ]


def framed(message: bytes) -> bytes:
    """A gRPC frame: not compressed, the length, the message."""
    return b"\0" + len(message).to_bytes(FRAME_BYTES - 1, "big") + message


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        raise LoadError(f"{command[0]} did not finish within {TIMEOUT_SECONDS:.0f} s") from late
    if ended.returncode != 0:
        raise LoadError(f"{' '.join(command)} exited with {ended.returncode}: {ended.stderr or ended.stdout}")
    return ended.stdout

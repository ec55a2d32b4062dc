"""Latency of a graph by batch size; belongs in report.json, never in hashed files."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from bundle.golden import Array, Arrays
from bundle.runtime_options import Device
from export.gate.session import Session, open_session

_ROUNDS = 7
_BUDGET_SECONDS = 0.25
_INTERLEAVED_ROUNDS = 20


def latencies_ms(graph: bytes, inputs: Arrays, buckets: Sequence[int], device: Device = "cpu") -> dict[int, float]:
    """Milliseconds of one run on one thread, the best of several, by batch size; rows are repeated to fill a batch."""
    session = open_session(graph, device)
    return {bucket: _best_ms(session, _filled(inputs, bucket)) for bucket in buckets}


def speed_up(slow: bytes, fast: bytes, inputs: Arrays, batches: Sequence[int], devices: tuple[Device, Device]) -> float:
    """How many times faster the second graph is: geometric mean over batch sizes, best of interleaved rounds."""
    sessions = open_session(slow, devices[0]), open_session(fast, devices[1])
    ratios = [_ratio(sessions, _filled(inputs, batch)) for batch in batches]
    return float(np.exp(np.mean(np.log(ratios))))


def _ratio(sessions: tuple[Session, Session], batch: Arrays) -> float:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_INTERLEAVED_ROUNDS):
        for session, seen in zip(sessions, taken, strict=True):
            seen.append(min(_run_ms(session, batch) for _ in range(3)))
    return min(taken[0]) / min(taken[1])


def _best_ms(session: Session, batch: Arrays) -> float:
    session.run(batch)
    taken: list[float] = []
    start = perf_counter()
    while len(taken) < _ROUNDS and (not taken or perf_counter() - start < _BUDGET_SECONDS):
        taken.append(_run_ms(session, batch))
    return min(taken)


def _run_ms(session: Session, batch: Arrays) -> float:
    before = perf_counter()
    session.run(batch)
    return (perf_counter() - before) * 1e3


def _filled(inputs: Arrays, rows: int) -> dict[str, Array]:
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}

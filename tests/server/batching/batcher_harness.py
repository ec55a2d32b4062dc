"""Harness for tests of the batcher: a batcher with its dependencies, over a fake graph that a test can block."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from server.batching.batcher import Batcher
from server.batching.entry import Backlog, Each, Entry
from server.batching.executor import Executor
from server.batching.policy import BatchPolicy
from server.batching.run import RunHooks
from server.calls.call import FOREVER, Call
from server.errors import Status
from server.execution_config import HeavyConfig

if TYPE_CHECKING:
    import grpc

POISON = -1.0


class FakeGraph:
    """Doubles rows of two numbers; waits for its gate, keeps what it ran, fails on POISON."""

    dtype = np.dtype(np.float32)
    row_shape = (2,)
    row_bytes = 8

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[list[float]] = []
        self.threads: set[int] = set()

    def run(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        self.started.release()
        self.gate.wait(10)
        self.threads.add(threading.get_ident())
        if (batch == POISON).any():
            raise RuntimeError("poisoned")
        self.batches.append(batch[:, 0].tolist())
        return [batch * 2, batch[:, 0]]


class Recorder:
    """Records what a batcher and its calls report."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.drops: list[tuple[str, int]] = []
        self.tiles = 0
        self.answers: dict[str, list[np.ndarray]] = {}
        self.failures: dict[str, grpc.StatusCode] = {}
        self.broken: list[BaseException] = []
        self.certain: list[bool] = []

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        assert run_seconds >= 0
        assert min(queue_seconds, default=0) >= 0
        self.runs.append(rows)

    def dropped(self, reason: str, rows: int) -> None:
        self.drops.append((reason, rows))

    def tiled(self, tiles: int) -> None:
        self.tiles += tiles

    def failed(self, error: BaseException, *, certain: bool) -> None:
        self.broken.append(error)
        self.certain.append(certain)

    def send_all(self, answers: Sequence[tuple[str, bytes]]) -> None:
        raise AssertionError(answers)

    def fail(self, token: str, status: Status) -> None:
        self.failures[token] = status.code


class BatcherHarness:
    """A batcher with its dependencies."""

    def __init__(self, **policy: object) -> None:
        planned = {
            "max_rows": 4,
            "concurrent_runs": 1,
            "inline": False,
            "shared_rows": 1,
            "max_delay_seconds": 0,
            "seconds_per_row": 0.01,
        }
        self.recorder, self.session = Recorder(), FakeGraph()
        self.executor = Executor(HeavyConfig(heavy_threads=1))
        self.backlog = Backlog(100, shared=True)
        self.policy = BatchPolicy(**(planned | policy))
        self.hooks = RunHooks(self.recorder, self.recorder.failed)
        self.batcher = self.another()

    def another(self) -> Batcher:
        return Batcher(self.session, self.policy, self.backlog, self.executor, self.hooks)

    def submit(self, name: str, *values: float, seconds: float = FOREVER, caller: str = "") -> Call:
        deadline = time.monotonic() + seconds
        call = Call("Double", time.monotonic(), deadline, (), self.recorder, name, lambda *_: None)
        # Each call is a caller of its own, unless a caller is given.
        call.peer = f"test:{caller or name}:1"
        rows = np.repeat(np.array(values, np.float32)[:, None], 2, axis=1)
        self.batcher.submit(Entry(call, rows.data, len(values), Each(self._keep(name))), time.monotonic())
        return call

    def _keep(self, name: str) -> Callable[[Entry, Sequence[np.ndarray]], None]:
        def keep(entry: Entry, outputs: Sequence[np.ndarray]) -> None:
            del entry
            self.recorder.answers[name] = list(outputs)

        return keep

    def hold(self) -> None:
        """Let a run of one row begin, and hold it."""
        self.submit("held", 100)
        assert self.session.started.acquire(timeout=10)

    def finish(self) -> None:
        """Let everything run to its end."""
        self.session.gate.set()
        self.executor.close()

    def doubled(self, name: str) -> list[float]:
        outputs = self.recorder.answers[name]
        np.testing.assert_array_equal(outputs[0][:, 0], outputs[1] * 2)
        return outputs[0][:, 1].tolist()

"""Harness for tests of graphs of many sizes: a batcher harness whose graph takes images of any size."""

import threading
import time
from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Signature, TensorSpec, Tiling
from autoencoder.v1.shapes import Shapes

from server.batching.gradual import Room
from server.batching.shaped import ShapedGraph
from server.batching.shaped_batcher import ShapedBatcher, ShapedQueue
from server.calls.call import FOREVER, Call
from tests.server.batching.batcher_harness import POISON, BatcherHarness, FakeGraph

TILE = 8
MULTIPLE = 2


class FreeGraph(FakeGraph):
    """Doubles images of any size and adds their noise levels; waits for its gate, fails on POISON."""

    row_shape = (-1, -1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.seen: list[list[float]] = []
        """First pixel of each row, by run."""

    def run(self, batch: np.ndarray, *levels: np.ndarray) -> Sequence[np.ndarray]:
        self.started.release()
        self.gate.wait(10)
        if (batch == POISON).any():
            raise RuntimeError("poisoned")
        assert batch.flags.c_contiguous
        self.shapes.append(batch.shape[:3])
        self.seen.append(batch[:, 0, 0, 0].tolist())
        return [batch * 2 + sum(level[:, None, None, None] for level in levels)]


class ShapedHarness(BatcherHarness):
    """A graph of free sizes with tiles of 8 x 8 pixels, of which 4 are kept, and runs of four of them."""

    def __init__(self, *, tiled: bool = True, limit_rows: int = 100, most_rows: int = 16, **policy: object) -> None:
        super().__init__(**policy)
        self.session = FreeGraph()
        self.backlog.limit_rows = limit_rows
        rows = self.policy.max_rows
        queue = ShapedQueue(self.backlog, rows, rows * TILE**2, most_rows)
        batcher = ShapedBatcher(self.session, self.policy, self.backlog, self.executor, self.hooks, queue)
        images = TensorSpec(name="images", data_type=DATA_TYPE_FLOAT32, shape=[-1, -1, -1, 1])
        signature = Signature(name="denoise", inputs=[images], outputs=[images])
        signature.outputs[0].name = "denoised"
        if tiled:
            signature.tiling.CopyFrom(Tiling(halo=2, multiple=MULTIPLE, tile=TILE, exact=True))
        shapes = Shapes((0, 0, 1), (0,), multiple=MULTIPLE)
        self.batcher = batcher
        self.room = Room(2**27, 2**26, shared=True)
        self.graph = ShapedGraph(batcher, signature, shapes, exact=True, untiled_pixels=TILE**2, room=self.room)
        self.results: dict[str, list[list[np.ndarray]]] = {}
        self.answered = threading.Semaphore(0)

    def send(
        self,
        name: str,
        *images: np.ndarray,
        levels: Sequence[float] = (),
        seconds: float = FOREVER,
        caller: str = "",
    ) -> Call:
        now = time.monotonic()
        call = Call("Denoise", now, now + seconds, (), self.recorder, name, lambda *_: None)
        call.peer = f"test:{caller or name}:1"

        def done(results: list[list[np.ndarray]]) -> None:
            assert name not in self.results
            assert call.open
            self.results[name] = results
            self.answered.release()

        self.graph.submit(call, images, done, levels, now)
        return call

    def hold(self) -> None:
        """Let a run of one small image begin, and hold it."""
        self.send("held", image(1, 1, 100))
        assert self.session.started.acquire(timeout=10)

    def wait(self, answers: int = 1) -> None:
        """Let everything run until so many calls have their outputs."""
        self.session.gate.set()
        for _ in range(answers):
            assert self.answered.acquire(timeout=10)

    @property
    def idle(self) -> bool:
        """Whether nothing is left of any call."""
        queue, backlog = self.batcher.queue, self.backlog
        return not (backlog.rows or backlog.held or queue.rows or len(queue) or self.room.taken)


def image(height: int, width: int, first: float = 0, seed: int = 0) -> np.ndarray:
    """(height, width, 1) noise; `first` is its first pixel."""
    made = np.random.default_rng(seed).random((height, width, 1), np.float32)
    made[0, 0] = first
    return made

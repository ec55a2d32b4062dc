"""Well-behaved callers during a flood of ten times the capacity; `make chaos` also judges their latency."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import running
from tests.server.conftest import images, pixels, write_slow_denoiser

_LOGGER = logging.getLogger(__name__)
# Timing is judged where there is time to measure it.
SCALE = int(os.environ.get("HOURGLASS_SCALE", "1"))
SECONDS = 3.0 * SCALE
CALLERS = 8
DEADLINE_SECONDS = 2.0
ROWS = 16


class Callers:
    """Threads that call one after the other; with a pause they ask for no more than their share."""

    def __init__(self, address: str, count: int, timeout_seconds: float | None) -> None:
        self.codes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    @contextmanager
    def calling(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    @property
    def p99_ms(self) -> float:
        return float(np.quantile(self.seconds, 0.99)) * 1000

    def _call(self) -> None:
        batch = images(pixels(ROWS, (32, 32, 1)))
        request = pb.DenoiseRequest(images=batch, image_format=pb.IMAGE_FORMAT_NONE)
        with grpc.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Denoise
            while not self._over.is_set():
                started = time.monotonic()
                try:
                    call(request, timeout=self._timeout_seconds)
                    self.seconds.append(time.monotonic() - started)
                    self.codes["OK"] += 1
                except grpc.RpcError as error:
                    self.codes[error.code().name] += 1
                    # What RetryInfo would ask for at least.
                    time.sleep(0.02)


def test_a_flood_hurts_those_who_flood(tmp_path: Path) -> None:
    write_slow_denoiser(tmp_path, layers=10)
    # Well-behaved callers fill what may wait; the flood brings ten times as much.
    queue = ("--max-queue-rows", str(2 * CALLERS * ROWS), "--max-request-rows", "64", "--concurrent-runs", "1")
    with running(tmp_path, tmp_path.parent / f"{tmp_path.name}.log", *queue) as server:
        calm = Callers(server.address, CALLERS, DEADLINE_SECONDS)
        with calm.calling():
            time.sleep(SECONDS)
        patient = Callers(server.address, CALLERS, DEADLINE_SECONDS)
        flood = Callers(server.address, 10 * CALLERS, None)
        with flood.calling(), patient.calling():
            time.sleep(SECONDS)
    _LOGGER.info("at capacity p99 %.0f ms, in the flood %.0f ms", calm.p99_ms, patient.p99_ms)
    _LOGGER.info("well-behaved %s, flood %s", dict(patient.codes), dict(flood.codes))
    assert set(calm.codes) == {"OK"}
    assert set(flood.codes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert flood.codes["RESOURCE_EXHAUSTED"] > 0
    assert set(patient.codes) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert patient.codes["OK"] > 0
    if SCALE > 1:
        assert patient.p99_ms <= 3 * calm.p99_ms

"""Load on a cluster: `load.py KIND ADDRESS CALLERS RESULTS CERTIFICATE`, until SIGTERM; KIND: client, raw, flood.

One line of JSON for each tenth of a second: [time, milliseconds of each call answered, {status: calls lost}].
"""

import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc, model_pb2
from hourglass_client import Client, HourglassError, Tls

TICK_SECONDS = 0.1
DEADLINE_SECONDS = 20.0
# Callers wait between calls, so that faults and not the two cores of a small machine decide the figures.
PAUSE_SECONDS = 0.001
IMAGES = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
Call = Callable[[], object]


def _raw(address: str, certificate: bytes) -> Call:
    """A call by stubs alone, without retries; waits for a connection."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate), options)
    encode = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode
    tensor = pb.Tensor(data_type=model_pb2.DATA_TYPE_UINT8, shape=IMAGES.shape, data=IMAGES.tobytes())
    request = pb.EncodeRequest(model_name="vae", images=pb.Images(tensor=tensor))
    return lambda: encode(request, timeout=DEADLINE_SECONDS, wait_for_ready=True)


def _client(address: str, certificate: bytes) -> Call:
    """A call by the client as it comes, retries included."""
    client = Client(address, timeout_seconds=DEADLINE_SECONDS, tls=Tls(certificate))
    return lambda: client.encode(IMAGES, model="vae")


def _flood(address: str, certificate: bytes) -> Call:
    """Batches, so that rows wait: large enough for that, and too small to fill a link."""
    client = Client(address, timeout_seconds=DEADLINE_SECONDS, tls=Tls(certificate))
    many = np.repeat(IMAGES, 64, axis=0)
    return lambda: client.encode(many, model="vae")


class Load:
    """Callers in loops, and what came of their calls."""

    def __init__(self, make: Callable[[], Call], callers: int) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._took: list[float] = []
        self._lost: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._loop) for _ in range(callers)]

    def run(self, results: Path) -> None:
        """Call until stopped; the last line counts the calls that were in flight then."""
        for thread in self._threads:
            thread.start()
        with results.open("w", buffering=1) as file:
            while not self._over.wait(TICK_SECONDS):
                file.write(self._line())
            for thread in self._threads:
                thread.join()
            file.write(self._line())

    def stop(self) -> None:
        """Let calls in flight end."""
        self._over.set()

    def _loop(self) -> None:
        call = self._make()
        while not self._over.is_set():
            start = time.monotonic()
            try:
                call()
            except (grpc.RpcError, HourglassError) as error:
                code = error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__
                with self._lock:
                    self._lost[code] += 1
            else:
                with self._lock:
                    self._took.append(1000 * (time.monotonic() - start))
            time.sleep(PAUSE_SECONDS)

    def _line(self) -> str:
        with self._lock:
            took, lost = self._took, self._lost
            self._took, self._lost = [], Counter()
        return json.dumps([round(time.time(), 3), [round(each, 2) for each in took], lost]) + "\n"


if __name__ == "__main__":
    kind, address, callers, results, certificate = sys.argv[1:]
    make = partial({"raw": _raw, "client": _client, "flood": _flood}[kind], address, Path(certificate).read_bytes())
    load = Load(make, int(callers))
    signal.signal(signal.SIGTERM, lambda *_: load.stop())
    load.run(Path(results))

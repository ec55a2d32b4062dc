"""Anomaly maps of as many regions as can be: memory of the server, and the wait of a caller beside it."""

import base64
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc, regions

from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding, listening_port
from tests.server import free_models
from tests.server.conftest import images

_LOGGER = logging.getLogger(__name__)
LONG = int(os.environ.get("TEST_SCALE", "1")) > 1
SIDE = 3000 if LONG else 1000
COUNT = 1024 if LONG else 256
# In bytes of float32: the image, its map, what is queued of it, and the parts that are joined.
MOST_TIMES = 10
SLACK_BYTES = 96 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("maps")
    free_models.write_detector(folder / "models", "free")
    free_models.write_detector(folder / "models", "fixed", size=28)
    with running(folder / "models", folder / "log", "--log-level", "error", "--rest-port", "0") as made:
        yield made
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def stub(server: LocalServer) -> Iterator[autoencoder_pb2_grpc.AutoencoderServiceStub]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield autoencoder_pb2_grpc.AutoencoderServiceStub(channel)


def patterns() -> dict[str, np.ndarray]:
    """Maps (SIDE, SIDE) of the most parts, of the longest part, and of the most runs in one part."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return {
        "dots": (rows % 2 == 0) & (columns % 2 == 0),
        "checkerboard": (rows + columns) % 2 == 0,
        "serpentine": (rows % 2 == 0) | ((rows % 4 == 1) & (columns == SIDE - 1)) | ((rows % 4 == 3) & (columns == 0)),
        "comb": (columns % 2 == 0) | (rows == SIDE - 1),
        "noise": np.random.default_rng(0).random((SIDE, SIDE)) > 0.5,
    }


def beside(attack: Callable[[], object], honest: Callable[[], object]) -> tuple[float, list[float]]:
    """Seconds that an attack takes, and the waits in ms of an honest caller meanwhile."""
    caller = threading.Thread(target=attack)
    waits: list[float] = []
    begun = time.monotonic()
    caller.start()
    while caller.is_alive():
        asked = time.monotonic()
        honest()
        waits.append((time.monotonic() - asked) * 1000)
    return time.monotonic() - begun, waits


@pytest.mark.parametrize("kind", ["dots", "checkerboard", "serpentine", "comb", "noise"])
def test_a_map_of_many_regions(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub, kind: str
) -> None:
    batch = patterns()[kind].astype(np.float32)[None, ..., None]
    hostile = pb.DetectRequest(model_name="free", images=images(batch))
    small = pb.DetectRequest(model_name="fixed", images=images(np.zeros((1, 28, 28, 1), np.float32)))
    stub.Detect(small)
    before = Holding.of(server.process.pid).rss_bytes
    process = Path(f"/proc/{server.process.pid}")
    # From now on VmHWM is the maximum since.
    (process / "clear_refs").write_text("5")
    answers: list[pb.DetectResponse] = []
    seconds, waits = beside(lambda: answers.append(stub.Detect(hostile)), lambda: stub.Detect(small))
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())[1]) * 1024
    grown = peak - before
    _LOGGER.info(
        "%s of %d x %d: %d regions in %.2f s, memory %+.0f MiB; honest call median %.1f ms, at most %.1f",
        kind, SIDE, SIDE, len(answers[0].regions), seconds, grown / MIB, np.median(waits), max(waits),
    )  # fmt: skip
    assert 1 <= len(answers[0].regions) <= regions.MOST_REGIONS
    assert grown < MOST_TIMES * batch.nbytes + SLACK_BYTES


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_many_images_of_many_regions(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub, transport: str
) -> None:
    # Dots in every other row and column: 196 parts an image.
    batch = np.zeros((COUNT, 28, 28, 1), np.float32)
    batch[:, ::2, ::2] = 1
    port = listening_port(server)
    request = pb.DetectRequest(model_name="fixed", images=images(batch))
    tensor = {"data_type": "DATA_TYPE_FLOAT32", "shape": batch.shape, "data": base64.b64encode(batch).decode()}
    body = json.dumps({"model_name": "fixed", "images": {"tensor": tensor}})
    small = pb.DetectRequest(model_name="fixed", images=images(np.zeros((1, 28, 28, 1), np.float32)))
    counts: list[int] = []

    def attack() -> None:
        if transport == "grpc":
            counts.append(len(stub.Detect(request).regions))
            return
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/v1/Detect", body)
        counts.append(len(json.loads(connection.getresponse().read())["regions"]))
        connection.close()

    seconds, waits = beside(attack, lambda: stub.Detect(small))
    _LOGGER.info(
        "%d images over %s: %d regions in %.2f s; honest call median %.1f ms, at most %.1f",
        COUNT, transport, counts[0], seconds, np.median(waits), max(waits),
    )  # fmt: skip
    assert counts == [COUNT * regions.MOST_REGIONS]


def test_searches_end_with_their_callers(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub
) -> None:
    batch = patterns()["noise"].astype(np.float32)[None, ..., None]
    hostile = pb.DetectRequest(model_name="free", images=images(batch))
    calls = [stub.Detect.future(hostile, timeout=0.2) for _ in range(8)]
    codes = {call.exception().code() if call.exception() else grpc.StatusCode.OK for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    small = pb.DetectRequest(model_name="fixed", images=images(np.zeros((1, 28, 28, 1), np.float32)))
    assert not stub.Detect(small).anomalous[0]
    assert Path(f"/proc/{server.process.pid}").exists()

"""A picture of many megapixels through the client and a server: its memory, its time, and the bits of the whole."""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Signature, SizeRange, Tiling
from autoencoder.v1.tiling import Window, windows
from hourglass_client import Client

from bundle.golden import Case
from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding
from tests.server import free_models
from tests.server.free_models import FREE, Chain, spec

# Megapixels; `make large-image` takes 100.
MEGAPIXELS = int(os.environ.get("TEST_SCALE", "1"))
LONG = MEGAPIXELS > 1
MOST_PIXELS = 2**22 if LONG else 2**16
SIDE = round((MEGAPIXELS * 10**6) ** 0.5) if LONG else 601
# The graph sees 2 x LAYERS + 3 pixels far.
LAYERS, FEATURES = 6, 48 if LONG else 8
TILING = Tiling(halo=16, multiple=2, tile=256 if LONG else 96, exact=True)
# Tiles of another size, which begin elsewhere.
OTHER = Tiling(halo=26, multiple=2, tile=330 if LONG else 140, exact=True)
WORD = np.float32(65_535)
_LOGGER = logging.getLogger(__name__)
CORES = 2


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A repository of a denoiser at half the size, as deep as photographs need, and its graph."""
    repository = tmp_path_factory.mktemp("large") / "models"
    chain = Chain().then("Transpose", perm=[0, 3, 1, 2])
    rng = np.random.default_rng(0)
    for inside, stride in [(1, 2), *[(FEATURES, 1)] * LAYERS]:
        weights = rng.normal(0, (2 / (9 * inside)) ** 0.5, (FEATURES, inside, 3, 3)).astype(np.float32)
        chain.then("Conv", weights, pads=[1, 1, 1, 1], strides=[stride, stride]).then("Relu")
    up = rng.normal(0, 0.5 / FEATURES**0.5, (FEATURES, 1, 2, 2)).astype(np.float32)
    chain.then("ConvTranspose", up, strides=[2, 2]).then("Transpose", perm=[0, 2, 3, 1], output="denoised")
    inputs, outputs = [spec("images", FREE, FREE, 1)], [spec("denoised", FREE, FREE, 1)]
    data = free_models.graph(chain, inputs, outputs)
    signature = Signature(name="denoise", file="denoise.onnx", inputs=inputs, outputs=outputs, batch_buckets=(1, 2, 4))
    signature.batch_invariant = True
    signature.tiling.CopyFrom(TILING)
    images = rng.random((3, 32, 48, 1), np.float32)
    case = Case({"images": images}, {"denoised": free_models.run(data, {"images": images})[0]})
    model = model_pb2.Model(methods=["Denoise"], family="denoiser", channels=1)
    model.sizes.CopyFrom(SizeRange(multiple=2, minimum=1, maximum_pixels=MOST_PIXELS))
    free_models.write_bundle(repository, "deep", model, {"denoise": (signature, data)}, {"denoise": (case, case)})
    return repository, data


@pytest.fixture(scope="module")
def server(graph: tuple[Path, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with running(graph[0], tmp_path_factory.mktemp("log") / "server.log") as started:
        yield started


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(H, W, 1) noise of 16 bits around a slope; sides that are no multiples of anything."""
    rng = np.random.default_rng(7)
    slope = np.linspace(4_000, 60_000, SIDE + 1, dtype=np.float32)[:, None]
    image = np.empty((SIDE + 1, SIDE - 6, 1), np.uint16)
    for first in range(0, len(image), 1024):
        rows = slope[first : first + 1024] + 1500 * rng.standard_normal((1, image.shape[1]), np.float32)
        image[first : first + 1024, :, 0] = np.clip(rows + 900 * rng.standard_normal(rows.shape, np.float32), 0, 65_535)
    return image


@contextmanager
def watched(process_id: int) -> Iterator[Callable[[], int]]:
    """Watch a process; what is yielded gives the most memory that it had, in bytes."""
    seen = [Holding.of(process_id).rss_bytes]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            seen[0] = max(seen[0], Holding.of(process_id).rss_bytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: seen[0]
    finally:
        ended.set()
        thread.join()


def cpu_seconds(process_id: int) -> float:
    """What a process has used of all cores."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def offline(data: bytes, image: np.ndarray, tiling: Tiling) -> np.ndarray:
    """What onnxruntime alone gives for the tiles of an image (H, W, 1), on all cores, as 16 bits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    height, width = image.shape[:2]
    padded = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], mode="reflect")
    found = np.empty(padded.shape, np.uint16)

    def run(window: Window) -> None:
        tile = window.cut(padded).astype(np.float32) / WORD
        (output,) = session.run(None, {"images": tile[None]})
        window.paste(words(output[0]), found, Fraction(1))

    with ThreadPoolExecutor(CORES) as pool:
        for _ in pool.map(run, windows(padded.shape[:2], tiling)):
            pass
    return found[:height, :width]


def words(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * WORD).astype(np.uint16)


@pytest.mark.timeout(3600)
def test_a_picture_of_many_megapixels(server: LocalServer, graph: tuple[Path, bytes], picture: np.ndarray) -> None:
    idle = Holding.of(server.process.pid).rss_bytes
    with Client(server.address) as client, watched(server.process.pid) as most:
        started, worked = time.monotonic(), cpu_seconds(server.process.pid)
        answer = client.denoise(picture, timeout_seconds=math.inf)
        seconds, worked = time.monotonic() - started, cpu_seconds(server.process.pid) - worked
        above = (most() - idle) / MIB

    started, alone = time.monotonic(), cpu_seconds(os.getpid())
    same = offline(graph[1], picture, TILING)
    offline_seconds, alone = time.monotonic() - started, cpu_seconds(os.getpid()) - alone
    _LOGGER.info(
        "%.1f megapixels, %d tiles: server %.0f MiB above its idle %.0f MiB; %.1f s, in which the server worked %.1f s "
        "(CPU); offline, the same tiles on %d threads, %.1f s and %.1f s (CPU)",
        picture.size / 1e6, answer.info.tiles, above, idle / MIB, seconds, worked, CORES, offline_seconds, alone,
    )  # fmt: skip
    assert answer.images.dtype == np.uint16
    assert answer.info.exact
    np.testing.assert_array_equal(answer.images[0], same)
    np.testing.assert_array_equal(answer.images[0], offline(graph[1], picture, OTHER))
    assert above < 300


def test_the_bits_of_an_untiled_run(server: LocalServer, graph: tuple[Path, bytes], picture: np.ndarray) -> None:
    part = picture[: 2048 if LONG else 301, :2048]
    with Client(server.address) as client:
        answer = client.denoise(part, timeout_seconds=math.inf)

    padded = np.pad(part, [(0, side % 2) for side in part.shape[:2]] + [(0, 0)], mode="reflect")
    (whole,) = free_models.run(graph[1], {"images": padded[None].astype(np.float32) / WORD})
    np.testing.assert_array_equal(answer.images[0], words(whole[0, : part.shape[0], : part.shape[1]]))

"""Images of thousands of sizes, and images that are very large: the server's memory stays where it was."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc, model_pb2
from autoencoder.v1.model_pb2 import Tiling

from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding
from tests.server import free_models

_LOGGER = logging.getLogger(__name__)
LONG = int(os.environ.get("TEST_SCALE", "1")) > 1
# Sizes after which memory is noted, and all of them.
EARLY, SIZES = (1000, 10_000) if LONG else (100, 300)
TOGETHER = 32
# Sides of the image that is sent in bands, and of a band: 100 megapixels in bands of 4.
SIDE, BAND = (10_000, 400) if LONG else (2048, 512)
HALO = 16
MOST_BYTES = 300 * MIB


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    repository = tmp_path / "models"
    free_models.write_denoiser(repository, tiling=Tiling(halo=4, multiple=2, tile=256, exact=True), buckets=(1, 4))
    with running(repository, tmp_path / "log") as made:
        yield made


@pytest.fixture
def stub(server: LocalServer) -> Iterator[autoencoder_pb2_grpc.AutoencoderServiceStub]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield autoencoder_pb2_grpc.AutoencoderServiceStub(channel)


def request(image: np.ndarray) -> pb.DenoiseRequest:
    """For an image (H, W) of 16 bits, to be answered in 16 bits."""
    shape = (1, *image.shape, 1)
    tensor = pb.Tensor(data_type=model_pb2.DATA_TYPE_UINT16, shape=shape, data=image.tobytes())
    return pb.DenoiseRequest(images=pb.Images(tensor=tensor), image_format=pb.IMAGE_FORMAT_UINT16)


def answer(response: pb.DenoiseResponse) -> np.ndarray:
    tensor = response.images.tensor
    return np.frombuffer(tensor.data, np.uint16).reshape(tuple(tensor.shape)[1:3])


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65_536, (height, width), dtype=np.uint16)


def peak_bytes(server: LocalServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_every_new_size_is_forgotten(server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub) -> None:
    whole = pixels(256, 256)
    sizes = np.random.default_rng(1).permutation(10_000)[:SIZES]
    held: list[Holding] = []
    for first in range(0, SIZES, TOGETHER):
        shapes = [divmod(int(size), 100) for size in sizes[first : first + TOGETHER]]
        sent = [stub.Denoise.future(request(whole[: tall + 1, : wide + 1])) for tall, wide in shapes]
        for (tall, wide), each in zip(shapes, sent, strict=True):
            assert answer(each.result(60)).shape == (tall + 1, wide + 1)
        if first >= EARLY:
            held.append(Holding.of(server.process.pid))
    growth = (held[-1].rss_bytes - held[0].rss_bytes) / MIB
    _LOGGER.info("%d sizes: %.1f MiB, %+.1f since %d", SIZES, held[-1].rss_bytes / MIB, growth, EARLY)
    assert not held[-1].leaked(held[0])
    assert held[-1].threads <= held[0].threads + 2


def test_a_very_large_image_takes_bounded_memory(
    server: LocalServer, stub: autoencoder_pb2_grpc.AutoencoderServiceStub
) -> None:
    idle = Holding.of(server.process.pid).rss_bytes
    image = pixels(BAND, SIDE)
    tiles = 0
    for top in range(0, SIDE, BAND):
        padded = image[: min(BAND, SIDE - top)]
        response = stub.Denoise(request(padded), timeout=600)
        assert answer(response).shape == padded.shape
        tiles += response.info.tiles
    above = (peak_bytes(server) - idle) / MIB
    _LOGGER.info("%d x %d pixels in %d tiles: %.0f MiB above idle at most", SIDE, SIDE, tiles, above)
    assert above <= MOST_BYTES / MIB

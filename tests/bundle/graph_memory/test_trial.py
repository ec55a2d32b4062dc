"""What a load runs of a graph, and the images of free size that it can run whole."""

import pytest
from autoencoder.v1.model_pb2 import Signature, Tiling
from autoencoder.v1.shapes import Shapes

from bundle.graph_memory.trial import MAX_BATCH, largest_batch, run_memory, trial_side, untiled_pixels
from bundle.graph_proto import parse
from tests.server import free_models

SHAPES = Shapes((0, 0, 1), (0, 0, 2), downsampling=8, multiple=24)
IMAGES, LATENTS = free_models.spec("images", -1, -1, 1), free_models.spec("latents", -1, -1, 2)


def test_the_largest_batch_of_a_load() -> None:
    assert [largest_batch(Signature(batch_buckets=each)) for each in ([1, 64], [1], [], [2**30])] == [
        64,
        16,
        256,
        MAX_BATCH,
    ]


def test_free_axes_are_as_long_as_a_tile_or_a_common_image() -> None:
    assert trial_side(Signature(inputs=[IMAGES], tiling=Tiling(tile=96)), SHAPES) == 96
    assert trial_side(Signature(inputs=[IMAGES]), SHAPES) == 264
    assert trial_side(Signature(inputs=[LATENTS]), SHAPES) == 33


@pytest.fixture
def graph() -> bytes:
    return free_models.graph(free_models.denoiser(whole=True), [IMAGES], [free_models.spec("denoised", -1, -1, 1)])


def test_memory_is_that_of_the_largest_batch_of_tiles(graph: bytes) -> None:
    signature = Signature(inputs=[IMAGES], batch_buckets=[1, 4], tiling=Tiling(tile=32))
    whole = run_memory(parse(graph), signature)
    assert whole.run == 4 * run_memory(parse(graph), signature, rows=1, side=32).run
    assert whole.run == run_memory(parse(graph), signature, rows=1, side=64).run


def test_images_that_run_whole_are_limited_by_pixels_and_by_memory(graph: bytes) -> None:
    signature, shapes = Signature(inputs=[IMAGES]), Shapes((0, 0, 1), (0,), multiple=2)
    needed = run_memory(parse(graph), signature, rows=1, side=1024)
    most = needed.constants + needed.run
    assert untiled_pixels(graph, signature, shapes, 1024**2, most) == 1024**2
    assert untiled_pixels(graph, signature, shapes, 1_000_000, most) == 1_000_000
    assert untiled_pixels(graph, signature, shapes, 1024**2, most - 1) == 1024**2 // 2
    assert untiled_pixels(graph, signature, shapes, 1024**2, 100) == 0

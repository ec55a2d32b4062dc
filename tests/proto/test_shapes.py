"""Shapes with free axes, spatial latents, padding."""

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Model, SizeRange
from autoencoder.v1.shapes import ShapeError, Shapes, pad

VECTORS = Shapes.of(Model(height=28, width=28, channels=1, latent_size=20, labels=["0", "1"]))
FREE = Shapes.of(
    Model(
        channels=3,
        sizes=SizeRange(multiple=8, minimum=16, maximum_pixels=10_000),
        latent_shape=[0, 0, 6],
        downsampling=4,
    )
)


def test_models_of_one_size_have_the_shapes_that_they_had() -> None:
    assert not VECTORS.free
    assert not VECTORS.spatial
    assert VECTORS.spec("images") == [-1, 28, 28, 1]
    assert VECTORS.spec("latents") == [-1, 20]
    assert VECTORS.spec("probabilities") == [-1, 2]
    assert VECTORS.spec("squared_errors") == [-1]
    assert VECTORS.latents_of(28, 28) == (20,)
    assert VECTORS.image_of((20,)) == (28, 28, 1)
    assert VECTORS.numbers == 20


def test_free_axes() -> None:
    assert FREE.free
    assert FREE.spatial
    assert FREE.spec("images") == FREE.spec("denoised") == [-1, -1, -1, 3]
    assert FREE.spec("latents") == [-1, -1, -1, 6]
    assert FREE.spec("noise_levels") == [-1]
    assert FREE.padded(17, 32) == (24, 32)
    assert FREE.latents_of(17, 32) == (6, 8, 6)
    assert FREE.image_of((6, 8, 6)) == (24, 32, 3)
    assert FREE.sized((24, 32)).spec("latents") == [-1, 6, 8, 6]
    assert FREE.numbers == 6


def test_spatial_latents_of_one_size_are_flattened_in_statistics() -> None:
    model = Model(height=32, width=32, channels=3, latent_shape=[4, 4, 8], downsampling=8)

    assert Shapes.of(model).numbers == 128
    assert Shapes.of(model).spec("latents") == [-1, 4, 4, 8]


@pytest.mark.parametrize(
    ("shapes", "size", "expected"),
    [
        (VECTORS, (28, 27), "28 x 28 pixels"),
        (FREE, (15, 40), "at least 16"),
        (FREE, (100, 101), "at most 10000"),
    ],
)
def test_a_size_that_is_not_taken(shapes: Shapes, size: tuple[int, int], expected: str) -> None:
    with pytest.raises(ShapeError, match=expected):
        shapes.check_size(*size)


@pytest.mark.parametrize("latents", [(6, 8), (6, 8, 5), (0, 8, 6), (5, 8, 6), (2, 2, 6), (64, 64, 6)])
def test_latents_that_are_none_of_the_model(latents: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected"):
        FREE.image_of(latents)


def test_latents_of_another_length() -> None:
    with pytest.raises(ShapeError, match=r"expected latents of \(20,\), got \(21,\)"):
        VECTORS.image_of((21,))


def test_padding_mirrors_and_is_cropped_away() -> None:
    image = np.arange(2 * 5 * 6 * 1).reshape(2, 5, 6, 1)

    padded = pad(image, (8, 8))

    assert padded.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(padded[:, :5, :6], image)
    np.testing.assert_array_equal(padded[:, 5], padded[:, 3])
    np.testing.assert_array_equal(padded[:, :, 6], padded[:, :, 4])


def test_an_image_too_small_to_mirror_repeats_its_edge() -> None:
    padded = pad(np.arange(3.0).reshape(1, 3, 1), (8, 3))

    assert padded.shape == (8, 3, 1)
    np.testing.assert_array_equal(padded, np.broadcast_to(padded[:1], (8, 3, 1)))

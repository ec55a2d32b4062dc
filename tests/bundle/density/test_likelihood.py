"""The noise of Score is frozen and keyed by image and sample; black and white pixels; the bound in float64."""

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Likelihood
from scipy import special

from bundle.density.likelihood import binarised, bounds, check_likelihood, sample_noise
from bundle.errors import BundleError
from bundle.noise import MAX_SEED


def hexed(values: np.ndarray) -> list[str]:
    return [value.hex() for value in values.tolist()]


def test_golden_values_freeze_the_noise() -> None:
    assert hexed(sample_noise(42, 7, 3, 1, 3)[0]) == [
        "0x1.2e300c0000000p-2",
        "-0x1.2a1d9e0000000p-2",
        "0x1.9ce1980000000p-1",
    ]
    assert hexed(sample_noise(MAX_SEED, MAX_SEED, 10**6, 1, 2)[0]) == ["0x1.5e32660000000p-4", "0x1.8dbe460000000p+0"]
    grey = np.array([[0.81156, 0.8568, 0.72678], [0.81157, 0.85681, 0.7268]], np.float32).reshape(2, 1, 3, 1)
    # The uniform numbers of image 7 are 0x1.9f85p-1, 0x1.b6afp-1 and 0x1.741dp-1.
    found = [binarised(image[None], 42, 7).ravel().tolist() for image in grey]
    assert found == [[0, 0, 0], [1, 1, 1]]


def test_samples_of_an_image_depend_on_both_indices_alone() -> None:
    whole = sample_noise(9, 4, 0, 70, 5)
    np.testing.assert_array_equal(sample_noise(9, 4, 31, 39, 5), whole[31:])
    others = [sample_noise(9, image, 0, 70, 5) for image in (0, 5)]
    assert len(np.unique(np.stack([whole, *others]))) == 3 * 70 * 5


def test_pixels_are_white_as_often_as_they_are_bright() -> None:
    images = np.full((2000, 1, 1, 1), 64, np.uint8)
    white = binarised(images, 3, 0)
    assert white.dtype == np.uint8
    assert set(np.unique(white)) == {0, 255}
    assert (white == 255).mean() == pytest.approx(64 / 255, abs=0.03)
    np.testing.assert_array_equal(binarised(images[:10], 3, 1990), white[1990:])


@pytest.mark.parametrize("white", [np.uint8(255), np.float32(1)])
def test_black_and_white_images_stay(white: np.generic) -> None:
    images = np.random.default_rng(0).integers(0, 2, (5, 4, 4, 1)).astype(white.dtype) * white
    np.testing.assert_array_equal(binarised(images, 1, 0), images, strict=True)


def test_bounds_are_means_of_exponentials() -> None:
    weights = np.random.default_rng(0).normal(-9000, 30, (4, 500)).astype(np.float32)
    wanted = special.logsumexp(weights.astype(np.float64), axis=1) - np.log(500)
    np.testing.assert_allclose(bounds(weights), wanted, rtol=1e-15)


@pytest.mark.parametrize(
    "likelihood",
    [
        Likelihood(),
        Likelihood(distribution="laplace", sigma=1),
        Likelihood(distribution="gaussian"),
        Likelihood(distribution="gaussian", sigma=-1),
        Likelihood(distribution="gaussian", sigma=float("inf")),
        Likelihood(distribution="gaussian", sigma=1, binarised=True),
        Likelihood(distribution="bernoulli", sigma=0.1),
    ],
)
def test_likelihoods_that_no_server_knows(likelihood: Likelihood) -> None:
    with pytest.raises(BundleError, match="expected"):
        check_likelihood(likelihood)

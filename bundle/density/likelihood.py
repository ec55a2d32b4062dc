"""Importance-weighted likelihood of a VAE (Burda et al. 2015): the noise of Score, binary images, the bound.

What the graph `log_weights` gives for noise e is log p(x | z) + log p(z) - log q(z | x), z = mean + deviation * e.
Noise depends on the seed, the index of the image and that of the sample alone, so that a score does not depend on how
images and samples are shared out among runs and requests.
"""

import math
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import Likelihood
from numpy.typing import NDArray

from bundle.errors import BundleError
from bundle.noise import Purpose, normals, uniforms

DEFAULT_SAMPLES = 64
DISTRIBUTIONS = ("bernoulli", "gaussian")


def check_likelihood(likelihood: Likelihood) -> None:
    """Refuse a likelihood that a server does not know.

    Raises:
        BundleError: says what is wrong.
    """
    if likelihood.distribution not in DISTRIBUTIONS:
        expected = f"expected a likelihood of {' or '.join(DISTRIBUTIONS)}"
        raise BundleError(f"{expected}, got {likelihood.distribution!r}")
    gaussian = likelihood.distribution == "gaussian"
    if not (0 < likelihood.sigma < math.inf if gaussian else likelihood.sigma == 0):
        expected = "expected a positive, finite sigma for a gaussian likelihood, and none for another"
        raise BundleError(f"{expected}, got {likelihood.sigma:g}")
    if gaussian and likelihood.binarised:
        raise BundleError("expected grey images for a gaussian likelihood, got binarised ones")


def sample_noise(seed: int, image: int, first: int, count: int, size: int) -> NDArray[np.float32]:
    """Draw (count, size) from N(0, 1): the samples first … first + count - 1 of an image.

    Raises:
        ValueError: as `bundle.noise.uniforms`.
    """
    return normals(seed, Purpose.SCORE, first, count, size, stream=image)


def binarised(images: NDArray[Any], seed: int, first: int) -> NDArray[Any]:
    """(N, H, W, C) uint8, or floats in 0 … 1, to black and white of the same type (Salakhutdinov and Murray 2008).

    A pixel is white with its value as the probability; `first` is the index of the first image.

    Raises:
        ValueError: as `bundle.noise.uniforms`.
    """
    white = np.iinfo(images.dtype).max if images.dtype.kind == "u" else 1
    drawn = uniforms(seed, Purpose.BINARISE, first, len(images), math.prod(images.shape[1:])).reshape(images.shape)
    return ((drawn * white < images) * white).astype(images.dtype)


def bounds(log_weights: NDArray[Any]) -> NDArray[np.float64]:
    """(N, K) log-weights to (N,) bounds of the log-likelihood, in float64 (Burda et al. 2015, equation 8)."""
    weights = log_weights.astype(np.float64)
    largest = weights.max(axis=1)
    return largest + np.log(np.exp(weights - largest[:, None]).mean(axis=1))

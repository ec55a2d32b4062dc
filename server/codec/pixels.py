"""Pixel values: 8 and 16 bits and floats, from one to another (quantisation), and the range of floats."""

from typing import Any, NamedTuple

import numpy as np
from autoencoder.v1.anomaly_maps import mean
from numpy.typing import NDArray

from server.codec import tensors
from server.errors import InvalidArgumentError

_BYTE = np.float32(255.0)
_WORD = np.float32(65_535.0)
_WORDS_PER_BYTE = 257


class Range(NamedTuple):
    """Floats that a graph takes as images."""

    low: float
    high: float


UNIT = Range(0.0, 1.0)
NOISY = Range(-4.0, 5.0)
"""Of noisy images: noise leaves 0 … 1, and clipping it costs a denoiser up to 1 dB."""


def range_of(signature: str) -> Range:
    """Return the floats that a graph of this signature takes as images, if it takes floats."""
    return NOISY if signature == "denoise" else UNIT


def check_range(images: NDArray[Any], field: str, allowed: Range) -> None:
    """Refuse floats outside a range, and NaN."""
    low, high = float(images.min()), float(images.max())
    # NaN makes both comparisons false.
    if not (low >= allowed.low and high <= allowed.high):
        tensors.check_finite(images, field)
        expected = f"expected floats from {allowed.low:g} to {allowed.high:g}"
        raise InvalidArgumentError(f"{field}.data", f"{expected}, got {low:g} to {high:g}")


def convert(images: NDArray[Any], field: str, dtype: np.dtype[Any], allowed: Range) -> NDArray[Any]:
    """uint8, uint16 or floats to what a graph takes: uint8, rounded, or float32.

    Raises:
        InvalidArgumentError: floats out of range.
    """
    if images.dtype.kind == "u":
        return _bytes_of(images) if dtype == np.uint8 else _floats_of(images)
    if dtype == np.uint8:
        check_range(images, field, UNIT)
        return to_bytes(images.astype(np.float32))
    check_range(images, field, allowed)
    return images.astype(np.float32, copy=False)


def to_bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    """0 … 1 to the nearest of 0 … 255."""
    return np.rint(np.clip(images, 0.0, 1.0) * _BYTE).astype(np.uint8)


def to_words(images: NDArray[Any]) -> NDArray[np.uint16]:
    """0 … 1 to the nearest of 0 … 65,535, little-endian."""
    return np.rint(np.clip(images, 0.0, 1.0) * _WORD).astype("<u2")


def squared_error(image: NDArray[Any], reconstruction: NDArray[np.float32]) -> float:
    """Mean squared error per pixel of one image (H, W, C) in 0 … 1, row by row in float64."""
    scale = np.float64(np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0)
    return mean(image.shape, lambda rows: np.square(reconstruction[rows].astype(np.float64) - image[rows] / scale))


def _bytes_of(images: NDArray[Any]) -> NDArray[np.uint8]:
    return images if images.dtype == np.uint8 else np.rint(images / np.float64(_WORDS_PER_BYTE)).astype(np.uint8)


def _floats_of(images: NDArray[Any]) -> NDArray[np.float32]:
    return images.astype(np.float32) / (_BYTE if images.dtype == np.uint8 else _WORD)

"""Scores of anomaly maps, and maps drawn as grey images (heat maps); calibration, server and client use it."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows are taken together up to this many numbers, which fit a cache.
_NUMBERS_AT_ONCE = 65_536
# Where the threshold lies among 0 … 255.
_THRESHOLD_SHARE = np.float32(128 / 255)


def drawn(anomalies: NDArray[np.float32], low: float, threshold: float) -> NDArray[np.float32]:
    """Values of a map, of any shape, as those of images in 0 … 1, up to rounding.

    Linear: `low` becomes 0 and `threshold`, which exceeds it, 128 of 255; clipped.
    """
    black = np.float32(low)
    span = np.float32(threshold) - black
    with np.errstate(over="ignore"):
        # The difference of a far larger value would overflow.
        values = np.clip(anomalies, black, black + 2 * span)
    values -= black
    values /= span
    values *= _THRESHOLD_SHARE
    return values


def scores_of(maps: Iterable[NDArray[np.float32]], score: str) -> NDArray[np.float32]:
    """Maximum, or mean row by row in float64, of each of N maps (H, W) or (H, W, 1): (N,)."""
    return np.array([each.max() if score == "max" else _mean_of(each) for each in maps], np.float32)


def mean(shape: Sequence[int], numbers: Callable[[slice], NDArray[np.float64]]) -> float:
    """Mean over an image of this shape, (H, …), whose numbers are computed some rows at a time, in raster order."""
    height, *row_shape = shape
    step = max(_NUMBERS_AT_ONCE // math.prod(row_shape), 1)
    sums: list[float] = []
    for first in range(0, height, step):
        found = numbers(slice(first, first + step))
        sums += found.reshape(len(found), -1).sum(axis=1).tolist()
    return math.fsum(sums) / math.prod(shape)


def _mean_of(image: NDArray[Any]) -> float:
    return mean(image.shape, lambda rows: image[rows].astype(np.float64))

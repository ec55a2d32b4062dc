"""Anomaly maps drawn as grey images (heat maps); server and client use it."""

import numpy as np
from numpy.typing import NDArray

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

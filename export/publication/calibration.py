"""Calibration of detection on reference images: normal ones that the network was not trained on."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from autoencoder.v1 import shapes
from autoencoder.v1.shapes import Shapes
from numpy.typing import NDArray

from bundle.detection import LEAST_IMAGES, HeldOutScores, Score
from bundle.images.element_types import Images
from export.errors import InputError

Maps: TypeAlias = NDArray[np.float32]

_MOST_ROWS = 32
# In a batch: activations of 64 channels of so many pixels take 256 MiB.
_MOST_PIXELS = 2**20
_SHOWN = 3


def held_out_scores(
    images: Sequence[Images], sizes: Shapes, score: Score, detect: Callable[[Images], Maps]
) -> HeldOutScores:
    """Scores of whole images (H, W, C), padded and cropped as a server does; `detect`: (N, H, W, C) to (N, H, W, 1).

    Raises:
        InputError: too few images, of several sizes, or with maps that are not finite or below 0.
    """
    if len(images) < LEAST_IMAGES:
        raise InputError(
            f"expected at least {LEAST_IMAGES} reference images to calibrate detect on, normal ones that it was not "
            f"trained on, got {len(images)}: give --reference more"
        )
    found = sorted({each.shape[:2] for each in images})
    if len(found) > 1:
        got = ", ".join(f"{height} x {width}" for height, width in found[:_SHOWN])
        raise InputError(
            f"expected reference images of one size to calibrate detect on, got {got}: resize or cut them to the size "
            "that will be inspected"
        )
    scored = HeldOutScores.of_maps(_maps(images, sizes, detect), score)
    if not np.isfinite([scored.scores, scored.maxima]).all() or scored.scores.min() < 0:
        raise InputError("detect: expected maps of finite numbers from 0 of every reference image, got others")
    return scored


def _maps(images: Sequence[Images], sizes: Shapes, detect: Callable[[Images], Maps]) -> Iterator[Maps]:
    height, width = images[0].shape[:2]
    padded = sizes.padded(height, width) if sizes.free else (height, width)
    rows = max(1, min(_MOST_ROWS, _MOST_PIXELS // (padded[0] * padded[1])))
    for start in range(0, len(images), rows):
        yield from detect(shapes.pad(np.stack(images[start : start + rows]), padded))[:, :height, :width]

"""Properties measured on images of single bright shapes, after Morpho-MNIST (Castro et al. 2019)."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from bundle.images import element_types

_ENLARGED = 4
_THRESHOLD = 0.5
_STEEPEST = np.radians(80)


def thickness(images: np.ndarray) -> np.ndarray:
    """(N, H, W) in 0 to 1 to (N,) pixels: twice the mean distance to the edge along the middle of the stroke.

    The middle is where the distance to the edge peaks, which spares a thinning algorithm. 0 for an empty image.
    """
    return np.array([_thickness(image) for image in images])


def slant(images: np.ndarray) -> np.ndarray:
    """(N, H, W) in 0 to 1 to (N,) radians: the angle of the shear, positive to the right. 0 for an empty image."""
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float64)
    mass = np.maximum(images.sum((1, 2)), np.finfo(np.float64).tiny)
    down = rows - _mean(images, rows, mass)[:, np.newaxis, np.newaxis]
    right = columns - _mean(images, columns, mass)[:, np.newaxis, np.newaxis]
    covariance, variance = (images * down * right).sum((1, 2)), (images * down**2).sum((1, 2))
    return np.arctan2(-covariance, np.maximum(variance, np.finfo(np.float64).tiny))


def sheared(images: np.ndarray, amount: float) -> np.ndarray:
    """(N, H, W) in 0 to 1 to the same, each row shifted so that the slant grows by an amount in radians.

    About the centre of mass, by linear interpolation; dark beyond the edge. Slants stay within 80 degrees.
    """
    height, width = images.shape[1:]
    rows = np.mgrid[:height, :width][0].astype(np.float64)
    mass = np.maximum(images.sum((1, 2)), np.finfo(np.float64).tiny)
    slants = slant(images)
    steps = np.tan(np.clip(slants + amount, -_STEEPEST, _STEEPEST)) - np.tan(slants)
    shifts = steps[:, np.newaxis] * (np.arange(height) - _mean(images, rows, mass)[:, np.newaxis])
    sources = np.arange(width) + shifts[..., np.newaxis] + 1
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1)))
    left = np.clip(np.floor(sources), 0, width).astype(np.intp)
    share = np.clip(sources - left, 0, 1)
    near, far = np.take_along_axis(padded, left, 2), np.take_along_axis(padded, left + 1, 2)
    return near + share * (far - near)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"thickness": thickness, "slant": slant}
CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"slant": sheared}
"""What changes a measure of images (N, H, W) in 0 to 1 by an amount, and leaves the rest as it is."""


def grey(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) to (N, H, W) in 0 to 1: the mean over the channels."""
    return images.mean(3, np.float64) / element_types.largest(images.dtype)


def _thickness(image: np.ndarray) -> float:
    large = ndimage.zoom(image, _ENLARGED, order=1) >= _THRESHOLD * image.max()
    if not image.any() or large.all():
        return 0.0
    distance = np.asarray(ndimage.distance_transform_edt(large))
    middle = large & (distance >= ndimage.maximum_filter(distance, 3))
    return float(2 * distance[middle].mean() / _ENLARGED)


def _mean(images: np.ndarray, positions: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return (images * positions).sum((1, 2)) / mass

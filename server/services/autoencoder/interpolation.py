"""Linear and spherical interpolation (lerp, slerp) of latents."""

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidArgumentError

# Below this angle, in radians, a great circle is a straight line to float32 accuracy.
_SMALL_ANGLE = 1e-4


def linear(start: NDArray[np.float32], stop: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """(D,) and (D,) to (steps, D): the straight line, both ends to the bit."""
    amounts = np.linspace(0.0, 1.0, steps)[:, None]
    path = ((1.0 - amounts) * start.astype(np.float64) + amounts * stop.astype(np.float64)).astype(np.float32)
    path[0], path[-1] = start, stop
    return path


def spherical(start: NDArray[np.float32], stop: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """(D,) and (D,) to (steps, D): a great circle with the length interpolated linearly, both ends to the bit.

    Shoemake 1985, "Animating rotation with quaternion curves".

    Raises:
        InvalidArgumentError: an end at the origin, or ends opposite to each other: no great circle is the shortest.
    """
    first, last = start.astype(np.float64), stop.astype(np.float64)
    lengths = np.array([np.linalg.norm(first), np.linalg.norm(last)])
    if not lengths.all():
        raise InvalidArgumentError("interpolation", "expected ends away from the origin: ask for INTERPOLATION_LINEAR")
    directions = np.stack([first, last]) / lengths[:, None]
    angle = np.arccos(np.clip(directions[0] @ directions[1], -1.0, 1.0))
    if angle > np.pi - _SMALL_ANGLE:
        raise InvalidArgumentError("interpolation", "expected ends not opposite: ask for INTERPOLATION_LINEAR")
    if angle < _SMALL_ANGLE:
        return linear(start, stop, steps)
    amounts = np.linspace(0.0, 1.0, steps)[:, None]
    weights = np.concatenate([np.sin((1.0 - amounts) * angle), np.sin(amounts * angle)], axis=1) / np.sin(angle)
    path = ((weights @ directions) * ((1.0 - amounts) * lengths[0] + amounts * lengths[1])).astype(np.float32)
    path[0], path[-1] = start, stop
    return path

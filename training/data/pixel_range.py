"""From arrays of any range that is unmistakable to images of an element type; others are refused with what to do."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle.images import element_types
from training.errors import DataError

BYTE_MAX = 255
# Half a grey level: what is less beyond 0 to 1 rounds to the same byte as 0 or 1, as after interpolation in float16.
_TOLERANCE = 0.5 / BYTE_MAX
_ROWS_AT_ONCE = 1_024
BINARY_NOTE = "the values are 0 and 1: taken as 0 and 255; send images to the server in that range"
_CLIPPED_NOTE = "values beyond 0 to 1, by less than half a grey level of 255, are clipped"


def as_images(images: Mapping[str, np.ndarray], path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """(N, H, W, C) of each split, by one rule for all of them, and notes on what was changed.

    uint8 and uint16 are kept, booleans become uint8, and floats float32, or uint8 where every one is a byte over 255.

    Raises:
        DataError: an array has an unfit shape, type or range.
    """
    shaped = {role: _shaped(each, path) for role, each in images.items()}
    if binary(*shaped.values()):
        return {role: each * np.uint8(BYTE_MAX) for role, each in shaped.items()}, (BINARY_NOTE,)
    checked = [_checked(each, path) for each in shaped.values()]
    notes = (_CLIPPED_NOTE,) if any(clipped for _, clipped in checked) else ()
    alike = element_types.alike([pixels for pixels, _ in checked])
    return dict(zip(shaped, alike, strict=True)), notes


def binary(*images: np.ndarray) -> bool:
    """Whether bytes hold nothing but 0 and 1."""
    return all(each.dtype == np.uint8 for each in images) and max(int(each.max()) for each in images) == 1


def _shaped(images: np.ndarray, path: Path) -> np.ndarray:
    """(N, H, W, C)."""
    if images.ndim == 3:  # noqa: PLR2004 ((N, H, W))
        images = images[..., np.newaxis]
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.size:  # noqa: PLR2004 ((N, H, W, C))
        return images
    expected = f"{path}: expected images of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {images.shape}"
    channels_first = images.ndim == 4 and images.shape[1] in (1, 3)  # noqa: PLR2004 ((N, C, H, W))
    raise DataError(expected + (": move the channels with images.transpose(0, 2, 3, 1)" if channels_first else ""))


def _checked(images: np.ndarray, path: Path) -> tuple[np.ndarray, bool]:
    """Images, and whether values were clipped that are not those of bytes."""
    if images.dtype == np.uint8:
        return images, False
    if images.dtype == np.bool_:
        return images * np.uint8(BYTE_MAX), False
    expected = f"{path}: expected images of uint8 in 0 to 255, uint16 in 0 to 65535, floats in 0 to 1 or booleans"
    if images.dtype.kind not in "fiu":
        raise DataError(f"{expected}, got {images.dtype}")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise DataError(f"{expected}, with finite values; got NaN or infinity")
    low, high = images.min(), images.max()
    if (images.dtype.kind, images.dtype.itemsize) == ("u", 2) and high > BYTE_MAX:
        return images.astype(np.uint16), False
    if images.dtype.kind != "f" or low < -_TOLERANCE or high > 1 + _TOLERANCE:
        got = f"{images.dtype} in {low:.9g} to {high:.9g}"
        raise DataError(f"{expected}, got {got}: {_advice(images.dtype, float(low), float(high))}")
    parts = [images[first : first + _ROWS_AT_ONCE] for first in range(0, len(images), _ROWS_AT_ONCE)]
    if all(_are_bytes(part) for part in parts):
        return np.concatenate([np.rint(part * BYTE_MAX).astype(np.uint8) for part in parts]), False
    return np.clip(images, 0, 1).astype(np.float32), bool(low < 0 or high > 1)


def _are_bytes(images: np.ndarray) -> bool:
    """Whether every float is a byte over 255, but for the last bit of its type."""
    return bool(np.all(np.abs(images - np.rint(images * BYTE_MAX) / BYTE_MAX) <= np.finfo(images.dtype).eps))


def _advice(dtype: np.dtype, low: float, high: float) -> str:
    """What makes a fit range of an unfit one."""
    if dtype.kind != "f" and low >= 0 and high <= 1:
        return "convert them with images.astype(bool)"
    if dtype.kind != "f" and low >= 0 and high <= BYTE_MAX:
        return "convert them with images.astype('uint8')"
    if dtype.kind != "f" and low >= 0 and high <= np.iinfo(np.uint16).max:
        return "convert them with images.astype('uint16') if 65535 is white, or divide them by what is white"
    if low >= 0 and high <= BYTE_MAX:
        return "divide them by 255"
    if low >= -1 and high <= 1:
        return "scale them with (images + 1) / 2"
    return "scale them to 0 to 1"

"""Element types of images: bytes and words of 16 bits, whose largest value is 1, and floats in 0 to 1."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Images: TypeAlias = NDArray[np.uint8 | np.uint16 | np.float32]
"""(N, H, W, C), or one image (H, W, C)."""

KINDS = ("uint8", "uint16", "float32")
"""Names of the element types of images, from the coarsest to the finest."""
_LARGEST = {"uint8": 255, "uint16": 65_535}


def largest(dtype: DTypeLike) -> int:
    """What stands for 1: the largest value of an integer type."""
    return _LARGEST.get(np.dtype(dtype).name, 1)


def floats(images: NDArray[Any], kind: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    """Images of any element type as floats in 0 to 1."""
    return images.astype(kind) / kind(largest(images.dtype))


def alike(images: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays in the finest of their element types; nothing is rounded, as bytes in 16 bits are 257 times as large."""
    finest = max((each.dtype.name for each in images), key=KINDS.index, default=KINDS[0])
    return [_as(each, finest) for each in images]


def rounded(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images of any element type as bytes."""
    return images if images.dtype == np.uint8 else np.rint(floats(images) * _LARGEST["uint8"]).astype(np.uint8)


def _as(images: NDArray[Any], kind: str) -> NDArray[Any]:
    if images.dtype.name == kind:
        return images
    if kind == "uint16":
        return images * np.uint16(_LARGEST["uint16"] // _LARGEST["uint8"])
    return floats(images)

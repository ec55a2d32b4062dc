"""Image files to arrays, by the rules of `bundle/images/decoder.py`: those that the server reads files by."""

import stat
from collections.abc import Sequence
from enum import IntFlag
from pathlib import Path

import numpy as np

from bundle.errors import ImageFileError
from bundle.images import element_types
from bundle.images.decoder import Decoded, ImageReader, Limits
from training.config import Data
from training.cpu import available_memory
from training.errors import DataError


class Conversion(IntFlag):
    """What the rules changed in an image, beyond what its file stores."""

    NONE = 0
    ROTATED = 1
    BLENDED = 2
    SCALED_FROM_16_BITS = 4
    """What is resized has 8 bits."""


def read_all(paths: Sequence[Path], data: Data) -> tuple[list[np.ndarray], np.ndarray]:
    """The images (H, W, C), and the Conversion of each, uint8 (N,).

    They are uint8, or all of them uint16 where a file has 16 bits a channel and none is resized.

    Raises:
        DataError: one is not a regular file, damaged, or of another format; or there is too little memory for so many
            images of one size, which only those for crops are not.
    """
    if data.size:
        _check_memory(len(paths), (data.size, data.size), data.size**2 * (1 if data.grey else 3), "lower data.size")
    decoded = [_read(path, data) for path in paths[:1]]
    if decoded and not (data.size or data.crop):
        pixels = decoded[0].pixels
        _check_memory(len(paths), pixels.shape, pixels.nbytes, "scale them with --set data.size=N")
    decoded += [_read(path, data) for path in paths[1:]]
    pixels = element_types.alike([image.pixels for image in decoded])
    return pixels, np.array([_flags(image) for image in decoded], np.uint8)


def _check_memory(count: int, shape: Sequence[int], image_bytes: int, advice: str) -> None:
    needed, left = count * image_bytes, available_memory()
    if needed > left:
        raise DataError(
            f"{count} images of {shape[0]}x{shape[1]} take {needed / 2**30:.1f} GiB, {left / 2**30:.1f} GiB are free: "
            f"{advice}"
        )


def _read(path: Path, data: Data) -> Decoded:
    target = (data.size, data.size) if data.size else None
    try:
        # Reading a named pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file: remove it")
        return ImageReader(path.read_bytes(), Limits()).decode(1 if data.grey else 3, target, keep_sixteen_bits=True)
    except (OSError, ImageFileError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; repair or remove it") from None


def _flags(image: Decoded) -> int:
    return (
        Conversion.ROTATED * image.rotated
        | Conversion.BLENDED * image.transparent
        | Conversion.SCALED_FROM_16_BITS * (image.sixteen_bits and image.pixels.dtype == np.uint8)
    )

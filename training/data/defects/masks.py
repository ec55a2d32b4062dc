"""Masks of defects: for the test image `KIND/NAME.png` the file `KIND/NAME_mask.png`, or `KIND/NAME.png`, elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.config import Data
from training.errors import DataError

_SUFFIXES = ("_mask.png", ".png", "_mask.bmp", ".bmp")
_WHITE = 128


def read(folder: Path, images: Sequence[Path], kinds: Sequence[str], data: Data, size: tuple[int, ...]) -> np.ndarray:
    """The masks (N, H, W) bool of images, those of normal ones empty; scaled as the images are.

    Raises:
        DataError: one is missing, unreadable or of another size than its image, or the folder is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory: data.masks expects the folder of the masks")
    found = np.zeros((len(images), *size), bool)
    for row, (image, kind) in enumerate(zip(images, kinds, strict=True)):
        if kind != data.normal:
            found[row] = _read(_find(folder, kind, image), image, size, scaled=bool(data.size))
    return found


def _find(folder: Path, kind: str, image: Path) -> Path:
    for suffix in _SUFFIXES:
        path = folder / kind / f"{image.stem}{suffix}"
        if path.is_file():
            return path
    raise DataError(
        f"{image} has no mask: expected {folder / kind / image.stem}_mask.png; add it, or remove {folder} to do "
        "without masks"
    )


def _read(path: Path, image: Path, size: tuple[int, ...], *, scaled: bool) -> np.ndarray:
    try:
        with Image.open(path) as opened, Image.open(image) as original:
            mask, (width, height) = opened.convert("L"), original.size if scaled else (size[1], size[0])
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; repair or remove it") from None
    if mask.size != (width, height):
        got = f"{mask.height}x{mask.width}"
        raise DataError(f"{path}: expected a mask of {height}x{width} (height, width) as {image.name} has, got {got}")
    return np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST)) >= _WHITE

"""Reference images of a module: image files, folders of them, or an array; they stand in for a checkpoint's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ImageFileError
from bundle.images.decoder import SUFFIXES, ImageReader, Limits
from export.errors import InputError
from training.config import Data
from training.data import arrays, folder_layout, image_paths
from training.data.pixel_range import as_bytes
from training.errors import DataError

Images = NDArray[np.uint8]

MAX_IMAGES = 10_000
"""Images that are read, evenly spread over those that are given."""
# Of images of free sizes, cut into squares that the gate pads or cuts to the sizes that it tries.
_LARGEST_CROP = 128
_CROPS = 64
_COLOURS = 3
_IMAGE_AXES = 3


@dataclass(frozen=True)
class Reference:
    """An image uint8 (H, W, C), and what it is called."""

    pixels: Images
    name: str
    label: str = ""
    """The name of its class, where images lie in folders of classes or an array says so."""


def read(sources: Sequence[Path | NDArray[np.generic]]) -> list[Reference]:
    """Read images, all of one number of channels: 1 where every pixel is grey, else 3.

    A source is an image file, a folder of them, a .npz or .npy file, or an array (N, H, W), (N, H, W, C) or
    (H, W, C) of bytes in 0 to 255 or floats in 0 to 1.

    Raises:
        InputError: none, an unreadable one, or values outside that range.
    """
    try:
        found = [each for source in sources for each in _read(source)]
    except DataError as error:
        raise InputError(str(error)) from error
    if not found:
        raise InputError("expected reference images, got none: give a folder, files, or a .npz or .npy file")
    if all(_is_grey(each.pixels) for each in found):
        return [replace(each, pixels=each.pixels[..., :1]) for each in found]
    return [replace(each, pixels=np.repeat(each.pixels, _COLOURS // each.pixels.shape[2], 2)) for each in found]


def of_one_size(references: Sequence[Reference], size: tuple[int, int] | None) -> Images:
    """Stack images (N, H, W, C), of a module for that size alone.

    Raises:
        InputError: they have several sizes, or another.
    """
    first = references[0]
    height, width = size or first.pixels.shape[:2]
    for each in references:
        if each.pixels.shape[:2] != (height, width):
            got = f"{each.pixels.shape[0]} x {each.pixels.shape[1]} ({each.name})"
            expected = f"{height} x {width}" if size else f"one size, {height} x {width} as in {first.name}"
            raise InputError(
                f"expected reference images of {expected}, got {got}: resize them, or give --image-shape free for a "
                "module that takes any size"
            )
    return np.stack([each.pixels for each in references])


def crops(references: Sequence[Reference], multiple: int, minimum: int) -> Images:
    """Cut squares (N, side, side, C) out of images of any sizes, several of each where there are few.

    Raises:
        InputError: an image is smaller than the module takes.
    """
    smallest = min(references, key=lambda each: min(each.pixels.shape[:2]))
    least = -(-minimum // multiple) * multiple
    side = min(*smallest.pixels.shape[:2], max(_LARGEST_CROP, least)) // multiple * multiple
    if side < least:
        got = f"{smallest.pixels.shape[0]} x {smallest.pixels.shape[1]} ({smallest.name})"
        raise InputError(f"expected reference images of at least {least} pixels in height and width, got {got}")
    each = -(-_CROPS // len(references))
    return np.stack([crop for one in references for crop in _grid(one.pixels, side)[:each]])


def _grid(pixels: Images, side: int) -> list[Images]:
    """Squares side by side."""
    height, width = pixels.shape[:2]
    return [
        pixels[top : top + side, left : left + side]
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]


def _read(source: Path | NDArray[np.generic]) -> Iterable[Reference]:
    if not isinstance(source, Path):
        images = source[None] if source.ndim == _IMAGE_AXES and source.shape[2] in {1, _COLOURS} else source
        return _spread([Reference(each, "the array") for each in as_bytes({"": images}, Path("the array"))[0][""]])
    if source.is_dir():
        paths = image_paths.find(source, SUFFIXES).paths
        classes = folder_layout.class_of_each([path.relative_to(source) for path in paths])
        return [_decoded(path, label) for path, label in _spread([*zip(paths, classes, strict=True)])]
    if source.suffix.lower() in {".npz", ".npy"}:
        split = arrays.read_npz(source, Data()).train
        labels = [""] * len(split) if split.labels is None else list(map(str, split.labels))
        return [
            Reference(each, source.name, label) for each, label in _spread([*zip(split.images, labels, strict=True)])
        ]
    return [_decoded(source)]


def _spread(found: list[Any]) -> list[Any]:
    if len(found) <= MAX_IMAGES:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, MAX_IMAGES).astype(int)]


def _decoded(path: Path, label: str = "") -> Reference:
    if not path.is_file():
        raise InputError(f"{path}: expected an image file, a folder of them, or a .npz or .npy file, got none")
    try:
        pixels = ImageReader(path.read_bytes(), Limits()).decode(_COLOURS).pixels
        return Reference(np.asarray(pixels, np.uint8), path.name, label)
    except (OSError, ImageFileError) as error:
        raise InputError(f"{path}: expected a readable image: {error}") from error


def _is_grey(pixels: Images) -> bool:
    return bool((pixels == pixels[..., :1]).all())

"""Reference images of a network made elsewhere: image files, folders of them, or arrays; none of them is rounded.

The gate, golden vectors, statistics of latents and thresholds of detection are made on them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ImageFileError
from bundle.images import element_types
from bundle.images.decoder import SUFFIXES, ImageReader, Limits
from bundle.images.element_types import Images
from export.errors import InputError
from training.config import Data
from training.data import arrays, folder_layout, image_paths
from training.data.pixel_range import as_images
from training.errors import DataError

MAX_IMAGES = 10_000
"""Images that are read by default, evenly spread over those that are given."""
# Of images of free sizes, cut into squares that the gate pads or cuts to the sizes that it tries.
_LARGEST_CROP = 128
_CROPS = 64
_COLOURS = 3
_IMAGE_AXES = 3


@dataclass(frozen=True)
class Reference:
    """An image (H, W, C), and what it is called."""

    pixels: Images
    name: str
    label: str = ""
    """The name of its class, where images lie in folders of classes or an array says so."""


def read(
    sources: Sequence[Path | NDArray[np.generic]], channels: int | None = None, most: int | None = None
) -> list[Reference]:
    """Read at most so many images of each source, all of one element type and one number of channels.

    Without `channels` that is 1 where every pixel of all images is grey, else 3. A source is an image file, a folder of
    them, a .npz or .npy file, or an array (N, H, W), (N, H, W, C) or (H, W, C), of what `pixel_range` takes.

    Raises:
        InputError: none, an unreadable one, values outside their range, or colours where 1 channel is expected.
    """
    try:
        found = [each for source in sources for each in _read(source, channels or _COLOURS, most or MAX_IMAGES)]
    except DataError as error:
        raise InputError(str(error)) from error
    if not found:
        raise InputError("expected reference images, got none: give a folder, files, or a .npz or .npy file")
    if channels is None:
        channels = 1 if all(_is_grey(each.pixels) for each in found) else _COLOURS
    alike = element_types.alike([_in_channels(each, channels) for each in found])
    return [replace(each, pixels=pixels) for pixels, each in zip(alike, found, strict=True)]


def of_one_size(references: Sequence[Reference], size: tuple[int, int] | None, advice: str = "resize them") -> Images:
    """Stack images (N, H, W, C), of a network for that size alone.

    Raises:
        InputError: they have several sizes, or another.
    """
    first = references[0]
    height, width = size or first.pixels.shape[:2]
    for each in references:
        if each.pixels.shape[:2] != (height, width):
            got = f"{each.pixels.shape[0]} x {each.pixels.shape[1]} ({each.name})"
            expected = f"{height} x {width}" if size else f"one size, {height} x {width} as in {first.name}"
            raise InputError(f"expected reference images of {expected}, got {got}: {advice}")
    return np.stack([each.pixels for each in references])


def crops(references: Sequence[Reference], multiple: int, minimum: int) -> Images:
    """Cut squares (N, side, side, C) out of images of any sizes, several of each where there are few.

    Raises:
        InputError: an image is smaller than the network takes.
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


def _read(source: Path | NDArray[np.generic], channels: int, most: int) -> Iterable[Reference]:
    """Images of a source; those of files in so many channels."""
    if not isinstance(source, Path):
        images = source[None] if source.ndim == _IMAGE_AXES and source.shape[2] in {1, _COLOURS} else source
        return _spread(
            [Reference(each, "the array") for each in as_images({"": images}, Path("the array"))[0][""]], most
        )
    if source.is_dir():
        paths = image_paths.find(source, SUFFIXES).paths
        classes = folder_layout.class_of_each([path.relative_to(source) for path in paths])
        return [_decoded(path, channels, label) for path, label in _spread([*zip(paths, classes, strict=True)], most)]
    if not source.is_file():
        raise InputError(f"{source}: expected an image file, a folder of them, or a .npz or .npy file, got none")
    if source.suffix.lower() in {".npz", ".npy"}:
        split = arrays.read_npz(source, Data()).train
        classes = [""] * len(split) if split.labels is None else [*map(str, split.labels)]
        found = _spread([*zip(split.images, classes, strict=True)], most)
        return [Reference(each, source.name, label) for each, label in found]
    return [_decoded(source, channels)]


def _spread(found: list[Any], most: int) -> list[Any]:
    if len(found) <= most:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, most).astype(int)]


def _decoded(path: Path, channels: int, label: str = "") -> Reference:
    try:
        decoded = ImageReader(path.read_bytes(), Limits()).decode(channels, keep_sixteen_bits=True)
    except (OSError, ImageFileError) as error:
        raise InputError(f"{path}: expected a readable image: {error}") from error
    return Reference(decoded.pixels, path.name, label)


def _in_channels(image: Reference, channels: int) -> Images:
    """(H, W, channels): grey may stand for colours, colours never for grey."""
    got = image.pixels.shape[2]
    if channels < got and not _is_grey(image.pixels):
        raise InputError(f"expected grey reference images, got colours ({image.name}): convert them")
    return image.pixels[..., :channels] if channels <= got else np.repeat(image.pixels, channels, 2)


def _is_grey(pixels: Images) -> bool:
    return bool((pixels == pixels[..., :1]).all())

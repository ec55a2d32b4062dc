"""Reference images of an import: golden vectors, the check of ranges and latent statistics are made on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.errors import BundleError, ImageFileError
from bundle.images.decoder import SUFFIXES, ImageReader, Limits
from bundle.latents import LatentStatistics
from bundle.layout import read_file
from export.errors import InputError
from training.data import folder_layout

Images = NDArray[np.uint8]

MAX_IMAGES = 2_000
LEAST_FITTED = 100
"""Statistics of fewer images would say nothing."""
_MAX_BYTES = 2**31 - 1
_LARGEST_CROP = 256
_BYTES = 255
_ARRAYS = (".npz", ".npy")
_SEED = 0


def read(paths: Sequence[Path], shape: tuple[int, int, int], multiple: int = 1) -> tuple[Images, list[str]]:
    """Read images (N, H, W, C) of a shape; where its height and width are 0, squares cut out of the middle.

    Also the class of each, which is "" where folders name none.

    A path is an image file, a folder of them, or a .npz or .npy file of bytes in 0 to 255 or floats in 0 to 1.

    Raises:
        InputError: none, an unreadable one, or one of another shape.
    """
    pictures = _checked(paths, shape)
    found, classes = [each.pixels for each in pictures], [each.label for each in pictures]
    if shape[0]:
        return np.stack(found), classes
    side = min(_LARGEST_CROP, *(size for image in found for size in image.shape[:2])) // multiple * multiple
    if not side:
        raise InputError(f"expected reference images of at least {multiple} pixels in height and width, got smaller")
    return np.stack([_middle(image, side) for image in found]), classes


def read_whole(paths: Sequence[Path], shape: tuple[int, int, int]) -> list[Images]:
    """Read images (H, W, C) of a shape, or of any height and width where these are 0.

    Raises:
        InputError: as `read`.
    """
    return [each.pixels for each in _checked(paths, shape)]


def _checked(paths: Sequence[Path], shape: tuple[int, int, int]) -> "list[_Picture]":
    found = [image for path in paths for image in _read(path, shape[2])][:MAX_IMAGES]
    if not found:
        raise InputError("expected reference images, got none: give a folder, files, or a .npz or .npy file")
    for each in found:
        size = each.pixels.shape
        if size[2] != shape[2] or (shape[0] and size != shape):
            expected = " x ".join(map(str, shape)) if shape[0] else f"{shape[2]} channels"
            got = " x ".join(map(str, size))
            raise InputError(f"{each.name}: expected reference images of {expected}, got {got}: resize or convert them")
    return found


def fit(
    codes: NDArray[np.float32], errors: NDArray[np.float64], width: int, classes: Sequence[str]
) -> LatentStatistics:
    """Statistics of codes (N, …), every second one held out, in vectors of `width` numbers; errors (N,) per pixel.

    Where a code is one vector, held-out ones are kept as reference points, with the class of each image, if any.

    Raises:
        UnavailableError: codes too wide, or not finite.
    """
    # scikit-learn takes a second to load.
    from training.evaluation import latent_statistics, reference_points  # noqa: PLC0415

    fitted, held_out = codes[::2].reshape(-1, width), codes[1::2].reshape(-1, width)
    statistics = latent_statistics.fit(fitted, held_out, errors[1::2], _SEED)
    if width != codes[0].size:
        return statistics
    return reference_points.add(statistics, held_out, *reference_points.numbered(classes[1::2]))


def _middle(image: Images, side: int) -> Images:
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]


class _Picture(NamedTuple):
    """An image (H, W, C), what it is called, and its class or ""."""

    pixels: Images
    name: str
    label: str = ""


def _read(path: Path, channels: int) -> list[_Picture]:
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
        classes = folder_layout.class_of_each([each.relative_to(path) for each in files])
        pairs = [*zip(files, classes, strict=True)][:MAX_IMAGES]
        return [_Picture(_decoded(each, channels), str(each), label) for each, label in pairs]
    if path.suffix.lower() in _ARRAYS:
        return [_Picture(image, str(path)) for image in _array(path)]
    return [_Picture(_decoded(path, channels), str(path))]


def _decoded(path: Path, channels: int) -> Images:
    try:
        pixels = ImageReader(read_file(path, _MAX_BYTES), Limits()).decode(channels).pixels
    except (BundleError, ImageFileError) as error:
        raise InputError(f"{path}: expected a readable image: {error}") from error
    return np.asarray(pixels, np.uint8)


def _array(path: Path) -> Images:
    try:
        images: Any = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            images = images["images" if "images" in images else images.files[0]]
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path}: expected a readable array of images: {error}") from error
    if images.ndim == 3:  # noqa: PLR2004 ((N, H, W))
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in {1, 3}:  # noqa: PLR2004 ((N, H, W, C))
        raise InputError(f"{path}: expected images (N, H, W) or (N, H, W, C) with 1 or 3 channels, got {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not bool(np.all((images >= 0) & (images <= 1))):
        raise InputError(f"{path}: expected bytes in 0 to 255 or floats in 0 to 1, got {images.dtype} beyond them")
    return np.rint(images * _BYTES).astype(np.uint8)

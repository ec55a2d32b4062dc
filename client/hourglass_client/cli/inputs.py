"""Inputs of the command line (files, folders, arrays) to arguments of the client."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hourglass_client.images import ImageInput

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
# Large enough to share a graph run, small enough for the server's limits on messages.
BATCH_ITEMS = 64
Items = TypeVar("Items", list[Path], NDArray[Any])


class UsageError(Exception):
    """Wrong usage; the text says what is expected."""


@dataclass(frozen=True)
class ImageBatch:
    """Images of one request and a name for each; `images` are paths or an array (N, …)."""

    names: Sequence[str]
    images: Sequence[Path] | NDArray[Any]


def image_batches(paths: Sequence[Path]) -> Iterator[ImageBatch]:
    """Images of files, of folders (sorted, not their subfolders) and of .npy arrays, in batches and in this order.

    Raises:
        UsageError: no such file, not an image, or an array that holds no images.
    """
    taken: dict[str, int] = {}
    for arrays, group in groupby(paths, lambda path: path.suffix == ".npy"):
        if arrays:
            for path in group:
                yield from _array_batches(path, taken)
        else:
            files = [file for path in group for file in _image_files(path)]
            for some in batches(files):
                yield ImageBatch([_unique(path.stem, taken) for path in some], some)


def batches(items: Items) -> Iterator[Items]:
    """Batches of a size that fits in one request."""
    for first in range(0, len(items), BATCH_ITEMS):
        yield items[first : first + BATCH_ITEMS]


def read_latents(path: Path) -> NDArray[Any]:
    """(N, D) floats of a .npy or .csv file.

    Raises:
        UsageError: another kind of file or content.
    """
    if path.suffix == ".csv":
        try:
            return np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: expected rows of comma-separated numbers: {error}") from error
    latents = _load(path)
    if latents.dtype.kind != "f" or latents.ndim not in {1, 2}:
        raise UsageError(f"{path}: expected floats (N, D) or (D,), got {latents.dtype} {latents.shape}")
    return np.atleast_2d(latents)


def read_end(path: Path) -> tuple[Literal["images", "latents"], ImageInput]:
    """One end of an interpolation: an image file, an array of one image, or one latent vector of a .npy or .csv file.

    Raises:
        UsageError: no such file, or more than one latent vector.
    """
    if path.suffix not in {".npy", ".csv"}:
        return "images", _image_files(path)
    if path.suffix == ".npy":
        array = _load(path)
        if array.dtype.kind != "f" or array.ndim not in {1, 2}:
            return "images", array
    latents = read_latents(path)
    if len(latents) != 1:
        raise UsageError(f"{path}: expected one latent vector (D,) or (1, D), got {len(latents)} of them")
    return "latents", latents


def shift(text: str) -> tuple[str, float]:
    """NAME=AMOUNT of `--shift`.

    Raises:
        ValueError: anything else; argparse turns it into an error message.
    """
    name, equals, amount = text.partition("=")
    if not (name and equals):
        raise ValueError(text)
    return name, float(amount)


def _image_files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES)
        if not found:
            raise UsageError(f"{path}: expected a folder of PNG, JPEG or WebP files, got one without any")
        return found
    # Not only a regular file: a shell's pipe is fine.
    if not path.exists():
        raise UsageError(f"{path}: expected an image file, a folder of them or a .npy array, but nothing exists there")
    return [path]


def _array_batches(path: Path, taken: dict[str, int]) -> Iterator[ImageBatch]:
    array = _load(path)
    if array.ndim not in {2, 3, 4} or not len(array):
        raise UsageError(f"{path}: expected images (N, H, W), (N, H, W, C) or (H, W), got shape {array.shape}")
    rows = array[np.newaxis] if array.ndim == 2 else array  # noqa: PLR2004 (one image)
    numbers = count()
    for some in batches(rows):
        yield ImageBatch([_unique(f"{path.stem}-{next(numbers):05}", taken) for _ in some], some)


def _load(path: Path) -> NDArray[Any]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: expected a .npy array: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path}: expected a .npy array of numbers, got an archive")
    return cast("NDArray[Any]", loaded)


def _unique(stem: str, taken: dict[str, int]) -> str:
    """The stem, with a number appended if another input already has it."""
    taken[stem] = taken.get(stem, 0) + 1
    return stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"

"""What people name on a command line (files, folders, arrays) to what the client takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
# Large enough to share a graph run, small enough for the server's limits on messages.
_BATCH_IMAGES = 64


class UsageError(Exception):
    """What was asked for cannot be done; the text says what to give instead."""


@dataclass(frozen=True)
class ImageBatch:
    """Images of one request and a name for each; `images` are paths or an array (N, …)."""

    names: Sequence[str]
    images: Sequence[Path] | NDArray[Any]


def image_batches(paths: Sequence[Path]) -> Iterator[ImageBatch]:
    """Images of files, of folders (sorted, not their subfolders) and of .npy arrays, in batches.

    Raises:
        UsageError: nothing there, no image, or an array that holds no images.
    """
    files: list[Path] = []
    taken: dict[str, int] = {}
    for path in paths:
        if path.suffix == ".npy":
            yield from _array_batches(path, taken)
        else:
            files += _image_files(path)
    for first in range(0, len(files), _BATCH_IMAGES):
        some = files[first : first + _BATCH_IMAGES]
        yield ImageBatch([_unique(path.stem, taken) for path in some], some)


def read_latents(path: Path) -> NDArray[Any]:
    """(N, D) floats of a .npy or .csv file.

    Raises:
        UsageError: another kind of file or content.
    """
    if path.suffix == ".csv":
        try:
            return np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: wanted rows of numbers with commas between: {error}") from error
    latents = _load(path)
    if latents.dtype.kind != "f" or latents.ndim not in {1, 2}:
        raise UsageError(f"{path}: wanted floats (N, D) or (D,), got {latents.dtype} {latents.shape}")
    return np.atleast_2d(latents)


def shift(text: str) -> tuple[str, float]:
    """NAME=AMOUNT of `--shift`.

    Raises:
        ValueError: anything else; argparse makes a sentence of it.
    """
    name, equals, amount = text.partition("=")
    if not (name and equals):
        raise ValueError(text)
    return name, float(amount)


def _image_files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES)
        if not found:
            raise UsageError(f"{path}: wanted a folder of PNG, JPEG or WebP files, got one without any")
        return found
    if not path.is_file():
        raise UsageError(f"{path}: wanted an image file, a folder of them or a .npy array, found nothing there")
    return [path]


def _array_batches(path: Path, taken: dict[str, int]) -> Iterator[ImageBatch]:
    array = _load(path)
    if array.ndim not in {2, 3, 4} or not len(array):
        raise UsageError(f"{path}: wanted images (N, H, W), (N, H, W, C) or (H, W), got shape {array.shape}")
    rows = array[np.newaxis] if array.ndim == 2 else array  # noqa: PLR2004 (one image)
    for first in range(0, len(rows), _BATCH_IMAGES):
        some = rows[first : first + _BATCH_IMAGES]
        yield ImageBatch([_unique(f"{path.stem}-{first + index:05}", taken) for index in range(len(some))], some)


def _load(path: Path) -> NDArray[Any]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: wanted a .npy array: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path}: wanted a .npy array of numbers, got an archive")
    return cast("NDArray[Any]", loaded)


def _unique(stem: str, taken: dict[str, int]) -> str:
    """The stem, with a number where another input has it already."""
    taken[stem] = taken.get(stem, 0) + 1
    return stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"

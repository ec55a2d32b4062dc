"""Inputs of the command line (files, folders, arrays) to arguments of the client."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
from autoencoder.v1.model_pb2 import Model
from numpy.typing import NDArray

from hourglass_client.images import ImageInput

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# Large enough to share a graph run, small enough for the server's limits on messages and on pixels: four photos of a
# phone, or one file of any size.
BATCH_ITEMS = 64
_BATCH_BYTES = 16 * 2**20
Items = TypeVar("Items", list[Path], NDArray[Any])
# The model; a call to the server.
ModelOf: TypeAlias = Callable[[], Model]
_SPATIAL_AXES = 3
_LARGEST_EIGHT = 255


class UsageError(Exception):
    """Wrong usage; the text says what is expected."""


@dataclass(frozen=True)
class ImageBatch:
    """Images of one request and a name for each; `images` are paths or an array (N, …)."""

    names: Sequence[str]
    images: Sequence[Path] | NDArray[Any]
    array: Path | None = None
    """The file of the array."""


def image_batches(paths: Sequence[Path], model_of: ModelOf, most: int = BATCH_ITEMS) -> Iterator[ImageBatch]:
    """Images of files, of folders with their subfolders (sorted) and of .npy arrays, in order, at most so many a batch.

    An image of a folder is named by its path in it, without the suffix.

    Raises:
        UsageError: no such file, not an image, or an array that holds no images.
    """
    taken: set[str] = set()
    for arrays, group in groupby(paths, is_array):
        if arrays:
            for path in group:
                yield from _array_batches(path, taken, model_of, most)
        else:
            files = [(file, root) for path in group for file, root in _image_files(path)]
            names = [_unique(str(file.relative_to(root).with_suffix("")), taken) for file, root in files]
            done = 0
            # Pictures of several sizes, any of which may be a large one.
            together = 1 if model_of().sizes.multiple else most
            for some in batches([file for file, _ in files], together):
                yield ImageBatch(names[done : done + len(some)], some)
                done += len(some)


def batches(items: Items, most: int = BATCH_ITEMS) -> Iterator[Items]:
    """Batches of a size that fits in one request."""
    first = 0
    while first < len(items):
        end = first + 1
        size = _bytes(items, first)
        while end < min(len(items), first + most) and (size := size + _bytes(items, end)) <= _BATCH_BYTES:
            end += 1
        yield items[first:end]
        first = end


def _bytes(items: list[Path] | NDArray[Any], index: int) -> int:
    """Size of an item in a request; 0 for a file that cannot be looked at, which reading it will report."""
    if not isinstance(items, list):
        return items[index].nbytes
    try:
        return items[index].stat().st_size
    except OSError:
        return 0


def read_latents(path: Path) -> NDArray[Any]:
    """(N, D) or (N, h, w, c) floats of a .npy file, (N, D) of a .csv file.

    Raises:
        UsageError: another kind of file or content.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    latents = _load(path)
    if latents.dtype.kind != "f" or not 1 <= latents.ndim <= 1 + _SPATIAL_AXES or not latents.size:
        expected = "floats (N, D) or (D,), or spatial latents (N, h, w, c) or (h, w, c)"
        raise UsageError(f"{path}: expected {expected}, got {latents.dtype} {latents.shape}")
    return latents[np.newaxis] if latents.ndim in {1, _SPATIAL_AXES} else latents


def read_end(path: Path, model_of: ModelOf) -> tuple[Literal["images", "latents"], ImageInput]:
    """One end of an interpolation: an image file, an array of one image, or the latents of one, .npy or .csv.

    Raises:
        UsageError: no such file, or more than one latent vector.
    """
    if path.suffix not in {".npy", ".csv"}:
        return "images", [file for file, _ in _image_files(path)]
    if path.suffix == ".npy":
        array = _load(path)
        if array.dtype.kind != "f" or (array.ndim not in {1, 2} and not _is_code(array, model_of())):
            return "images", array
    latents = read_latents(path)
    if len(latents) != 1:
        raise UsageError(f"{path}: expected the latents of one image, got {len(latents)} of them")
    return "latents", latents


def noise_level(text: str) -> float:
    """A number or a fraction, such as 0.1 or 25/255, of `--noise-level`.

    Raises:
        ArgumentTypeError: anything else, such as a level on the scale of 0 to 255.
    """
    above, slash, below = text.partition("/")
    hint = ""
    with suppress(ValueError, ZeroDivisionError):
        level = float(above) / (float(below) if slash else 1)
        if not 1 < level <= _LARGEST_EIGHT:
            return level
        hint = f": on the scale of 0 to 255 that is --sigma {text}"
    expected = "expected a standard deviation in pixel values of 0 to 1, as 0.1 or 25/255"
    raise ArgumentTypeError(f"{expected}, got {text!r}{hint}")


def sigma(text: str) -> float:
    """A noise level of 0 to 1, of one on the scale of 0 to 255, such as 25, of `--sigma`.

    Raises:
        ArgumentTypeError: anything else.
    """
    with suppress(ValueError):
        if 0 <= (level := float(text)) <= _LARGEST_EIGHT:
            return level / _LARGEST_EIGHT
    raise ArgumentTypeError(f"expected a standard deviation on the scale of 0 to 255, such as 25, got {text!r}")


def shift(text: str) -> tuple[str, float]:
    """NAME=AMOUNT of `--shift`.

    Raises:
        ArgumentTypeError: anything else.
    """
    name, _, amount = text.rpartition("=")
    with suppress(ValueError):
        if name:
            return name, float(amount)
    raise ArgumentTypeError(f"expected NAME=AMOUNT, such as slant=1.5, got {text!r}")


def is_array(path: Path) -> bool:
    """Whether it is a file of an array."""
    return path.suffix == ".npy"


def _image_files(path: Path) -> list[tuple[Path, Path]]:
    """Image files at a path, each with the folder that its name is relative to."""
    try:
        if path.is_dir():
            return [(file, path) for file in _of_folder(path)]
        # Not only a regular file: a shell's pipe is fine.
        exists = path.exists()
    except (OSError, ValueError) as error:
        # ValueError: a path with a zero byte.
        raise UsageError(f"{path}: {getattr(error, 'strerror', error)}") from error
    if not exists:
        raise UsageError(f"{path}: expected an image file, a folder of them or a .npy array, but nothing exists there")
    return [(path, path.parent)]


def _of_folder(folder: Path) -> list[Path]:
    found = list(_in_folder(folder, frozenset()))
    if not found:
        raise UsageError(f"{folder}: expected a folder of image files ({' '.join(sorted(_IMAGE_SUFFIXES))}), got none")
    return found


def _in_folder(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Image files of a folder and its subfolders, sorted; links followed, hidden entries skipped."""
    here = folder.resolve()
    # A link may lead back to a folder above it.
    if here in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _in_folder(entry, above | {here})
        elif entry.suffix.lower() in _IMAGE_SUFFIXES:
            yield entry


def _array_batches(path: Path, taken: set[str], model_of: ModelOf, most: int) -> Iterator[ImageBatch]:
    array = _load(path)
    if array.ndim not in {2, 3, 4} or not array.size:
        raise UsageError(
            f"{path}: expected images (N, H, W), (N, H, W, C) or one image (H, W) or (H, W, C), got shape {array.shape}"
        )
    rows = array[np.newaxis] if array.ndim == 2 or _is_one_image(array, model_of) else array  # noqa: PLR2004 (H, W)
    numbers = count()
    for some in batches(rows, most):
        yield ImageBatch([_unique(f"{path.stem}-{next(numbers):05}", taken) for _ in some], some, path)


def _is_one_image(array: NDArray[Any], model_of: ModelOf) -> bool:
    """Whether three axes are (H, W, C), as the server decides it; it is asked only if they can be."""
    if array.ndim != 3 or array.shape[-1] not in {1, 3}:  # noqa: PLR2004 (H, W, C)
        return False
    model = model_of()
    height, width, channels = model.height, model.width, model.channels
    if model.sizes.multiple:
        return array.shape[-1] == channels
    batch = channels == 1 and array.shape[1:] == (height, width)
    return not batch and array.shape == (height, width, channels)


def _is_code(array: NDArray[Any], model: Model) -> bool:
    """Whether floats are spatial latents rather than images, by their channels."""
    channels = model.latent_shape[-1] if len(model.latent_shape) == _SPATIAL_AXES else model.channels
    return array.ndim > 2 and array.shape[-1] == channels != model.channels  # noqa: PLR2004 (h, w, c)


def _read_csv(path: Path) -> NDArray[Any]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            rows = [line for line in lines if line.strip()]
        if not rows:
            raise UsageError(f"{path}: expected rows of comma-separated numbers, got an empty file")
        return np.loadtxt(rows, np.float32, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected rows of comma-separated numbers: {error}") from error


def _load(path: Path) -> NDArray[Any]:
    try:
        # Mapped, so that a header cannot ask for more memory than the file has bytes.
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: expected a .npy array: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path}: expected a .npy array of numbers, got an archive")
    return cast("NDArray[Any]", loaded)


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number appended if another input already has it."""
    free = next(each for number in count(1) if (each := name if number == 1 else f"{name}-{number}") not in taken)
    taken.add(free)
    return free

"""Arrays of the user's own: one .npz or .npy file, judged by its headers before memory is asked for."""

import math
import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bundle.npz import check_entries
from training.config import Data
from training.data.pixel_range import as_images
from training.data.split import Source, Split
from training.errors import DataError

_NPY_MAGIC = b"\x93NUMPY"
# Deflate makes no more than this of a byte: an entry that claims more lies.
_DEFLATE_RATIO = 1032
# What NumPy and zipfile raise on damaged files; RuntimeError: an encrypted entry.
_UNFIT = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
# Names of images and labels, split by split: our own, those of Keras and those of MedMNIST.
_SCHEMES: tuple[Mapping[str, tuple[str, str]], ...] = (
    {"train": ("images", "labels")},
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "validation": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
)


@dataclass(frozen=True)
class _Array:
    """An array that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def read_npz(path: Path, _data: Data) -> Source:
    """The arrays `images` (N, H, W[, C]), and perhaps `labels` (N,), of a .npz file; or the one array of a .npy file.

    Raises:
        DataError: the file or an array is missing or damaged, or of an unfit shape, type or range.
    """
    with _one_sentence(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a file: --data npz needs a .npz or .npy file in --data-dir")
        with path.open("rb") as stream:
            arrays = dict(_headers(stream, path.stat().st_size))
            scheme, notes = _scheme(arrays, path)
            images = {role: arrays[name].read() for role, (name, _) in scheme.items()}
            labels = {role: arrays[name].read() for role, (_, name) in scheme.items() if name in arrays}
        images, range_notes = as_images(images, path)
    checked = {role: _checked_labels(each, len(images[role]), path) for role, each in labels.items()}
    splits = {role: Split(each, checked.get(role)) for role, each in images.items()}
    classes = _class_count(checked)
    source = Source(splits["train"], splits.get("validation"), splits.get("test"), classes, (*notes, *range_notes))
    if checked and len(checked) < len(splits):
        return source.without_labels("no labels are used: not every split has them")
    return source


def _class_count(labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """A class for each number up to the largest label."""
    largest = max((int(each.max()) for each in labels.values()), default=-1)
    return tuple(str(label) for label in range(largest + 1))


@contextmanager
def _one_sentence(path: Path) -> Generator[None]:
    """Whatever NumPy, zipfile or the system say of a file, as a `DataError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no file {path}: --data npz needs a .npz file in --data-dir") from None
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {error or 'give fewer or smaller images'}") from None
    except _UNFIT as error:
        raise DataError(f"{path} is not a .npz file of plain arrays: {error}") from None


def _headers(stream: IO[bytes], size: int) -> Iterator[tuple[str, _Array]]:
    """Name and array of each entry of a .npz file, or of the one of a .npy file, which is called `images`."""
    is_npy = stream.read(len(_NPY_MAGIC)) == _NPY_MAGIC
    stream.seek(0)
    if is_npy:
        yield "images", _array(stream, size, partial(_read_npy, stream))
        return
    archive = zipfile.ZipFile(stream)
    check_entries(archive)
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed otherwise than NumPy does")
            if info.file_size > info.compress_size * _DEFLATE_RATIO:
                raise ValueError(f"{info.filename} claims {info.file_size} bytes out of {info.compress_size}")
            with archive.open(info) as entry:
                yield (
                    info.filename.removesuffix(".npy"),
                    _array(entry, info.file_size, partial(_read_entry, archive, info)),
                )


def _array(stream: IO[bytes], size: int, read: Callable[[], np.ndarray]) -> _Array:
    """What the header of a .npy stream of `size` bytes says, if it agrees with the size."""
    version = npy.read_magic(stream)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = reader(stream)
    expected, got = dtype.itemsize * math.prod(shape), size - stream.tell()
    if expected != got and not dtype.hasobject:
        raise ValueError(f"the header says {dtype} {shape}, {expected} bytes, there are {got}")
    return _Array(shape, dtype, read)


def _read_npy(stream: IO[bytes]) -> np.ndarray:
    stream.seek(0)
    return npy.read_array(stream, allow_pickle=False)


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as entry:
        return npy.read_array(entry, allow_pickle=False)


def _scheme(arrays: Mapping[str, _Array], path: Path) -> tuple[Mapping[str, tuple[str, str]], tuple[str, ...]]:
    """The names of images and labels of each split, and notes on what was chosen."""
    for scheme in _SCHEMES:
        present = {role: names for role, names in scheme.items() if names[0] in arrays}
        if "train" in present:
            return present, ((f"the arrays of {', '.join(present)} are used as the splits",) if len(scheme) > 1 else ())
    alike = [name for name, array in arrays.items() if len(array.shape) in (3, 4) and array.dtype.kind in "biuf"]
    if len(alike) == 1:
        return {"train": (alike[0], "labels")}, (f"the array {alike[0]} is taken as the images",)
    held = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
    raise DataError(f"{path} has no array `images`: it holds {held or 'nothing'}; save the images under that name")


def _checked_labels(labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    """int64 (N,)."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    expected = f"{path}: expected {count} integer labels from 0, fewer classes than images"
    if labels.shape != (count,) or labels.dtype.kind not in "biu":
        raise DataError(f"{expected}; got {labels.dtype} of shape {labels.shape}: convert them, or leave them out")
    if labels.min() < 0 or labels.max() >= count:
        raise DataError(f"{expected}; got {labels.min()} to {labels.max()}: number the classes, or leave them out")
    return labels.astype(np.int64)

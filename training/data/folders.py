"""Images of the user's own: a folder of files, with or without class subfolders, or one .npz."""

import zipfile
from pathlib import Path

import numpy as np

from bundle.images import SUFFIXES
from training.config import Data
from training.data import image_files
from training.data.split import Split
from training.errors import DataError

_MIN_IMAGES = 10
_BYTE_MAX = 255


def read_folder(folder: Path, data: Data) -> tuple[Split, tuple[str, ...]]:
    """All images under a folder; its subfolders, where images lie in them, are the classes.

    Raises:
        DataError: not a directory, too few images, an unreadable one, or different sizes without `data.size`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory: --data folder needs one in --data-dir")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < _MIN_IMAGES:
        raise DataError(
            f"{folder} holds {len(paths)} images ({', '.join(SUFFIXES)}), at least {_MIN_IMAGES} are expected"
        )
    images, conversions = image_files.read_all(paths, data)
    _refuse_other_sizes(images, paths)
    names = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    classes = tuple(sorted(set(names)))
    if "" in classes:
        return Split(np.stack(images), None, conversions=conversions), ()
    labels = np.array([classes.index(name) for name in names], np.int64)
    return Split(np.stack(images), labels, conversions=conversions), classes


def read_npz(path: Path, _data: Data) -> tuple[Split, tuple[str, ...]]:
    """The arrays `images` (N, H, W[, C]), uint8 or float in 0 to 1, and perhaps `labels` (N,) of a .npz file.

    Raises:
        DataError: the file or an array is missing or damaged, or of an unfit shape, type or range.
    """
    arrays = _arrays(path)
    if "images" not in arrays:
        raise DataError(f"{path} has no array `images`: it holds {', '.join(arrays) or 'nothing'}")
    images = _as_bytes(arrays["images"], path)
    if len(images) < _MIN_IMAGES:
        raise DataError(f"{path} holds {len(images)} images, at least {_MIN_IMAGES} are expected")
    if "labels" not in arrays:
        return Split(images, None), ()
    labels = _checked_labels(arrays["labels"], len(images), path)
    return Split(images, labels), tuple(str(label) for label in range(labels.max() + 1))


def _refuse_other_sizes(images: list[np.ndarray], paths: list[Path]) -> None:
    first = images[0].shape
    for image, path in zip(images, paths, strict=True):
        if image.shape != first:
            sizes = f"{path} is {image.shape[1]}x{image.shape[0]}, {paths[0].name} is {first[1]}x{first[0]}"
            raise DataError(f"{sizes}: scale them all with --set data.size=N")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because numpy leaves a file that it refuses open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"no file {path}: --data npz needs a .npz file in --data-dir") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a .npz file of plain arrays: {error}") from None


def _as_bytes(images: np.ndarray, path: Path) -> np.ndarray:
    """uint8 (N, H, W, C)."""
    if images.ndim == 3:  # noqa: PLR2004 ((N, H, W))
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:  # noqa: PLR2004 ((N, H, W, C))
        raise DataError(f"{path}: expected images of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {images.shape}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"{path}: expected images of uint8 in 0 to 255 or floats in 0 to 1, got {images.dtype}")
    if not np.isfinite(images).all():
        raise DataError(f"{path}: expected float images with finite values in 0 to 1, got NaN or infinity")
    if images.min() < 0 or images.max() > 1:
        raise DataError(f"{path}: expected float images in 0 to 1, got {images.min():g} to {images.max():g}")
    return np.round(images * _BYTE_MAX).astype(np.uint8)


def _checked_labels(labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    expected = f"{path}: expected {count} integer labels from 0, fewer classes than images"
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{expected}; got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= count:
        raise DataError(f"{expected}; got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)

"""Inspect a data set before training: size, statistics, hash, and anything unusual."""

from collections.abc import Iterator

import numpy as np

from training.data.dataset import Dataset
from training.data.image_files import Conversion
from training.data.split import Split
from training.errors import DataError

_BYTE_MAX = 255
_CONVERSIONS = {
    Conversion.ROTATED: "rotated by their EXIF orientation",
    Conversion.BLENDED: "transparent (blended onto black)",
    Conversion.SCALED_FROM_16_BITS: "scaled from 16 bits",
}


def describe(dataset: Dataset) -> str:
    """Counts, shape, mean and spread of the pixels, hash, and a line for each oddity.

    Raises:
        DataError: there is nothing to learn: every training image is one flat colour.
    """
    height, width, channels = dataset.image_shape
    flat = _constant(dataset.train)
    if flat == len(dataset.train):
        raise DataError(f"{dataset.name}: all {flat} training images are of one flat colour; nothing can be learnt")
    counts = f"{len(dataset.train)} train, {len(dataset.validation)} validation, {len(dataset.test)} test"
    mean, spread = moments(dataset.train.images)
    lines = [
        f"{dataset.name}: {counts} images of {height}x{width}x{channels}, {len(dataset.classes) or 'no'} classes,",
        f"  mean {mean:.4f}, standard deviation {spread:.4f}, SHA-256 {dataset.sha256[:16]}",
    ]
    return "\n".join([*lines, *(f"  note: {note}" for note in _oddities(dataset, flat))])


def _oddities(dataset: Dataset, flat: int) -> Iterator[str]:
    """What a user may want to know, though training works."""
    if changed := _conversions(dataset):
        yield f"{changed}, as the server will do"
    if flat:
        yield f"{flat} training images are of one flat colour"
    if shared := _duplicates(dataset.train, dataset.test):
        yield f"{shared} test images are also training images: test figures flatter the model"
    if dataset.train.labels is not None:
        missing = sorted(set(range(len(dataset.classes))) - set(dataset.train.labels.tolist()))
        if missing:
            yield f"no training images of {', '.join(dataset.classes[label] for label in missing)}"


def _conversions(dataset: Dataset) -> str:
    """How many image files the rules of `bundle/images.py` changed, and how; empty if none."""
    splits = (dataset.train, dataset.validation, dataset.test)
    flags = np.concatenate(
        [split.conversions for split in splits if split.conversions is not None] or [np.empty(0, int)]
    )
    counts = {text: int(np.count_nonzero(flags & kind)) for kind, text in _CONVERSIONS.items()}
    return ", ".join(
        f"{count} image{'s were' if count > 1 else ' was'} {text}" for text, count in counts.items() if count
    )


def moments(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels, in 0 to 1; from a histogram, without a copy in floats."""
    shares = np.bincount(images.reshape(-1), minlength=_BYTE_MAX + 1) / images.size
    values = np.arange(_BYTE_MAX + 1) / _BYTE_MAX
    mean = shares @ values
    return float(mean), float(np.sqrt(shares @ (values - mean) ** 2))


def _constant(split: Split) -> int:
    """How many images are of one flat colour."""
    pixels = split.images.reshape(len(split), -1, split.images.shape[-1])
    return int((pixels.min(1) == pixels.max(1)).all(1).sum())


def _duplicates(train: Split, test: Split) -> int:
    """How many test images are training images to the byte."""
    seen = {image.tobytes() for image in train.images}
    return sum(image.tobytes() in seen for image in test.images)

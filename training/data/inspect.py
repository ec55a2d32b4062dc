"""Inspect a data set before training: size, statistics, hash, and anything unusual."""

from collections.abc import Iterator

import numpy as np

from bundle.images import element_types
from training.data.dataset import Dataset
from training.data.image_files import Conversion
from training.data.split import Split
from training.errors import DataError

_CONVERSIONS = {
    Conversion.ROTATED: "rotated by their EXIF orientation",
    Conversion.BLENDED: "transparent (blended onto black)",
    Conversion.SCALED_FROM_16_BITS: "scaled from 16 bits to 8, as data.size does",
}
_SHOWN_CLASSES = 10
# Below these the pixels were probably meant in another range, such as 0 to 1 or the numbers of classes.
_DARK_MEAN = 0.002
_DARK_VALUE = 1 / 16


def describe(dataset: Dataset) -> str:
    """Counts, shape, classes, mean and spread of the pixels, hash, a line for each note of the reader and each oddity.

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
        *_class_line(dataset.classes),
        f"  mean {mean:.4f}, standard deviation {spread:.4f}, SHA-256 {dataset.sha256[:16]}",
    ]
    return "\n".join([*lines, *(f"  note: {note}" for note in (*dataset.notes, *_oddities(dataset, flat, mean)))])


def _class_line(classes: tuple[str, ...]) -> Iterator[str]:
    """The names of the classes, or the first of many."""
    if classes:
        more = f", … and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
        yield f"  {', '.join(classes[:_SHOWN_CLASSES])}{more},"


def _oddities(dataset: Dataset, flat: int, mean: float) -> Iterator[str]:
    """What a user may want to know, though training works."""
    if changed := _conversions(dataset):
        yield f"{changed}, as the server will do"
    white = element_types.largest(dataset.train.images.dtype)
    if (largest := dataset.train.images.max()) < _DARK_VALUE * white:
        yield f"the largest pixel value is {largest:.4g} of {white}: are the images in another range?"
    elif mean < _DARK_MEAN:
        yield f"the images are almost black (mean {mean:.4f}): are they in another range?"
    if flat:
        yield f"{flat} training images are of one flat colour"
    if shared := _duplicates(dataset.train, dataset.test):
        yield f"{shared} test images are also training images: test figures flatter the model"
    if dataset.train.labels is not None:
        missing = sorted(set(range(len(dataset.classes))) - set(dataset.train.labels.tolist()))
        if missing:
            yield f"no training images of {', '.join(dataset.classes[label] for label in missing)}"


def _conversions(dataset: Dataset) -> str:
    """How many image files the rules of `bundle/images/decoder.py` changed, and how; empty if none."""
    splits = (dataset.train, dataset.validation, dataset.test)
    flags = np.concatenate(
        [split.conversions for split in splits if split.conversions is not None] or [np.empty(0, int)]
    )
    counts = {text: int(np.count_nonzero(flags & kind)) for kind, text in _CONVERSIONS.items()}
    return ", ".join(
        f"{count} image{'s were' if count > 1 else ' was'} {text}" for text, count in counts.items() if count
    )


def moments(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of pixels, in 0 to 1; of integers from a histogram, without a copy in floats."""
    if images.dtype.kind == "f":
        return float(images.mean(dtype=np.float64)), float(images.std(dtype=np.float64))
    largest = element_types.largest(images.dtype)
    shares = np.bincount(images.reshape(-1), minlength=largest + 1) / images.size
    values = np.arange(largest + 1) / largest
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

"""Images with their labels, and the splits that a source has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.errors import DataError

MIN_IMAGES = 10
# Of which squares are cut: one for each split.
MIN_PICTURES = 3


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C), uint8, uint16 or float32; where known, labels int64 (N,) and positions (N,) in their source.

    Images of unlike sizes, until they are cropped, are an array (N,) of arrays (H, W, C).
    """

    images: np.ndarray
    labels: np.ndarray | None
    positions: np.ndarray | None = None
    conversions: np.ndarray | None = None
    """For images read from files: what their reader changed, as `image_files.Conversion`, uint8 (N,)."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "Split":
        """The chosen rows."""
        others = (self.labels, self.positions, self.conversions)
        return Split(self.images[rows], *(None if each is None else each[rows] for each in others))


@dataclass(frozen=True)
class Source:
    """Training images, and validation and test images where the source has its own."""

    train: Split
    validation: Split | None = None
    test: Split | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def check(self, where: object, least: int = MIN_IMAGES) -> "Source":
        """Itself, without labels that separate nothing.

        Raises:
            DataError: too few training images.
        """
        if len(self.train) < least:
            raise DataError(f"{where} holds {len(self.train)} images, at least {least} are expected")
        labels = self.train.labels
        if labels is None or len(np.unique(labels)) > 1:
            return self
        name = f"class {self.classes[labels[0]]}, which separates nothing"
        return self.without_labels(f"all training images are of {name}: they are treated as unlabelled")

    def without_labels(self, *notes: str) -> "Source":
        """The same images without classes, and why."""
        validation, test = (
            None if split is None else replace(split, labels=None) for split in (self.validation, self.test)
        )
        return Source(replace(self.train, labels=None), validation, test, (), (*self.notes, *notes))


def ragged(images: Sequence[np.ndarray]) -> np.ndarray:
    """An array (N,) of images of unlike sizes."""
    held = np.empty(len(images), object)
    held[:] = images
    return held


def refuse_smaller(image: np.ndarray, name: object, side: int, unit: str = "image") -> None:
    """Refuse an image (H, W, C) out of which no square of `side` pixels can be cut; `unit` is what to leave out then.

    Raises:
        DataError: it is smaller than that.
    """
    height, width = image.shape[:2]
    if min(height, width) < side:
        got = f"{name} is {height}x{width} (height, width)"
        raise DataError(f"data.crop={side} is larger than an image ({got}): lower it, or leave the {unit} out")

"""What anomaly detection is calibrated on and judged by; one class of a labelled data set as the normal one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bundle.images import element_types
from training.data.split import Split
from training.errors import DataError


@dataclass(frozen=True, eq=False)
class Inspection:
    """Whole images (N, H, W, C), also where training takes crops of them."""

    calibration: np.ndarray
    """(N, H, W, C): normal images that are not trained on."""
    test: np.ndarray | None = None
    """(M, H, W, C)."""
    defective: np.ndarray | None = None
    """(M,) bool, where that is known."""
    kinds: tuple[str, ...] = ()
    """What each test image shows, by name, M or none."""
    masks: np.ndarray | None = None
    """(M, H, W) bool: the pixels of defects, where they are known."""

    def in_bytes(self) -> "Inspection":
        """The same with every image rounded to 8 bits."""
        test = None if self.test is None else element_types.rounded(self.test)
        return replace(self, calibration=element_types.rounded(self.calibration), test=test)

    def arrays(self) -> list[np.ndarray]:
        """Those that are there, for a hash."""
        return [each for each in (self.calibration, self.test, self.defective, self.masks) if each is not None]


def select(splits: Sequence[Split], classes: tuple[str, ...], normal: str) -> tuple[list[Split], Inspection]:
    """The normal images of training, validation and test split, without labels, and all test images to judge by.

    Raises:
        DataError: there is no such class, or a split has none of its images, or the test split has no others.
    """
    if normal not in classes or any(split.labels is None for split in splits):
        known = f"one of {', '.join(classes)}" if classes else "images with labels"
        raise DataError(f"data.normal: expected {known}, got {normal!r}")
    label = classes.index(normal)
    chosen: list[Split] = []
    for split, what in zip(splits, ("train on", "calibrate on", "test with"), strict=True):
        rows = np.flatnonzero(np.asarray(split.labels) == label)
        if not len(rows):
            raise DataError(f"data.normal: no image of {normal} is left to {what}: add some")
        taken = split.take(rows)
        chosen.append(Split(taken.images, None, taken.positions, taken.conversions))
    test = splits[2]
    labels = np.asarray(test.labels)
    check_both(labels != label, "the test split")
    kinds = tuple(classes[each] for each in labels)
    return chosen, Inspection(chosen[1].images, test.images, labels != label, kinds)


def check_both(defective: np.ndarray, where: object) -> None:
    """Refuse test images that are all normal or all defective: no rate of either error could be told from them.

    Raises:
        DataError: they are.
    """
    if defective.all() or not defective.any():
        missing, there = ("normal", "defective") if defective.all() else ("defective", "normal")
        raise DataError(
            f"{where} holds {len(defective)} {there} images and no {missing} ones: detection is judged by both, add "
            f"{missing} images or leave the test images out"
        )


def one_size(images: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Images (H, W, C) as one array (N, H, W, C).

    Raises:
        DataError: they differ in size, so that no threshold would hold for all of them.
    """
    for image, name in zip(images, names, strict=True):
        if image.shape != images[0].shape:
            sizes = ["x".join(map(str, each.shape)) for each in (image, images[0])]
            raise DataError(
                f"{name} is {sizes[0]}, {names[0]} is {sizes[1]} (height, width, channels): detection is calibrated on "
                "images of one size, scale them all with --set data.size=N"
            )
    return np.stack(images)

"""Data sets as uint8 arrays in memory: digits and MNIST, validated, split once and for all."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from training import idx
from training.config import Data
from training.errors import DataError

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and, where there are any, labels int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "Split":
        """The chosen rows."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True)
class Dataset:
    """Training, validation (for every choice made on the way) and test images of one source."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @cached_property
    def sha256(self) -> str:
        """Of every image and label with its shape, split by split."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in (split.images, split.labels):
                if array is not None:
                    digest.update(f"{array.shape}{array.dtype}".encode())
                    digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def load(data: Data) -> Dataset:
    """Reads and validates the data set that the settings name.

    Raises:
        DataError: the data are missing, damaged or unfit.
    """
    if data.kind == "digits":
        return digits()
    if data.kind == "mnist":
        return mnist(_folder(data))
    raise DataError(f"no data set {data.kind!r}: give digits or mnist")


def digits() -> Dataset:
    """The 1,797 8x8 digits that come with scikit-learn, scaled to 28x28: 1,350 train, 150 validation, 297 test."""
    bunch = load_digits()
    images = np.stack([_enlarged(image) for image in bunch.images])
    everything = Split(images[..., np.newaxis], bunch.target.astype(np.int64))
    rest, test = hold_out(everything, 297)
    train, validation = hold_out(rest, 150)
    return Dataset("digits", train, validation, test, DIGITS)


def mnist(folder: Path) -> Dataset:
    """MNIST (LeCun et al. 1998): 55,000 train, 5,000 validation out of the training files, 10,000 test."""
    everything = Split(*idx.read_pair(folder, "train", idx.MNIST_SHA256))
    train, validation = hold_out(everything, 5_000)
    return Dataset("mnist", train, validation, Split(*idx.read_pair(folder, "t10k", idx.MNIST_SHA256)), DIGITS)


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Parts `count` rows from the others: the same rows on every call, so that no run's seed moves a test image."""
    order = np.random.default_rng(0).permutation(len(split))
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def _folder(data: Data) -> Path:
    if not data.folder:
        raise DataError(f"{data.kind} wants the folder of its files: give --data-dir DIR")
    return Path(data.folder)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """(8, 8) values 0 to 16 to (28, 28) uint8, with a margin of 2 that keeps strokes off the edge."""
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return np.pad(np.asarray(grey.resize((24, 24), Image.Resampling.BICUBIC)), 2)

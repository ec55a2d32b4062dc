"""Data sets as arrays in memory, uint8, uint16 or float32: bundled, IDX files, folders, arrays; split for good."""

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from bundle.images import element_types
from training.config import Data
from training.data import download, idx
from training.data.arrays import read_npz
from training.data.defects import folder as inspected
from training.data.defects import textures
from training.data.defects.inspection import Inspection, select
from training.data.folders import read_folder
from training.data.idx_sets import read_idx
from training.data.kinds import KINDS
from training.data.photos.bundled import read_bundled
from training.data.photos.crops import Pictures, side_by_side
from training.data.photos.pairs import read_pairs
from training.data.split import MIN_IMAGES, MIN_PICTURES, Source, Split
from training.errors import DataError

_DIGITS = tuple("0123456789")
_GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CLASSES = {"mnist": _DIGITS, "fashion-mnist": _GARMENTS}
_READERS = {"folder": read_folder, "pairs": read_pairs, "npz": read_npz, "idx": read_idx}
# Kinds that need no files.
_BUNDLED = {
    "digits": "digits come with scikit-learn",
    "photographs": "photographs come with scikit-image",
    "textures": "textures come with scikit-image",
}


@dataclass(frozen=True)
class Dataset:
    """Training, validation (for every choice made on the way) and test images of one source."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    source_count: int = 0
    """Images in the source out of which the training images were taken."""
    notes: tuple[str, ...] = ()
    """What its reader left out, changed or took for what."""
    paired: bool = False
    """Whether images are clean ones with noisy ones behind them, in twice the channels."""
    pictures: Pictures | None = None
    """What random crops are taken from, where images are cropped; the splits are then squares side by side."""
    inspection: Inspection | None = None
    """What anomaly detection is calibrated on and judged by, where `data.normal` says what is normal."""

    @property
    def float_images(self) -> bool:
        """Whether images are finer than 8 bits, so that graphs of a network must not round them to bytes."""
        return self.train.images[0].dtype != np.uint8

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C), of one image of a pair."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels // 2 if self.paired else channels

    def in_bytes(self) -> "Dataset":
        """The same with every image rounded to 8 bits."""
        splits = {
            name: dataclasses.replace(split, images=element_types.rounded(split.images))
            for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }
        pictures, inspection = self.pictures, self.inspection
        if pictures is not None:
            pictures = dataclasses.replace(pictures, images=[*map(element_types.rounded, pictures.images)])
        if inspection is not None:
            inspection = inspection.in_bytes()
        return dataclasses.replace(self, **splits, pictures=pictures, inspection=inspection)

    @cached_property
    def sha256(self) -> str:
        """Of every image and label with its shape, split by split."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in (split.images, split.labels):
                if array is not None:
                    digest.update(f"{array.shape}{array.dtype}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        for image in self.pictures.images if self.pictures else ():
            digest.update(f"{image.shape}{image.dtype}".encode())
            digest.update(np.ascontiguousarray(image).data)
        for array in self.inspection.arrays() if self.inspection else ():
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(data: Data) -> Dataset:
    """Read and validate the data set that the settings name.

    Raises:
        DataError: the data are missing, damaged or unfit.
    """
    if data.normal and data.kind == "folder":
        found = _inspected_folder(data)
    elif data.kind == "textures":
        found = _textures(data)
    else:
        found = _whole(data)
        found = _one_class(found, data.normal) if data.normal else found
    return _cropped(found, data) if data.crop else found


def _one_class(found: Dataset, normal: str) -> Dataset:
    """The images of one class for training; those of the others to be told from it."""
    (train, validation, test), inspection = select([found.train, found.validation, found.test], found.classes, normal)
    note = f"{normal} is normal: {len(train)} of {len(found.train)} training images are"
    notes = (*found.notes, note)
    return Dataset(
        f"{found.name}-{normal}", train, validation, test, (), found.source_count, notes, inspection=inspection
    )


def _inspected_folder(data: Data) -> Dataset:
    read = inspected.read(_path(data), data)
    source = len(read.train) + len(read.validation)
    return Dataset("folder", read.train, read.validation, read.test, (), source, read.notes, inspection=read.inspection)


def _textures(data: Data) -> Dataset:
    """One of scikit-image's textures: 200 training images, 1,000 for calibration, 300 for the test."""
    if data.folder:
        raise DataError(f"{_BUNDLED[data.kind]} and need no files: give --data of {data.folder}")
    texture = data.normal or textures.TEXTURES[0]
    (train, validation, test), inspection = textures.splits(texture)
    note = f"{texture} is normal; a third of the texture is in no training image"
    return Dataset(f"textures-{texture}", train, validation, test, (), len(train), (note,), inspection=inspection)


def _whole(data: Data) -> Dataset:
    """The data set as its reader gives it."""
    if data.download is not None:
        download.fetch(data.kind, _path(data) if data.kind in idx.CHECKSUMS else Path(), data.download)
    if data.kind in _BUNDLED and data.folder:
        raise DataError(f"{_BUNDLED[data.kind]} and need no files: give --data of {data.folder}")
    if data.kind == "digits":
        return digits()
    if data.kind == "photographs":
        if not (data.crop or data.size):
            raise DataError("photographs differ in size: train on squares of them with --set data.crop=64")
        return _split(data.kind, read_bundled(data))
    if data.kind in idx.CHECKSUMS:
        return _idx_files(data.kind, _path(data))
    if data.kind in _READERS:
        source = _READERS[data.kind](_path(data), data)
        found = _split(data.kind, source.check(data.folder, MIN_PICTURES if data.crop else MIN_IMAGES))
        return dataclasses.replace(found, paired=data.kind == "pairs")
    raise DataError(f"no data set {data.kind!r}: give one of {', '.join(KINDS)}")


def _cropped(found: Dataset, data: Data) -> Dataset:
    """Squares of `data.crop` pixels in place of whole images.

    Raises:
        DataError: an image is smaller, or there are too few squares.
    """
    train, owners = side_by_side(found.train, data.crop)
    validation, test = (side_by_side(split, data.crop)[0] for split in (found.validation, found.test))
    if len(train) < MIN_IMAGES:
        raise DataError(
            f"{len(found.train)} training images hold {len(train)} squares of data.crop={data.crop}, at least "
            f"{MIN_IMAGES} are expected: lower data.crop"
        )
    counts = ", ".join(f"{len(split)}" for split in (found.train, found.validation, found.test))
    note = f"squares of {data.crop}x{data.crop} out of {counts} images; training takes them at random places"
    pictures = Pictures(list(found.train.images), owners, data.crop, data.flips)
    return dataclasses.replace(
        found, train=train, validation=validation, test=test, notes=(*found.notes, note), pictures=pictures
    )


def digits() -> Dataset:
    """The 1,797 8x8 digits that come with scikit-learn, scaled to 28x28: 1,350 train, 150 validation, 297 test."""
    bunch = cast("Any", load_digits())
    images = np.stack([_enlarged(image) for image in bunch.images])
    everything = Split(images[..., np.newaxis], bunch.target.astype(np.int64))
    rest, test = hold_out(everything, 297)
    train, validation = hold_out(rest, 150)
    return Dataset("digits", train, validation, test, _DIGITS, len(everything))


def _idx_files(kind: str, folder: Path) -> Dataset:
    """MNIST (LeCun et al. 1998) or Fashion-MNIST (Xiao et al. 2017): 55,000 train, 5,000 validation, 10,000 test."""
    everything = Split(*idx.read_pair(folder, "train", idx.CHECKSUMS[kind]))
    train, validation = hold_out(everything, len(everything) // 12)
    test = Split(*idx.read_pair(folder, "t10k", idx.CHECKSUMS[kind]))
    return Dataset(kind, train, validation, test, _CLASSES[kind], len(everything))


def _split(name: str, source: Source) -> Dataset:
    """A split that the source does not have is a tenth of its training images."""
    train, share = source.train, max(1, len(source.train) // 10)
    test, validation = source.test, source.validation
    if test is None:
        train, test = hold_out(train, share)
    if validation is None:
        train, validation = hold_out(train, share)
    if train.positions is None:
        train = dataclasses.replace(train, positions=np.arange(len(train)))
    _refuse_other_shapes(train, validation, test)
    return Dataset(name, train, validation, test, source.classes, len(source.train), source.notes)


def _refuse_other_shapes(train: Split, *others: Split) -> None:
    for split in others:
        if split.images.shape[1:] != train.images.shape[1:]:
            shapes = f"{train.images.shape[1:]} for training, {split.images.shape[1:]} for validation or test"
            raise DataError(f"expected images of one shape in all splits, got {shapes}")


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Split `count` rows from the others: the same rows on every call, so that no run's seed moves a test image."""
    if split.positions is None:
        split = dataclasses.replace(split, positions=np.arange(len(split)))
    order = np.random.default_rng(0).permutation(len(split))
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def _path(data: Data) -> Path:
    if not data.folder:
        raise DataError(f"{data.kind} needs the location of its files: give --data-dir DIR")
    return Path(data.folder)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """(8, 8) values 0 to 16 to (28, 28) uint8, with a margin of 2 that keeps strokes off the edge."""
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return np.pad(np.asarray(grey.resize((24, 24), Image.Resampling.BICUBIC)), 2)

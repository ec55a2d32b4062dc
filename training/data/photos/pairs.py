"""Pairs of photographs with real noise: the files below `noisy/` and those of equal names below `clean/`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle.images.decoder import SUFFIXES
from training.config import Data
from training.data import folder_layout, image_files, image_paths
from training.data.split import Source, Split, ragged, refuse_smaller
from training.errors import DataError

FOLDERS = ("noisy", "clean")


def find(folder: Path) -> list[tuple[Path, Path]]:
    """The noisy and the clean file of each pair, in the order of their names; suffixes may differ.

    Raises:
        DataError: a folder is missing or empty, or a file has no partner.
    """
    if not all((folder / name).is_dir() for name in FOLDERS):
        raise DataError(f"{folder}: expected the folders noisy and clean in it, with files of equal names")
    noisy, clean = (_by_name(folder / name) for name in FOLDERS)
    for ours, theirs, other in ((noisy, clean, "clean"), (clean, noisy, "noisy")):
        if alone := sorted(ours.keys() - theirs.keys()):
            more = f", nor have {len(alone) - 1} others" if len(alone) > 1 else ""
            raise DataError(f"{ours[alone[0]]} has no file of its name in {folder / other}{more}: add or remove it")
    if not noisy:
        raise DataError(f"{folder / 'noisy'} holds no images ({', '.join(SUFFIXES)})")
    return [(noisy[name], clean[name]) for name in sorted(noisy)]


def read_pairs(folder: Path, data: Data) -> Source:
    """Pairs as images of twice the channels, the clean ones first; `train`, `val` and `test` below both are the splits.

    Raises:
        DataError: as `find`; a file cannot be read; the sizes of a pair differ, or without `data.crop` those of two.
    """
    found = find(folder)
    layout = folder_layout.lay_out([clean.relative_to(folder / "clean") for _, clean in found])
    images, conversions = image_files.read_all([each for pair in zip(*found, strict=True) for each in pair], data)
    noisy, clean = images[: len(found)], images[len(found) :]
    for paths, seen, wanted in zip(found, noisy, clean, strict=True):
        check_sizes(paths[0], seen, paths[1], wanted)
    stacked = [np.concatenate(each, 2) for each in zip(clean, noisy, strict=True)]
    everything = Split(_held(stacked, [path for _, path in found], data), None, conversions=conversions[len(found) :])
    splits = (everything.take(layout.rows[role]) if role in layout.rows else None for role in folder_layout.SPLITS)
    train, validation, test = splits
    return Source(train or everything, validation, test, (), (f"{len(found)} pairs of noisy and clean images",))


def check_sizes(noisy: Path, noisy_image: np.ndarray, clean: Path, clean_image: np.ndarray) -> None:
    """Refuse a pair of unlike sizes.

    Raises:
        DataError: they differ.
    """
    if noisy_image.shape != clean_image.shape:
        got, expected = ("x".join(map(str, each.shape[:2])) for each in (noisy_image, clean_image))
        raise DataError(f"{noisy} is {got} (height, width), {clean} is {expected}: expected pairs of one size")


def _by_name(folder: Path) -> dict[str, Path]:
    """The images below a folder by their paths in it, without suffix."""
    named: dict[str, Path] = {}
    for path in image_paths.find(folder, SUFFIXES).paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{named[name]} and {path} are the same of a pair: remove one of them")
        named[name] = path
    return named


def _held(images: Sequence[np.ndarray], paths: Sequence[Path], data: Data) -> np.ndarray:
    """The images in one array, all of one size or all at least of a crop's."""
    for image, path in zip(images, paths, strict=True):
        refuse_smaller(image, path, data.crop, "pair")
        if not data.crop and image.shape != images[0].shape:
            raise DataError(f"{path} and {paths[0]} differ in size: train on parts of them with --set data.crop=N")
    return ragged(images) if data.crop else np.stack(images)

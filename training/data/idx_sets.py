"""Find IDX files of any name: one's own, KMNIST, EMNIST and what else keeps to the format of MNIST."""

import os
import re
import stat
from pathlib import Path

from training.data import idx, image_paths
from training.data.idx import Pair
from training.data.pixel_range import BINARY_NOTE, BYTE_MAX, binary
from training.data.split import Source, Split
from training.errors import DataError

_IMAGES = re.compile(r"(?P<stem>.*?)-?images[-.]idx3-ubyte(\.gz)?")
_SPLIT = re.compile(r"(?P<set>.*?)-?(?P<split>train|t10k|test)?")


def find(path: Path) -> dict[str, dict[str, Path]]:
    """The files of images by data set and split (`train`, `test` or empty), in a folder, its `raw` or `*/raw`.

    Raises:
        DataError: there is no such path, or it cannot be looked at.
    """
    if stat.S_ISREG(image_paths.look(path).st_mode):
        chosen = _set_of(path)
        return {name: files for name, files in find(path.parent).items() if (name,) == chosen[:1]}
    found: dict[str, dict[str, Path]] = {}
    for place in (path, path / "raw", *(path / name / "raw" for name in _names(path))):
        for file in _files(place):
            if named := _set_of(file):
                found.setdefault(named[0], {}).setdefault(named[1], file)
        if found:
            break
    return found


def read_idx(path: Path, _data: object) -> Source:
    """The IDX files of a folder, or those that belong to a file of images.

    Raises:
        DataError: no such files, those of several data sets, or an unfit one.
    """
    sets = find(path)
    if not sets:
        raise DataError(f"{path} holds no file of images such as train-images-idx3-ubyte or -images-idx3-ubyte.gz")
    if len(sets) > 1:
        one = next(iter(next(iter(sets.values())).values()))
        names = ", ".join(name or "no prefix" for name in sets)
        raise DataError(f"{path} holds several data sets ({names}): give one's images, such as --data-dir {one}")
    files = next(iter(sets.values()))
    splits = {split: Split(*idx.read_files(_pair(images))) for split, images in files.items()}
    return _source(splits, path)


def _source(splits: dict[str, Split], path: Path) -> Source:
    notes = []
    if binary(*(split.images for split in splits.values())):
        splits = {name: Split(split.images * BYTE_MAX, split.labels) for name, split in splits.items()}
        notes.append(BINARY_NOTE)
    train = splits.get("train") or splits.get("") or splits["test"]
    test = splits.get("test") if "train" in splits else None
    used = [split for split in (train, test) if split is not None]
    known = [split.labels for split in used if split.labels is not None]
    classes = tuple(str(label) for label in range(max((int(each.max()) for each in known), default=-1) + 1))
    source = Source(train, None, test, classes, tuple(notes))
    if len(known) < len(used):
        return source.without_labels(f"no labels are used: {path} has no -labels-idx1-ubyte for all images")
    return source


def _files(place: Path) -> list[Path]:
    """Regular files of a folder, and of folders that are named like the one file in them, as Kaggle unpacks."""
    return [path for name in _names(place) for path in (place / name, place / name / name) if idx.is_file(path)]


def _names(place: Path) -> list[str]:
    try:
        return sorted(os.listdir(place))  # noqa: PTH208 (names alone)
    except OSError:
        return []


def _set_of(path: Path) -> tuple[str, str] | tuple[()]:
    """The data set and the split by the name of a file of images: `emnist-letters`, `test`; nothing for another."""
    matched = _IMAGES.fullmatch(path.name)
    split = _SPLIT.fullmatch(matched["stem"]) if matched else None
    return (split["set"], (split["split"] or "").replace("t10k", "test")) if split else ()


def _pair(images: Path) -> Pair:
    """With the file of labels that lies beside the images, plain or gzip, named with a dot or a hyphen."""
    stem = _IMAGES.fullmatch(images.name)["stem"]  # pyright: ignore[reportOptionalSubscript] (it was found by it)
    start = f"{stem}-labels" if stem else "labels"
    for name in (f"{start}{mark}idx1-ubyte{suffix}" for mark in "-." for suffix in ("", ".gz")):
        for folder in (images.parent, images.parent.parent / name):
            if idx.is_file(folder / name):
                return Pair(images, folder / name)
    return Pair(images, None)

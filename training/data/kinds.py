"""Kinds of data sets; infer the kind of a data set from what lies in its place, where `--data` does not say it."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

from training.data import idx, idx_sets, image_paths
from training.data.folders import SUFFIXES
from training.data.photos import pairs
from training.errors import DataError

KINDS = ("digits", "photographs", "textures", *idx.CHECKSUMS, "folder", "pairs", "npz", "idx")
_ARRAYS = (".npz", ".npy")
# The smallest file of the four tells whose they are.
_TELLING = "t10k-labels-idx1-ubyte"


def resolve(kind: str | None, place: Path | None) -> str | None:
    """The kind that was given; else that of the place, which is logged; None where neither was given.

    Raises:
        DataError: there is nothing in the place, or what is there is of no kind or of several.
    """
    if kind or place is None:
        return kind
    found = list(_kinds(place))
    if len(found) != 1:
        held = (
            f"could be {' or '.join(found)}" if found else "neither has images or IDX files nor is a .npz or .npy file"
        )
        raise DataError(f"cannot tell what {place} is, it {held}: give its kind with --data")
    logging.getLogger(__name__).info("%s is read as --data %s", place, found[0])
    return found[0]


def _kinds(place: Path) -> Iterator[str]:
    if sets := idx_sets.find(place):
        yield _idx_kind(place) if set(sets) == {""} else "idx"
    if not stat.S_ISDIR(image_paths.look(place).st_mode):
        if place.suffix.lower() in _ARRAYS:
            yield "npz"
    elif image_paths.find(place, SUFFIXES).paths:
        below = {path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")}
        yield "pairs" if below == set(pairs.FOLDERS) else "folder"


def _idx_kind(place: Path) -> str:
    """`mnist` or `fashion-mnist` if the files are theirs by a checksum, else `idx`."""
    for kind, checksums in idx.CHECKSUMS.items():
        try:
            path = idx.locate(place, _TELLING, checksums)
            idx.check(path, _TELLING, checksums)
        except DataError:
            continue
        if checksums.sha256 or path.suffix == ".gz":
            return kind
    return "idx"

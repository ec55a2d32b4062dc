"""Folders of normal and defective images: `train`, `val`, `test`, a subfolder for each kind, masks beside them.

As in MVTec AD (Bergmann et al. 2019): `train/good`, `test/good`, `test/KIND`, `ground_truth/KIND/NAME_mask.png`.
Without these folders, one of normal images and one for each kind of defect, or normal images alone.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from bundle.images.decoder import SUFFIXES
from training.config import Data
from training.data import folder_layout, image_files, image_paths
from training.data.defects import masks
from training.data.defects.inspection import Inspection, check_both, one_size
from training.data.split import MIN_PICTURES, Split, ragged, refuse_smaller
from training.errors import DataError

_GROUND_TRUTH = "ground_truth"
# Of the normal images, where there is no folder for them.
_CALIBRATION, _TEST = 5, 10


@dataclass(frozen=True)
class Inspected:
    """Normal images, ragged where they are cropped, and what detection is calibrated on and judged by."""

    train: Split
    validation: Split
    test: Split
    inspection: Inspection
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Files:
    """Paths of the images of each role; of the test images also what they show, where that is known."""

    train: list[Path]
    calibration: list[Path]
    test: list[Path]
    kinds: tuple[str, ...]
    notes: tuple[str, ...]


def read(folder: Path, data: Data) -> Inspected:
    """The images under a folder whose normal ones lie in subfolders called `data.normal`.

    Raises:
        DataError: no normal images to train on or to calibrate on, test images of one sort alone, images of different
            sizes or smaller than a crop, or masks that do not fit.
    """
    found = image_paths.find(folder, SUFFIXES)
    truth = Path(data.masks) if data.masks else folder / _GROUND_TRUTH
    masked = truth, folder / _GROUND_TRUTH
    paths = [path for path in found.paths if not any(map(path.is_relative_to, masked))]
    files = _arranged(folder, paths, data)
    roles = files.train, files.calibration, files.test
    images, conversions = image_files.read_all([path for each in roles for path in each], data)
    ends = [0, *accumulate(map(len, roles))]
    train, calibration, test = ((images[first:last], conversions[first:last]) for first, last in pairwise(ends))
    named = [*zip(train[0], files.train, strict=True), *zip(calibration[0], files.calibration, strict=True)]
    for image, path in [*named, *zip(test[0], files.test, strict=True)]:
        refuse_smaller(image, path, data.crop)
    whole = one_size(calibration[0], files.calibration)
    tested = one_size([*test[0], whole[0]], [*files.test, files.calibration[0]])[:-1] if test[0] else whole[:0]
    defective = np.array([kind != data.normal for kind in files.kinds], bool)
    judged = Inspection(whole)
    notes = (*found.notes(), *files.notes)
    if files.kinds:
        check_both(defective, folder)
        there = data.masks or truth.is_dir()
        known = masks.read(truth, files.test, files.kinds, data, tested.shape[1:3]) if there else None
        judged = Inspection(whole, tested, defective, files.kinds, known)
        notes = notes if there else (*notes, f"no masks: {truth} is not a directory; defects are not located")
    elif len(tested):
        judged = Inspection(whole, tested)
    normal = tested[~defective] if files.kinds else tested
    splits = _splits(train, calibration, normal, cropped=bool(data.crop))
    return Inspected(*splits, judged, notes)


def _splits(
    train: tuple[list[np.ndarray], np.ndarray],
    calibration: tuple[list[np.ndarray], np.ndarray],
    normal: np.ndarray,
    *,
    cropped: bool,
) -> tuple[Split, Split, Split]:
    """Training, validation and test split of normal images; without test images, those of calibration once more."""
    hold = ragged if cropped else np.stack
    later = Split(hold(calibration[0]), None, conversions=calibration[1])
    return (
        Split(hold(train[0]), None, np.arange(len(train[0])), train[1]),
        later,
        Split(hold(list(normal)), None) if len(normal) else later,
    )


def _arranged(folder: Path, paths: list[Path], data: Data) -> _Files:
    """Which image is for what."""
    parts = [path.relative_to(folder).parts[:-1] for path in paths]
    roles = folder_layout.split_folders({each[0] if each else "" for each in parts})
    role_of = {top: role for role, top in roles.items()}
    roled: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    kinds: dict[Path, str] = {}
    for path, each in zip(paths, parts, strict=True):
        inner = each[1:] if roles else each
        kinds[path] = inner[0] if inner else ""
        roled[role_of[each[0]] if roles else "train"].append(path)
    _refuse_other_names(folder, [kinds[path] for path in roled["train"]], data.normal)
    normal, others = (
        [path for path in roled["train"] if (kinds[path] in ("", data.normal)) == wanted] for wanted in (True, False)
    )
    validation = [path for path in roled["validation"] if kinds[path] in ("", data.normal)]
    notes: list[str] = []
    order = [normal[row] for row in np.random.default_rng(0).permutation(len(normal))]
    test = roled["test"]
    if roles and others:
        notes.append(f"{len(others)} images of train are not {data.normal}: they are left out")
    elif others:
        count = max(1, len(order) // _TEST)
        test, order = [*sorted(order[:count]), *others], order[count:]
        notes.append(f"no test folder: {count} normal images and all others are for the test")
    if not validation:
        count = len(order) // _CALIBRATION
        validation, order = order[:count], order[count:]
        notes.append(f"no val folder: {count} normal images are for calibration")
    if not validation or len(order) < MIN_PICTURES:
        raise DataError(
            f"{folder} holds {len(normal)} normal images: {len(order)} are left to train on and {len(validation)} for "
            f"calibration, expected at least {MIN_PICTURES} and 1; add normal images (in val for calibration alone)"
        )
    shown = _shown(test, kinds, notes)
    return _Files(sorted(order), sorted(validation), test, shown, tuple(notes))


def _shown(test: list[Path], kinds: dict[Path, str], notes: list[str]) -> tuple[str, ...]:
    """What each test image shows; nothing where no subfolder says it.

    Raises:
        DataError: subfolders say it of some images.
    """
    shown = tuple(kinds[path] for path in test)
    if "" not in shown:
        return shown
    if any(shown):
        loose = test[shown.index("")]
        raise DataError(f"{loose} is in no subfolder that says what it shows, others are: move it into one")
    notes.append("the test images are in no subfolders that say what they show: nothing is judged by them")
    return ()


def _refuse_other_names(folder: Path, kinds: list[str], normal: str) -> None:
    names = sorted(set(kinds))
    if normal not in names and names not in ([], [""]):
        raise DataError(
            f"{folder} has no normal images: expected a folder {normal}, or train/{normal}, got "
            f"{', '.join(names[:5])}; give its name with --set data.normal=NAME, or one of them as --data-dir"
        )

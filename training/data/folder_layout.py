"""What subfolders mean: the splits `train`, `val` and `test`, and classes by name."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from training.errors import DataError

SPLITS = ("train", "validation", "test")
_ROLES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Layout:
    """Rows of each split that there are folders of; labels (N,) of all rows and names of classes, if any."""

    rows: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def lay_out(paths: Sequence[PurePath]) -> Layout:
    """Read the paths of images, relative to the data set's folder.

    Raises:
        DataError: two folders are for the same split.
    """
    folders = [path.parts[:-1] for path in paths]
    roles = split_folders({parts[0] if parts else "" for parts in folders})
    notes = list(_split_notes(roles, {parts[0] for parts in folders if parts}))
    inner = [parts[1:] for parts in folders] if roles else folders
    names = [parts[0] if parts else "" for parts in inner]
    rows = {
        role: np.array([number for number, parts in enumerate(folders) if parts[0] == top], np.int64)
        for role, top in roles.items()
    }
    if "" in names:
        if any(names):
            outside = names.count("")
            first = paths[names.index("")]
            notes.append(f"no labels are used: {outside} images are in no class subfolder ({_printable(str(first))})")
        return Layout(rows, None, (), tuple(notes))
    known = sorted(set(names))
    if len(known) == 1 and any(len(parts) > 1 for parts in inner):
        notes.append(f"{_printable(known[0])} has subfolders: if they are the classes, give it as --data-dir")
    labels = np.array([known.index(name) for name in names], np.int64)
    return Layout(rows, labels, class_names(known), tuple(notes))


def class_of_each(paths: Sequence[PurePath]) -> list[str]:
    """The class of each image by its path; all of them "" where folders are no classes."""
    try:
        found = lay_out(paths)
    except DataError:
        return [""] * len(paths)
    return [""] * len(paths) if found.labels is None else [found.classes[label] for label in found.labels]


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    r"""Printable names, as different as the ones given: they go into plots, JSON and metrics.

    Bytes of a file name that are not UTF-8, and control characters, become escapes such as `\xfc`.
    """
    printable: list[str] = []
    for name in names:
        text, number = _printable(name), 1
        while text in printable or (text != name and text in names):
            number += 1
            text = f"{_printable(name)} ({number})"
        printable.append(text)
    return tuple(printable)


def _printable(name: str) -> str:
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in _UNPRINTABLE else each for each in text
    )


def split_folders(tops: set[str]) -> dict[str, str]:
    """The folder of each split; empty if the folders are something else."""
    if not all(top.casefold() in _ROLES for top in tops):
        return {}
    found: dict[str, str] = {}
    for top in sorted(tops):
        role = _ROLES[top.casefold()]
        if role in found:
            raise DataError(f"{found[role]} and {top} are both for the {role} images: leave one of them")
        found[role] = top
    return found if "train" in found else {}


def _split_notes(roles: dict[str, str], tops: set[str]) -> Iterator[str]:
    if roles:
        yield "the folders " + ", ".join(f"{top} ({role})" for role, top in roles.items()) + " are used as the splits"
        if missing := [role for role in SPLITS if role not in roles]:
            yield f"there are no {' and '.join(missing)} images: a tenth of {roles['train']} each"
        return
    if alike := sorted(top for top in tops if top.casefold() in _ROLES):
        others = sorted(map(_printable, tops - set(alike)))
        beside = f", because there are also images in {', '.join(others[:3])}" if others else ""
        yield f"{', '.join(alike)} are taken as classes, not as splits{beside}"

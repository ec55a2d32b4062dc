"""Images of the user's own in a folder, with or without subfolders for splits and classes."""

from pathlib import Path

import numpy as np

from bundle.images.decoder import SUFFIXES
from training.config import Data
from training.data import folder_layout, image_files, image_paths
from training.data.split import MIN_IMAGES, MIN_PICTURES, Source, Split, ragged, refuse_smaller
from training.errors import DataError


def read_folder(folder: Path, data: Data) -> Source:
    """All images under a folder; its subfolders, where images lie in them, are the splits or the classes.

    Raises:
        DataError: not a directory, too few images, an unreadable one, different sizes without `data.size` or
            `data.crop`, or one that is smaller than that.
    """
    found = image_paths.find(folder, SUFFIXES)
    paths, left_out = found.paths, tuple(found.notes())
    least = MIN_PICTURES if data.crop else MIN_IMAGES
    if len(paths) < least:
        but = f"; {', '.join(left_out)}" if left_out else ""
        raise DataError(
            f"{folder} holds {len(paths)} images ({', '.join(SUFFIXES)}), at least {least} are expected{but}"
        )
    layout = folder_layout.lay_out([path.relative_to(folder) for path in paths])
    images, conversions = image_files.read_all(paths, data)
    if data.crop:
        for image, path in zip(images, paths, strict=True):
            refuse_smaller(image, path, data.crop)
    else:
        _refuse_other_sizes(images, paths)
    held = ragged(images) if data.crop else np.stack(images)
    everything = Split(held, layout.labels, conversions=conversions)
    train, validation, test = (
        everything.take(layout.rows[role]) if role in layout.rows else None for role in folder_layout.SPLITS
    )
    return Source(train or everything, validation, test, layout.classes, (*left_out, *layout.notes))


def _refuse_other_sizes(images: list[np.ndarray], paths: list[Path]) -> None:
    first = images[0].shape
    for image, path in zip(images, paths, strict=True):
        if image.shape != first:
            sizes = ["x".join(map(str, shape)) for shape in (image.shape, first)]
            raise DataError(
                f"{path} is {sizes[0]}, {paths[0].name} is {sizes[1]} (height, width, channels): scale them all with "
                "--set data.size=N, or train on parts with data.crop=N"
            )

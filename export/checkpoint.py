"""A checkpoint as export needs it: of one moment, its parts fitting each other, its weights numbers."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from export.errors import InputError
from export.gate.weights import unfit_weights
from training import checkpoint
from training.checkpoint import Checkpoint
from training.errors import TrainingError

# A run that trains on replaces its checkpoints in milliseconds, and not again for seconds.
_ATTEMPTS = 3
# What model.json takes something from, where it is there.
_SECTIONS = (("config", "run"), ("data",), ("metrics",), ("tools",))


@dataclass(frozen=True)
class Source:
    """A checkpoint, and the SHA-256 of its weights file."""

    checkpoint: Checkpoint
    weights_sha256: str


def load(folder: Path) -> Source:
    """Read a checkpoint, or the best one of a run's folder, which may be training on.

    Raises:
        InputError: there is none, or it is damaged.
    """
    for _ in range(_ATTEMPTS):
        before = _moment(folder)
        try:
            found = _load(folder)
        except InputError as error:
            found = error
        if _moment(folder) == before:
            break
    else:
        found = InputError(f"{folder}: the checkpoint changes while it is read: try again")
    if isinstance(found, InputError):
        raise found
    return found


def _moment(folder: Path) -> tuple[int, int] | None:
    """What differs between a checkpoint and the one that takes its place."""
    try:
        status = (checkpoint.find(folder) / checkpoint.META).stat()
    except (TrainingError, OSError):
        return None
    return status.st_ino, status.st_mtime_ns


def _load(folder: Path) -> Source:
    try:
        loaded = checkpoint.load(folder)
        weights = (checkpoint.find(folder) / checkpoint.WEIGHTS).read_bytes()
    except (TrainingError, OSError) as error:
        raise InputError(str(error)) from error
    if unfit := unfit_weights(loaded.model):
        raise InputError(f"{folder}: expected finite weights, got NaN or infinity in {', '.join(unfit)}: train it anew")
    if misfit := _misfit(loaded):
        raise InputError(f"{folder}: {misfit}: train it anew")
    return Source(loaded, hashlib.sha256(weights).hexdigest())


def _misfit(loaded: Checkpoint) -> str | None:
    """What in a checkpoint is not of its own network, or not of its kind."""
    images, shape = loaded.reference.images, tuple(loaded.model.image_shape)
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        return f"{checkpoint.REFERENCE}: expected uint8 images of {shape}, got {images.dtype} {images.shape}"
    if loaded.latents is not None and loaded.latents.latent_size != loaded.model.latent_size:
        sizes = f"latents of {loaded.model.latent_size}, got {loaded.latents.latent_size}"
        return f"{checkpoint.LATENTS}: expected {sizes}"
    if not all(isinstance(label, str) for label in getattr(loaded.model, "labels", ())):
        return f"{checkpoint.META}: expected names of classes, got {loaded.model.labels}"
    for path in _SECTIONS:
        section: object = loaded.meta
        for name in path:
            section = cast("dict[str, object]", section).get(name, {})
            if not isinstance(section, dict):
                return f"{checkpoint.META}: expected an object as {'.'.join(path)}, got {section!r}"
    return None

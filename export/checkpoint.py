"""Reads a checkpoint consistently: files of one save, which fit each other, with finite weights."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bundle.errors import quotable
from bundle.files import FileIdentity, identity
from bundle.images import element_types
from export.errors import InputError
from export.gate.weights import unfit_weights
from export.graphs.methods import facts
from training import checkpoint
from training.checkpoint import Checkpoint
from training.errors import TrainingError

# A run in progress replaces its checkpoint within milliseconds, and then not for seconds.
_ATTEMPTS = 3
# Optional objects that model.json takes entries from.
_SECTIONS = (("config", "run"), ("data",), ("metrics",), ("tools",))


@dataclass(frozen=True)
class SourceCheckpoint:
    """A checkpoint, and the SHA-256 of its weights file."""

    checkpoint: Checkpoint
    weights_sha256: str


def load(folder: Path) -> SourceCheckpoint:
    """Read a checkpoint, or the best one of a run's folder, where training may be in progress.

    Raises:
        InputError: there is no checkpoint, or it is damaged.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(folder)
        try:
            found = _load(folder)
        except InputError as error:
            found = error
        if _identity(folder) == before:
            break
    else:
        found = InputError(f"{folder}: the checkpoint changes while it is read: try again")
    if isinstance(found, InputError):
        raise found
    return found


def _identity(folder: Path) -> FileIdentity | None:
    """Differs between a checkpoint and the one that replaces it; None where there is no checkpoint."""
    try:
        return identity(checkpoint.find(folder) / checkpoint.META)
    except (TrainingError, OSError):
        return None


def _load(folder: Path) -> SourceCheckpoint:
    try:
        loaded = checkpoint.load(folder)
        weights = (checkpoint.find(folder) / checkpoint.WEIGHTS).read_bytes()
    except (TrainingError, OSError) as error:
        raise InputError(quotable(str(error))) from error
    except (RecursionError, OverflowError) as error:
        raise InputError(f"{folder}: the checkpoint is damaged: {quotable(str(error))}; train it again") from error
    if unfit := unfit_weights(loaded.model):
        raise InputError(f"{folder}: expected finite weights, got NaN or infinity in {', '.join(unfit)}: train again")
    if misfit := _misfit(loaded):
        raise InputError(f"{folder}: {misfit}: train again")
    return SourceCheckpoint(loaded, hashlib.sha256(weights).hexdigest())


def _misfit(loaded: Checkpoint) -> str | None:
    """Part of a checkpoint that does not fit its network or has the wrong type."""
    images, about = loaded.reference.images, facts(loaded.model)
    shape = about.image_shape if not about.shapes.free else (*images.shape[1:3], about.image_shape[2])
    # The finer ones are for graphs that take float images.
    kinds = element_types.KINDS if about.float_images else element_types.KINDS[:1]
    if images.dtype.name not in kinds or images.shape[1:] != shape or not images.size:
        expected = f"{' or '.join(kinds)} images of {about.image_shape}"
        return f"{checkpoint.REFERENCE}: expected {expected}, got {images.dtype} {images.shape}"
    if loaded.latents is not None and loaded.latents.latent_size != about.shapes.numbers:
        return f"{checkpoint.LATENTS}: expected latents of {about.shapes.numbers}, got {loaded.latents.latent_size}"
    if hasattr(loaded.model, "detect") != (loaded.held_out_scores is not None):
        scores = "scores of held-out normal images, which training writes last"
        expected = f"no {scores}" if loaded.held_out_scores else scores
        return f"{checkpoint.LATENTS}: expected {expected}, got {'some' if loaded.held_out_scores else 'none'}"
    if not all(isinstance(label, str) for label in getattr(loaded.model, "labels", ())):
        return quotable(f"{checkpoint.META}: expected class names, got {loaded.model.labels}")
    for path in _SECTIONS:
        section: object = loaded.meta
        for name in path:
            section = cast("dict[str, object]", section).get(name, {})
            if not isinstance(section, dict):
                return quotable(f"{checkpoint.META}: expected an object as {'.'.join(path)}, got {section!r}")
    return None

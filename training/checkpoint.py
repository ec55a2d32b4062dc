"""Self-describing checkpoints: weights, what rebuilds the model, reference images, latent statistics."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from bundle import npz
from bundle.detection import HeldOutScores, pack_statistics, unpack_statistics
from bundle.errors import BundleError
from bundle.files import sync_folder, write_synced
from bundle.latents import LatentStatistics
from training.config import Architecture, Loss
from training.data.dataset import Dataset
from training.data.split import Split
from training.errors import CheckpointError, ConfigError, NetworkError, one_line, short_repr
from training.losses.terms import Likelihood
from training.models import autoencoders, own

_FORMAT_VERSION = 1
# What damaged or hostile files make their readers raise.
_DAMAGE = (OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)
WEIGHTS, META, REFERENCE, LATENTS, STATE = (
    "model.safetensors",
    "checkpoint.json",
    "reference.npz",
    "latents.npz",
    "state.pt",
)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model (float32, eval mode) and what is known about it."""

    model: autoencoders.Network
    meta: dict[str, Any]
    reference: Split
    latents: LatentStatistics | None
    held_out_scores: HeldOutScores | None = None
    """What detection is calibrated on, where the network detects."""


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint, or the best one of a run's folder; nothing but the folder is needed.

    Raises:
        CheckpointError: missing, damaged, or of another format version.
    """
    folder = find(folder)
    meta = read_meta(folder)
    try:
        model = _rebuild(meta["model"], load_tensors((folder / WEIGHTS).read_bytes()))
        model.likelihood = _likelihood(meta.get("config", {}).get("loss", {}))
    except NetworkError as error:
        raise CheckpointError(f"the checkpoint in {folder} cannot be used: {one_line(error)}") from error
    except (*_DAMAGE, SafetensorError, ConfigError) as error:
        raise _damaged(folder, error) from error
    try:
        reference = _reference(npz.unpack((folder / REFERENCE).read_bytes(), REFERENCE))
        statistics = unpack_statistics((folder / LATENTS).read_bytes()) if (folder / LATENTS).exists() else (None, None)
    except (*_DAMAGE, BundleError) as error:
        raise _damaged(folder, error) from error
    return Checkpoint(model, meta, reference, *statistics)


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"the checkpoint in {folder} is damaged: {one_line(error)}; train it again")


def find(folder: Path) -> Path:
    """The checkpoint's own folder: this one, or `best` in a run's folder."""
    for each in (folder, folder / "best", folder / "best.previous"):
        if (each / META).is_file():
            return each
    raise CheckpointError(f"no checkpoint in {folder}: give a run's folder, or a folder with {META}")


def read_meta(folder: Path) -> dict[str, Any]:
    """checkpoint.json, its format version checked."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / META} cannot be read: {one_line(error)}") from None
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != _FORMAT_VERSION:
        expected = f"expected checkpoint format {_FORMAT_VERSION}, got {short_repr(version)}"
        raise CheckpointError(f"{folder}: {expected}; use the release of Hourglass that wrote it, or train again")
    return meta


def describe(
    architecture: Architecture,
    image_shape: autoencoders.ImageShape,
    labels: tuple[str, ...],
    loss: Loss | None = None,
    *,
    float_images: bool = False,
) -> dict[str, Any]:
    """The model's own constructor arguments, for checkpoint.json, and what else it must know of itself."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "image_shape": list(image_shape),
        "labels": list(labels),
        **({"float_images": True} if float_images else {}),
        **(
            {"noise_level": [*loss.noise_range, 0.0]}
            if loss and (architecture.noise_level_input or architecture.network)
            else {}
        ),
        **({"source_sha256": own.source_sha256(architecture.network)} if architecture.network else {}),
    }


def files(
    weights: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    reference: Split,
    latents: LatentStatistics | None,
    held_out_scores: HeldOutScores | None = None,
) -> dict[str, bytes]:
    """The files of a checkpoint by name."""
    contents = {
        WEIGHTS: save_tensors({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}),
        META: (json.dumps({"format_version": _FORMAT_VERSION, **meta}, indent=2) + "\n").encode(),
        REFERENCE: _npz(reference),
    }
    statistics = pack_statistics(latents, held_out_scores)
    return contents if statistics is None else {**contents, LATENTS: statistics}


def is_data_of(dataset: Dataset, sha256: str) -> bool:
    """Whether a run with data of this hash was trained on this data set.

    Images of a single class have no labels; they once had, each of them 0. All images once had 8 bits.
    """
    known = [dataset, dataset.in_bytes()] if dataset.float_images else [dataset]
    if dataset.train.labels is None:
        known += [_labelled(each) for each in known]
    return any(each.sha256 == sha256 for each in known)


def refuse_other_data(name: object, dataset: Dataset, sha256: str) -> None:
    """Refuse a data set that a run with data of this hash, called `name`, was not trained on.

    Raises:
        CheckpointError: it was not.
    """
    if not is_data_of(dataset, sha256):
        raise CheckpointError(
            f"{name} was trained on other data than {dataset.name} holds: give the folder of its own with --data-dir "
            "(of bundled ones install the release of their package that it was trained with)"
        )


def _labelled(dataset: Dataset) -> Dataset:
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    return replace(
        dataset, **{name: replace(split, labels=np.zeros(len(split), np.int64)) for name, split in splits.items()}
    )


def rewrite(folder: Path, changed: Checkpoint) -> None:
    """Rewrite a checkpoint with other statistics or description, its state to resume from included.

    Raises:
        OSError: as `write`.
    """
    weights = changed.model.state_dict()
    contents = files(weights, changed.meta, changed.reference, changed.latents, changed.held_out_scores)
    if (folder / STATE).exists():
        contents[STATE] = (folder / STATE).read_bytes()
    write(folder, contents)


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace a checkpoint's folder by these files, atomically, even if the power fails.

    Raises:
        OSError: the disk is full or the folder unwritable; the folder is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    fresh, previous = folder.with_name(f".{folder.name}.new"), folder.with_name(f"{folder.name}.previous")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        for name, data in contents.items():
            write_synced(fresh / name, data)
        sync_folder(fresh)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(previous)
    fresh.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put the previous checkpoint back if the process died between the two renames of `write`."""
    previous = folder.with_name(f"{folder.name}.previous")
    if previous.exists():
        if folder.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(folder)


def _rebuild(description: Mapping[str, Any], weights: dict[str, Tensor]) -> autoencoders.Network:
    """The network of a description, which gets memory only when its shapes are those of the weights."""
    architecture = Architecture.model_validate(description["architecture"])
    height, width, channels = description["image_shape"]
    if min(height, width) < 0 or channels < 1 or (height > 0) != (width > 0):
        raise ValueError(f"expected an image_shape of positive sizes, got {short_repr(description['image_shape'])}")
    if architecture.network:
        _check_source(architecture.network, description.get("source_sha256"))
    model = autoencoders.outline(architecture, (height, width, channels), tuple(description["labels"]))
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    got = {name: tuple(weight.shape) for name, weight in weights.items()}
    if other := sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name)):
        shapes = (f"{name}: expected shape {expected.get(name)}, got {got.get(name)}" for name in other)
        raise ValueError(f"{WEIGHTS} does not fit {META}: {'; '.join(shapes)}")
    if not architecture.network:
        model.to_empty(device="cpu")
    model.load_state_dict(weights)
    if description.get("float_images", False):
        model.float_images = True
    if model.takes_noise_levels:
        low, high, default = map(float, description["noise_level"])
        model.noise_level = low, high, default
    return model.float().eval()


def _likelihood(settings: Mapping[str, Any]) -> Likelihood:
    """That of a pixel, by the settings of the loss."""
    loss = Loss.model_validate({name: settings[name] for name in ("likelihood", "sigma") if name in settings})
    return Likelihood(loss.likelihood, loss.sigma)


def _check_source(network: str, expected: object) -> None:
    """Refuse another file than the weights were trained with, before it is run; what it imports may be another.

    Raises:
        NetworkError: it differs, or is not to be found.
    """
    if (got := own.source_sha256(network)) != expected:
        raise NetworkError(
            f"the source of {network} is not the one that was trained (expected SHA-256 {short_repr(expected)}, got "
            f"{got}): restore that version of the file"
        )


def _reference(arrays: Mapping[str, np.ndarray]) -> Split:
    return Split(arrays["images"], arrays.get("labels"))


def _npz(reference: Split) -> bytes:
    labels = {} if reference.labels is None else {"labels": reference.labels}
    return npz.pack({"images": reference.images, **labels})

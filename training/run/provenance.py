"""Provenance of a checkpoint: how it was made, without time, host, path or user."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bundle.images.decoder import RULES_VERSION
from training import checkpoint
from training.config import Config, Expected
from training.data.dataset import Dataset
from training.data.split import Split
from training.errors import CheckpointError, ConfigError
from training.models import autoencoders
from training.models.autoencoders import ImageShape
from training.recipe import parse_config

_REFERENCE_IMAGES, _REFERENCE_BYTES = 1_024, 64 * 2**20
_TOOLS = ("torch", "numpy", "safetensors", "scikit-learn")


def describe(config: Config, dataset: Dataset, step: int, epoch: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """checkpoint.json but for its format version."""
    return {
        "name": config.name,
        "model": checkpoint.describe(
            config.model,
            network_shape(config, dataset),
            dataset.classes,
            config.loss,
            float_images=dataset.float_images,
        ),
        "config": settings(config),
        "data": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
            **_image_rules(dataset),
        },
        "step": step,
        "epoch": epoch,
        "metrics": dict(metrics),
        "git_revision": git_revision(),
        "tools": {"python": platform.python_version(), **{tool: version(tool) for tool in _TOOLS}},
    }


def network_shape(config: Config, dataset: Dataset) -> ImageShape:
    """The image shape of the run's network."""
    return autoencoders.image_shape(config.model, dataset.image_shape, cropped=dataset.pictures is not None)


def _image_rules(dataset: Dataset) -> dict[str, int]:
    """By which version of the rules of `bundle.images` image files became pixels; nothing for other sources."""
    return {} if dataset.train.conversions is None else {"image_rules": RULES_VERSION}


class _Data(BaseModel):
    name: str
    sha256: str
    train: int
    validation: int
    test: int


class _Description(BaseModel):
    name: str
    config: dict[str, Any]
    data: _Data
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Origin:
    """What checkpoint.json says of the run: its configuration, and which data by name and hash."""

    config: Config
    data: str
    sha256: str


def origin(meta: Mapping[str, Any], folder: Path) -> Origin:
    """What `describe` has written of a run.

    Raises:
        CheckpointError: something of it is missing or of another kind, or its settings are invalid.
    """
    try:
        found = _Description.model_validate(meta)
        return Origin(parse_config(found.config), found.data.name, found.data.sha256)
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    except ConfigError as error:
        reason = str(error)
    raise CheckpointError(f"{folder / checkpoint.META} does not describe a run: {reason}; train again")


def settings(config: Config) -> dict[str, Any]:
    """The part of a configuration that decides the result: data are identified by their hash, not by their folder."""
    return config.model_dump(mode="json", exclude={"data": {"folder", "download"}, "output": True})


def deciding(config: Config) -> Config:
    """The same without what changes no run: what one says about it, and what one expects of it."""
    return config.model_copy(update={"summary": "", "expected": Expected()})


def reference(dataset: Dataset) -> Split:
    """The images that export tries a model on: the first of the test split, of pairs the clean ones."""
    fitting = _REFERENCE_BYTES // max(1, dataset.test.images[0].nbytes)
    found = dataset.test.take(slice(max(1, min(_REFERENCE_IMAGES, fitting))))
    return replace(found, images=found.images[..., : dataset.image_shape[2]])


@cache
def git_revision() -> str:
    """The commit of this source tree when it was first asked for, or `unknown` outside of one."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603 (fixed command)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()

"""Preflight of a run: a model that cannot be trained on these data is refused before the first step."""

import torch

from training.config import Config
from training.cpu import available_memory
from training.data.dataset import Dataset
from training.errors import ConfigError
from training.models import autoencoders

# Bytes of a parameter: itself, its gradient and Adam's two means, in float32.
_BYTES_EACH = 4 * 4


def check(config: Config, dataset: Dataset) -> None:
    """Refuse a network that needs classes where there are none, or more memory than there is.

    Raises:
        ConfigError: one of these, or the network does not fit the images.
    """
    architecture, classes = config.model, len(dataset.classes)
    if hasattr(autoencoders.find(architecture.family), "classify") and classes < 2:  # noqa: PLR2004 (a difference)
        got = "one class" if classes else "images without labels"
        raise ConfigError(f"a {architecture.family} model needs labelled images of at least two classes, got {got}")
    network = autoencoders.outline(architecture, dataset.image_shape, dataset.classes)
    parameters = sum(each.numel() for each in network.parameters())
    needed, left = parameters * _BYTES_EACH, available_memory()
    if needed > left and not torch.cuda.is_available():
        raise ConfigError(
            f"a network of {parameters:,} parameters takes {needed / 2**30:.1f} GiB in training, "
            f"{left / 2**30:.1f} GiB are free: lower model.latent_size or model.hidden, or scale images with data.size"
        )

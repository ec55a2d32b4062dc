"""A small classifier (LeNet): features for the Fréchet distance of samples, classes for scores of edits.

`python -m training judge --data … --data-dir …` trains one; those of digits and MNIST come with the package.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from training.cpu import one_blas_thread
from training.data.batches import InMemoryBatches, shuffled_batches
from training.data.dataset import Dataset
from training.errors import DataError
from training.models.autoencoders import ImageShape
from training.models.initial_weights import initialise
from training.random_streams import Purpose, generator

FOLDER = Path(__file__).parent / "classifiers"
_BATCH = 128
_LEARNING_RATE = 3e-3
_SHIFT = 2
# Three halvings leave a pixel.
_SMALLEST_SIDE = 8
_STEPS_AT_LEAST = 3_000


class Classifier(nn.Module):
    """(N, C, H, W) in 0 to 1 to features (N, 64) and class logits (N, K): three convolutions, after LeNet."""

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        height, width, channels = image_shape
        layers: list[nn.Module] = []
        for before, after in ((channels, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            height, width = height // 2, width // 2
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * height * width, 64), nn.ReLU())
        self.classes = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K)."""
        return self.classes(self.features(images))


def train(dataset: Dataset, seed: int = 0) -> Classifier:
    """Train a classifier on a labelled data set, the same for the same seed.

    Raises:
        DataError: the data set has no labels, or its images are too small.
    """
    if dataset.train.labels is None:
        raise DataError(f"{dataset.name} has no labels: a classifier needs them")
    if min(dataset.image_shape[:2]) < _SMALLEST_SIDE:
        height, width, _ = dataset.image_shape
        expected = f"a classifier needs images of at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE} pixels"
        raise DataError(f"{dataset.name}: {expected}, got {height}x{width}")
    network = Classifier(dataset.image_shape, len(dataset.classes))
    initialise(network, generator(seed, Purpose.WEIGHTS))
    loaded = InMemoryBatches(dataset.train, torch.device("cpu"), torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    epochs = math.ceil(_STEPS_AT_LEAST * _BATCH / len(loaded))
    batches = [rows for epoch in range(epochs) for rows in shuffled_batches(seed, epoch, len(loaded), _BATCH)]
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 + math.cos(math.pi * step / len(batches))) / 2
        images, labels = loaded.batch(rows)
        assert labels is not None  # noqa: S101 (checked above)
        loss = functional.cross_entropy(network(_shifted(images, seed, step)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def _shifted(images: Tensor, seed: int, step: int) -> Tensor:
    """The batch shifted by up to two pixels (data augmentation), so that small displacements do not matter."""
    down, right = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator(seed, Purpose.STEP, step)).tolist()
    return images.roll((down, right), (2, 3))


def save(network: Classifier, dataset: Dataset, path: Path) -> None:
    """Write the weights and the hash of the data that they were trained on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path, metadata={"data_sha256": dataset.sha256})


def find(dataset: Dataset, folder: Path = FOLDER) -> Classifier | None:
    """The classifier that was trained on exactly these data, if there is one."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("data_sha256") != dataset.sha256:
                continue
            network = Classifier(dataset.image_shape, len(dataset.classes))
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no mapping)
            return network.eval()
    return None


@torch.no_grad()
def features(network: Classifier, batches: Sequence[Tensor]) -> np.ndarray:
    """Images in batches (N, C, H, W) to float64 (total, 64)."""
    return np.concatenate([network.features(images).double().numpy() for images in batches])


@torch.no_grad()
def classify(network: Classifier, images: Tensor) -> np.ndarray:
    """(N, C, H, W) to the likeliest classes, int64 (N,)."""
    return network(images).argmax(1).numpy()


def accuracy(network: Classifier, batches: Iterable[Tensor], labels: np.ndarray | None) -> float:
    """The share of images (N, C, H, W), in batches, classified as their label (total,)."""
    return float((np.concatenate([classify(network, images) for images in batches]) == labels).mean())


@one_blas_thread
def frechet_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Features (N, F) and (M, F) to the Fréchet distance of their Gaussians (Dowson & Landau 1982; Heusel et al. 2017).

    The trace of the square root of a product of covariances is the sum of the roots of its eigenvalues.
    """
    gap = ours.mean(0) - theirs.mean(0)
    one, other = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0)).sum()
    return float(gap @ gap + np.trace(one) + np.trace(other) - 2 * roots)

"""Our own small classifier: it looks at samples (Frechet distance in its features) and at edits (the same class?).

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

from training.blas import one_thread
from training.data.batches import Feed, order
from training.data.dataset import Dataset
from training.errors import DataError
from training.models.autoencoders import ImageShape, initialise
from training.random_streams import Purpose, generator

FOLDER = Path(__file__).parent / "classifiers"
BATCH = 128
LEARNING_RATE = 3e-3
SHIFT = 2
STEPS_AT_LEAST = 3_000


class Judge(nn.Module):
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


def train(dataset: Dataset, seed: int = 0) -> Judge:
    """A judge of a labelled data set, the same for the same seed.

    Raises:
        DataError: the data set has no labels.
    """
    if dataset.train.labels is None:
        raise DataError(f"{dataset.name} has no labels: a classifier needs them")
    judge = Judge(dataset.image_shape, len(dataset.classes))
    initialise(judge, generator(seed, Purpose.WEIGHTS))
    feed = Feed(dataset.train, torch.device("cpu"), torch.channels_last)
    optimizer = torch.optim.Adam(judge.parameters(), fused=True)
    epochs = math.ceil(STEPS_AT_LEAST * BATCH / len(feed))
    batches = [rows for epoch in range(epochs) for rows in order(seed, epoch, len(feed), BATCH)]
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / len(batches))) / 2
        images, labels = feed.batch(rows)
        loss = functional.cross_entropy(judge(shifted(images, seed, step)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval()


def shifted(images: Tensor, seed: int, step: int) -> Tensor:
    """The batch moved by up to two pixels, so that the judge does not mind a small displacement."""
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator(seed, Purpose.STEP, step)).tolist()
    return images.roll((down, right), (2, 3))


def save(judge: Judge, dataset: Dataset, path: Path) -> None:
    """Writes the weights and the hash of the data that they judge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(judge.state_dict(), path, metadata={"data_sha256": dataset.sha256})


def find(dataset: Dataset, folder: Path = FOLDER) -> Judge | None:
    """The judge that was trained on exactly these data, if there is one."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("data_sha256") != dataset.sha256:
                continue
            judge = Judge(dataset.image_shape, len(dataset.classes))
            judge.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  no mapping
            return judge.eval()
    return None


@torch.no_grad()
def features(judge: Judge, batches: Sequence[Tensor]) -> np.ndarray:
    """Images in batches (N, C, H, W) to float64 (total, 64)."""
    return np.concatenate([judge.features(images).double().numpy() for images in batches])


@torch.no_grad()
def classify(judge: Judge, images: Tensor) -> np.ndarray:
    """(N, C, H, W) to the likeliest classes, int64 (N,)."""
    return judge(images).argmax(1).numpy()


def accuracy(judge: Judge, batches: Iterable[Tensor], labels: np.ndarray | None) -> float:
    """The share of images (N, C, H, W), in batches, whose label (total,) the judge finds."""
    return float((np.concatenate([classify(judge, images) for images in batches]) == labels).mean())


@one_thread
def frechet_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Features (N, F) and (M, F) to the Frechet distance of their Gaussians (Dowson & Landau 1982; Heusel et al. 2017).

    The trace of the square root of a product of covariances is the sum of the roots of its eigenvalues.
    """
    gap = ours.mean(0) - theirs.mean(0)
    one, other = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0)).sum()
    return float(gap @ gap + np.trace(one) + np.trace(other) - 2 * roots)

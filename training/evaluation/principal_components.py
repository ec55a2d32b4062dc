"""What a linear code of the same size reaches: principal components of the training images, on the test images."""

from typing import Any, cast

import numpy as np
import torch
from sklearn.decomposition import PCA

from bundle.images import element_types
from training.data.dataset import Dataset
from training.evaluation.notes import Notes
from training.random_streams import Purpose, generator

# As float32; what scikit-learn makes of them is a few times as much.
_TRAINING_BYTES = 256 * 2**20
_CROPS = 4_096
_ROWS_AT_ONCE = 64


def figures(dataset: Dataset, numbers: int, notes: Notes) -> dict[str, float]:
    """PSNR of test images from as many principal components as a code has numbers: per image, then averaged."""
    train = _training_images(dataset)
    count = min(numbers, *train.shape)
    if count < numbers:
        what = f"{train.shape[0]:,} training images of {train.shape[1]:,} values"
        notes.add(f"pca_psnr: by {count:,} components instead of {numbers:,}, of {what}")
    solver: Any = PCA
    pca = solver(count, random_state=0, copy=False).fit(train)
    test = dataset.test.images
    found = [_psnr(pca, test[first : first + _ROWS_AT_ONCE]) for first in range(0, len(test), _ROWS_AT_ONCE)]
    return {"pca_psnr": float(np.concatenate(found).mean())}


def _training_images(dataset: Dataset) -> np.ndarray:
    """Float32 (N, H * W * C) in 0 to 1: crops at random places, as training sees them, where it sees crops."""
    most = max(2, _TRAINING_BYTES // (4 * dataset.train.images[0].size))
    if dataset.pictures is None:
        rows = np.linspace(0, len(dataset.train) - 1, min(most, len(dataset.train))).astype(np.intp)
        return _flat(dataset.train.images[rows])
    count = min(most, _CROPS)
    rows = np.resize(np.random.default_rng(0).permutation(len(dataset.train)), count)
    numbers = torch.rand((count, 4), generator=generator(0, Purpose.CROP))
    return _flat(dataset.pictures.crops(rows, numbers.numpy()))


def _flat(images: np.ndarray) -> np.ndarray:
    return element_types.floats(images.reshape(len(images), -1))


def _psnr(pca: Any, images: np.ndarray) -> np.ndarray:  # noqa: ANN401 (a PCA, whose methods have no types)
    """(N,)."""
    pixels = _flat(images)
    seen = np.clip(cast("np.ndarray", pca.inverse_transform(pca.transform(pixels))), 0, 1)
    errors = np.square(seen - pixels).mean(1)
    return -10 * np.log10(np.maximum(errors, np.finfo(np.float32).tiny))

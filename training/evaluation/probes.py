"""What a code is worth: classes read off it, units in use, and how far its distribution is from the prior."""

from functools import partial
from typing import TypeAlias

import numpy as np
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundle.images import element_types
from training.cpu import one_blas_thread
from training.data.dataset import Dataset
from training.errors import UnavailableError
from training.evaluation.notes import Notes

_NEIGHBOURS = 5
_ACTIVE_VARIANCE = 0.01
_PROJECTIONS = 512
WIDEST_PROBED = 64

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Of the training and of the test split."""


@one_blas_thread
def probes(codes: np.ndarray, test_codes: np.ndarray, dataset: Dataset, notes: Notes) -> dict[str, float]:
    """Accuracy on the test split of a linear probe and of 5 neighbours on codes (N, D), and on PCA of the same size.

    Empty without labels, or for codes wider than 64, which a probe would fit as well as the pixels. Where images are
    too few for as many principal components, PCA has as many as there can be.

    Raises:
        UnavailableError: all training images are of one class.
    """
    if dataset.train.labels is None or dataset.test.labels is None or codes.shape[1] > WIDEST_PROBED:
        return {}
    labels = dataset.train.labels, dataset.test.labels
    if len(np.unique(labels[0])) < 2:  # noqa: PLR2004 (a difference)
        raise UnavailableError("all training images are of one class")
    reduced = notes.attempt(
        "pca_linear_accuracy, pca_knn_accuracy", lambda: _principal_components(codes.shape[1], dataset, notes), None
    )
    spaces = {"": (codes, test_codes), "pca_": reduced}
    return {
        f"{prefix}{name}": accuracy
        for prefix, pair in spaces.items()
        if pair is not None
        for name, probe in (("linear_accuracy", _linear_accuracy), ("knn_accuracy", _knn_accuracy))
        if (accuracy := notes.attempt(f"{prefix}{name}", partial(probe, pair, labels), None)) is not None
    }


def _principal_components(wanted: int, dataset: Dataset, notes: Notes) -> Pair:
    """Train and test pixels on the leading axes of the training pixels, (N, k) each."""
    train, test = (
        element_types.floats(split.images.reshape(len(split), -1), np.float64)
        for split in (dataset.train, dataset.test)
    )
    count = min(wanted, *train.shape)
    if count < wanted:
        images = f"{train.shape[0]} training images of {train.shape[1]} values"
        notes.add(f"pca_linear_accuracy, pca_knn_accuracy: by {count} components instead of {wanted}, of {images}")
    pca = PCA(count, random_state=0).fit(train)
    return pca.transform(train), pca.transform(test)


def _linear_accuracy(codes: Pair, labels: Pair) -> float:
    """Train and test codes (N, D) and labels (N,) to the accuracy of a logistic regression on test."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, tol=1e-3))
    return float(linear.fit(codes[0], labels[0]).score(codes[1], labels[1]))


def _knn_accuracy(codes: Pair, labels: Pair) -> float:
    """Train and test codes (N, D) and labels (N,) to the accuracy of the nearest training codes on test."""
    if len(codes[0]) < _NEIGHBOURS:
        raise UnavailableError(f"it needs {_NEIGHBOURS} training images, got {len(codes[0])}")
    return float(KNeighborsClassifier(_NEIGHBOURS).fit(codes[0], labels[0]).score(codes[1], labels[1]))


def active_units(means: np.ndarray) -> int:
    """(N, D): how many posterior means vary by more than 0.01 over the images (Burda et al. 2015, section 5.3)."""
    return int((means.var(0) > _ACTIVE_VARIANCE).sum())


def sliced_wasserstein(codes: np.ndarray, seed: int = 0) -> float:
    """Draws (N, D) from the aggregated posterior to their mean 1-D Wasserstein distance from N(0, I), 512 directions.

    0 says that samples of the prior land where codes are; large values tell of holes.
    """
    directions = np.random.default_rng(seed).standard_normal((codes.shape[1], _PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    projected = np.sort(codes.astype(np.float64) @ directions, axis=0)
    quantiles = norm.ppf((np.arange(len(codes)) + 0.5) / len(codes))
    return float(np.abs(projected - quantiles[:, np.newaxis]).mean())

"""What a code is worth: classes read off it, units in use, and how far its distribution is from the prior."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.cpu import one_blas_thread
from training.data.dataset import Dataset

_NEIGHBOURS = 5
_ACTIVE_VARIANCE = 0.01
_PROJECTIONS = 512
_WIDEST_PROBED = 64


@one_blas_thread
def probes(codes: np.ndarray, test_codes: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Accuracy on the test split of a linear probe and of 5 neighbours on codes (N, D), and on PCA of the same size.

    Empty without labels, or for codes wider than 64, which a probe would fit as well as the pixels.
    """
    if dataset.train.labels is None or dataset.test.labels is None or codes.shape[1] > _WIDEST_PROBED:
        return {}
    train_pixels, test_pixels = (split.images.reshape(len(split), -1) / 255 for split in (dataset.train, dataset.test))
    pca = PCA(codes.shape[1], random_state=0).fit(train_pixels)
    labels = dataset.train.labels, dataset.test.labels
    ours = _accuracies((codes, test_codes), labels)
    theirs = _accuracies((pca.transform(train_pixels), pca.transform(test_pixels)), labels)
    return ours | {f"pca_{name}": value for name, value in theirs.items()}


def _accuracies(codes: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, float]:
    """Train and test codes (N, D) and labels (N,) to the accuracy of both probes on test."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, tol=1e-3))
    neighbours = KNeighborsClassifier(_NEIGHBOURS)
    return {
        "linear_accuracy": float(linear.fit(codes[0], labels[0]).score(codes[1], labels[1])),
        "knn_accuracy": float(neighbours.fit(codes[0], labels[0]).score(codes[1], labels[1])),
    }


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

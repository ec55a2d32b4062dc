"""Reference points: where held-out images lie in the latent space, for whoever draws a map of it. Without PyTorch."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.density.latent_arrays import MAX_COMPONENTS, MAX_REFERENCE_POINTS
from bundle.latents import REFERENCE_COMPONENTS, LatentStatistics

Labels = NDArray[np.integer]


def add(
    statistics: LatentStatistics, codes: NDArray[np.floating], labels: Labels | None, classes: Sequence[str]
) -> LatentStatistics:
    """The statistics with up to 2,000 of the codes (N, D), spread evenly over the classes of labels (N,), if any.

    Codes of more than 64 numbers leave their coordinates along the leading 16 components. None where a code is beyond
    float16.
    """
    shown = spread(len(codes), labels, MAX_REFERENCE_POINTS)
    points = codes[shown].astype(np.float64)
    if statistics.latent_size > MAX_COMPONENTS:
        points = (points - statistics.mean) @ statistics.components[:REFERENCE_COMPONENTS].T
    if np.abs(points).max() > np.finfo(np.float16).max:
        return statistics
    names = None if labels is None else np.array(_names(labels[shown], classes), np.str_)
    return dataclasses.replace(
        statistics,
        reference_points=points.astype(np.float16),
        reference_labels=None if labels is None else labels[shown].astype(np.int16),
        reference_label_names=names,
    )


def spread(length: int, labels: Labels | None, count: int) -> NDArray[np.intp]:
    """Positions (n,) of up to `count` of `length` images: spaced evenly over their classes, else over their order."""
    order = np.arange(length) if labels is None else np.argsort(labels, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp)]


def numbered(classes: Sequence[str]) -> tuple[Labels | None, list[str]]:
    """Labels (N,) and names, from the class of each image; none without classes, or where that of an image is ""."""
    if not classes or "" in classes:
        return None, []
    names, labels = np.unique(np.array(classes, np.str_), return_inverse=True)
    return labels, names.tolist()


def _names(labels: Labels, classes: Sequence[str]) -> Sequence[str]:
    return classes or [str(label) for label in range(labels.max() + 1)]

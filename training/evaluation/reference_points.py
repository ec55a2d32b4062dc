"""Reference points: where held-out images lie in the latent space, for whoever draws a map of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bundle.density.latent_arrays import MAX_COMPONENTS, MAX_REFERENCE_POINTS
from bundle.latents import REFERENCE_COMPONENTS, LatentStatistics
from training.data.split import Split
from training.evaluation import inference


def add(statistics: LatentStatistics, codes: np.ndarray, split: Split, classes: Sequence[str]) -> LatentStatistics:
    """The statistics with up to 2,000 of the codes (N, D) of a split, spread evenly over its classes.

    Codes of more than 64 numbers leave their coordinates along the leading 16 components. None where a code is beyond
    float16.
    """
    shown = inference.spread(split, MAX_REFERENCE_POINTS)
    points = codes[shown].astype(np.float64)
    if statistics.latent_size > MAX_COMPONENTS:
        points = (points - statistics.mean) @ statistics.components[:REFERENCE_COMPONENTS].T
    if np.abs(points).max() > np.finfo(np.float16).max:
        return statistics
    labels = None if split.labels is None else split.labels[shown].astype(np.int16)
    names = None if labels is None else np.array(_names(labels, classes), np.str_)
    return dataclasses.replace(
        statistics,
        reference_points=points.astype(np.float16),
        reference_labels=labels,
        reference_label_names=names,
    )


def _names(labels: np.ndarray, classes: Sequence[str]) -> Sequence[str]:
    return classes or [str(label) for label in range(labels.max() + 1)]

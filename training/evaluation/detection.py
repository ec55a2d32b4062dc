"""Anomaly detection: maps of images, scores of held-out normal ones to calibrate by, and how well defects are found."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from autoencoder.v1.anomaly_maps import scores_of
from autoencoder.v1.shapes import pad
from scipy import ndimage
from sklearn import metrics

from bundle.detection import HeldOutScores, Score, calibrate
from bundle.errors import BundleError
from training.data.batches import scaled
from training.data.dataset import Dataset
from training.data.defects.inspection import Inspection
from training.errors import UnavailableError
from training.evaluation.inference import rows_at_once
from training.evaluation.notes import Notes
from training.models.families import Network

# Pixels whose values are sorted: more take gigabytes and say the same.
_MOST_PIXELS = 2**25
# Per-region overlap is integrated up to this share of false positives (Bergmann et al. 2020, section 4.1).
_PRO_LIMIT, _PRO_STEPS = 0.3, 300
_EVERYWHERE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Found:
    """What a detector says of test images: maps float32 (N, H, W), scores (N,), and the threshold of the scores."""

    maps: np.ndarray
    scores: np.ndarray
    threshold: float | None
    map_threshold: float | None


@torch.no_grad()
def maps(model: Network, images: np.ndarray) -> Iterator[np.ndarray]:
    """Images (N, H, W, C) to maps float32 (n, H, W), a batch at a time; padded and cropped as the server does."""
    _, height, width, _ = images.shape
    step = model.multiple if model.is_free else 1
    size = -(-height // step) * step, -(-width // step) * step
    at_once = rows_at_once(images.shape[1:])
    for first in range(0, len(images), at_once):
        part = np.ascontiguousarray(pad(images[first : first + at_once], size).transpose(0, 3, 1, 2))
        yield model.detect(scaled(torch.from_numpy(part)))[:, 0, :height, :width].numpy()


def held_out_scores(model: Network, dataset: Dataset) -> HeldOutScores:
    """Scores of the normal images that the model is calibrated on: they were not trained on."""
    found = chain.from_iterable(maps(model, _inspection(dataset).calibration))
    return HeldOutScores.of_maps(found, _score(model))


def find(model: Network, images: np.ndarray, held_out: HeldOutScores) -> Found:
    """Maps and scores of images (N, H, W, C), with the thresholds that are calibrated for the default rate, if any."""
    found = np.concatenate(list(maps(model, images)))
    try:
        calibrated = calibrate(held_out, _score(model))
    except BundleError:
        return Found(found, scores_of(found, _score(model)), None, None)
    row = list(calibrated.rates).index(calibrated.default_rate)
    thresholds = calibrated.thresholds[row], calibrated.map_thresholds[row]
    return Found(found, scores_of(found, _score(model)), *thresholds)


def measure(model: Network, dataset: Dataset, held_out: HeldOutScores, notes: Notes) -> dict[str, float]:
    """AUROC of images and pixels, per-region overlap, and F1 at the calibrated threshold, as far as there are labels.

    Raises:
        UnavailableError: there are no labelled test images.
    """
    judged = _inspection(dataset)
    if judged.test is None or judged.defective is None:
        raise UnavailableError(
            "no test images are known as normal or defective: sort them into test/good and test/KIND"
        )
    found = find(model, judged.test, held_out)
    truth, score = judged.defective, cast("Any", metrics.roc_auc_score)
    figures = {"image_auroc": float(score(truth, found.scores))}
    if found.threshold is None:
        notes.add(f"f1, false_alarms: left out, because {len(held_out.scores)} calibration images tell no threshold")
    else:
        alarms = found.scores > np.float32(found.threshold)
        figures["f1"] = float(cast("Any", metrics.f1_score)(truth, alarms))
        figures["false_alarms"] = float(alarms[~truth].mean())
    if judged.masks is None:
        notes.add("pixel_auroc, pro: left out, because there are no masks of the defects")
        return figures
    every = max(1, judged.masks.size // _MOST_PIXELS)
    pixels = judged.masks.reshape(-1)[::every], found.maps.reshape(-1)[::every]
    return figures | {"pixel_auroc": float(score(*pixels)), "pro": per_region_overlap(found.maps, judged.masks)}


def per_region_overlap(found: np.ndarray, masks: np.ndarray) -> float:
    """Maps and masks (N, H, W) to the mean overlap of defects, up to 30 % of false positives (Bergmann et al. 2020).

    Every connected part of a mask counts alike, whatever its size; 1 is perfect.
    """
    normal = found[~masks]
    normal = np.sort(normal[:: max(1, len(normal) // _MOST_PIXELS)])
    shares = np.linspace(0, _PRO_LIMIT, _PRO_STEPS)
    thresholds = normal[np.minimum((len(normal) * (1 - shares)).astype(np.intp), len(normal) - 1)]
    overlaps = []
    for values, mask in zip(found, masks, strict=True):
        labels, count = cast("tuple[np.ndarray, int]", ndimage.label(mask, _EVERYWHERE))
        for part in range(1, count + 1):
            inside = np.sort(values[labels == part])
            overlaps.append(1 - np.searchsorted(inside, thresholds, side="right") / len(inside))
    if not overlaps:
        raise UnavailableError("the masks are empty")
    return float(np.trapezoid(np.mean(overlaps, axis=0), shares) / _PRO_LIMIT)


def _inspection(dataset: Dataset) -> Inspection:
    """That of the data set; without one all validation images are normal."""
    return dataset.inspection or Inspection(dataset.validation.images)


def _score(model: Network) -> Score:
    return cast("Score", model.detection_score)

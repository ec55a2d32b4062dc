"""Measures of a texture detector beyond those of its run: by kind, beside principal components, false alarms."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from autoencoder.v1.anomaly_maps import scores_of
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from bundle.detection import calibrate
from training import checkpoint
from training.data.defects import textures
from training.data.defects.textures import SIDE, Stream
from training.errors import UnavailableError
from training.evaluation import detection

FILE = "defects.json"
# Of the baseline: sides of patches (0: the whole image), components, and standard deviations of the Gaussian in pixels.
_PATCHES, _COMPONENTS, _SMOOTHED = (0, 8, 16), (2, 8, 32, 64, 128), (2.0, 4.0, 8.0)
_STEP = 4
# Of the test images, for the baseline: kinds come in turns of four.
_EVERY = 5
_FRESH_AT_ONCE = 500


@dataclass(frozen=True)
class Measured:
    """AUROC of pixels by kind of defect, of the best baseline and which it is, and alarms on fresh normal images."""

    by_kind: dict[str, float]
    baseline: float
    baseline_settings: str
    fresh: int
    alarms: list[tuple[float, float, float, float]]
    """For each calibrated rate: the rate, the share of alarms, and the interval that the calibration states."""
    drifted_alarms: float
    """Share of alarms at the default rate where the camera's gain is up by 10 %."""


def measure(run: Path, texture: str, fresh: int) -> Measured:
    """Measure the best checkpoint of a run on a texture, and keep the figures beside it.

    Raises:
        UnavailableError: the run has no calibration.
    """
    trained = checkpoint.load(run)
    if trained.held_out_scores is None:
        raise UnavailableError(f"{run} has no calibration of detection")
    judged = textures.splits(texture)[1]
    images, masks = cast("np.ndarray", judged.test), cast("np.ndarray", judged.masks)
    maps = np.concatenate(list(detection.maps(trained.model, images)))
    kinds = np.array(judged.kinds)
    by_kind = {each: auroc(masks[kinds == each], maps[kinds == each]) for each in textures.KINDS}
    baseline, named = principal_components(texture, images[::_EVERY], masks[::_EVERY])
    score = cast("Any", trained.model).detection_score
    calibrated = calibrate(trained.held_out_scores, score)
    thresholds = np.asarray(calibrated.thresholds, np.float32)
    shares = _alarms(trained.model, texture, score, thresholds, fresh, 1.0)
    drifted = _alarms(trained.model, texture, score, thresholds, min(fresh, 1_000), 1.1)
    alarms = list(zip(calibrated.rates, shares.tolist(), calibrated.rate_lower, calibrated.rate_upper, strict=True))
    default = list(calibrated.rates).index(calibrated.default_rate)
    found = Measured(by_kind, baseline, named, fresh, alarms, float(drifted[default]))
    (run / FILE).write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    return found


def auroc(masks: np.ndarray, maps: np.ndarray) -> float:
    """Area under the ROC curve of all pixels."""
    return float(cast("Any", roc_auc_score)(masks.ravel(), maps.ravel()))


def principal_components(texture: str, images: np.ndarray, masks: np.ndarray) -> tuple[float, str]:
    """The best pixel AUROC of smoothed errors of principal components, over patches, components and smoothings."""
    train = textures.normals(texture, Stream.TRAIN, 0, 200)[..., 0].astype(np.float32) / 255
    seen = images[..., 0].astype(np.float32) / 255
    best, named = 0.0, ""
    for side in _PATCHES:
        for count, errors in _errors(train, seen, side):
            for sigma in _SMOOTHED:
                found = auroc(masks, np.stack([gaussian_filter(each, sigma) for each in errors]))
                if found > best:
                    what = f"patches of {side}x{side}" if side else "whole images"
                    best, named = found, f"{count} components of {what}, Gaussian of {sigma:g} pixels"
    return best, named


def _errors(train: np.ndarray, seen: np.ndarray, side: int) -> Sequence[tuple[int, np.ndarray]]:
    """Squared errors (N, H, W) of images for each number of components, of patches side by side or of the whole."""
    side = side or SIDE
    rows = _patches(train, side)[0]
    rows = rows[:: max(1, len(rows) // 20_000)]
    mean = rows.mean(0)
    axes = np.linalg.svd(rows - mean, full_matrices=False)[2]
    patches, places = _patches(seen, side)
    found: list[tuple[int, np.ndarray]] = []
    for count in _COMPONENTS:
        leading = axes[:count]
        drawn = ((patches - mean) @ leading.T @ leading + mean).reshape(len(seen), len(places), side, side)
        total, weights = np.zeros_like(seen), np.zeros_like(seen[0])
        for number, (top, left) in enumerate(places):
            total[:, top : top + side, left : left + side] += drawn[:, number]
            weights[top : top + side, left : left + side] += 1
        found.append((count, np.square(total / weights - seen)))
    return found


def _patches(images: np.ndarray, side: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Patches (N * P, side * side) of images (N, H, W), and the places (P) that they are from."""
    starts = range(0, SIDE - side + 1, _STEP)
    places = [(top, left) for top in starts for left in starts]
    cut = [images[:, top : top + side, left : left + side] for top, left in places]
    return np.stack(cut, 1).reshape(-1, side * side), places


def _alarms(
    model: Any,  # noqa: ANN401 (a Network that detects)
    texture: str,
    score: Any,  # noqa: ANN401 (max or mean)
    thresholds: np.ndarray,
    count: int,
    gain: float,
) -> np.ndarray:
    """Shares of fresh normal images whose score is above each threshold."""
    above = np.zeros(len(thresholds))
    for first in range(0, count, _FRESH_AT_ONCE):
        images = textures.normals(texture, Stream.FRESH, first, min(_FRESH_AT_ONCE, count - first), gain=gain)
        for maps in detection.maps(model, images):
            above += (scores_of(maps, score)[:, np.newaxis] > thresholds).sum(0)
    return above / count

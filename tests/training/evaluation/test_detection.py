import dataclasses

import numpy as np
import pytest
import torch
from autoencoder.v1.anomaly_maps import scores_of

from bundle.detection import calibrate
from training.config import Architecture
from training.data.dataset import Dataset
from training.data.defects.inspection import Inspection
from training.data.split import Split
from training.errors import UnavailableError
from training.evaluation import detection
from training.evaluation.notes import Notes
from training.models import autoencoders, initial_weights
from training.models.families import Network

SIDE = 24


def detector(score: str = "max") -> Network:
    settings = {"family": "detector", "body": "residual", "channels": [4, 6], "score": score, "smoothing": 1.0}
    model = autoencoders.build(Architecture.model_validate(settings), (0, 0, 1))
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def inspected(count: int = 30, side: int = SIDE) -> Dataset:
    """Grey noise; a bright square is a defect."""
    source = np.random.default_rng(0)
    normal, test = source.integers(90, 110, (2, count, side, side, 1), dtype=np.uint8)
    masks = np.zeros((count, side, side), bool)
    masks[::2, 6:12, 6:12] = True
    test[masks] = 250
    judged = Inspection(normal, test, masks.any((1, 2)), ("square", "good") * (count // 2), masks)
    split = Split(normal, None)
    return Dataset("made", split, split, split, inspection=judged)


@pytest.mark.parametrize("score", ["max", "mean"])
def test_held_out_scores_are_those_of_whole_maps(score: str) -> None:
    model, data = detector(score), inspected(side=26)
    found = detection.held_out_scores(model, data)
    maps = np.concatenate(list(detection.maps(model, data.validation.images)))
    assert maps.shape == (30, 26, 26)
    np.testing.assert_array_equal(found.scores, scores_of(maps, model.detection_score))
    np.testing.assert_array_equal(found.maxima, maps.max((1, 2)))
    assert (found.map_low, found.size) == (pytest.approx(np.median(maps), abs=1e-5), (26, 26))


def test_every_measure_of_labelled_images_with_masks() -> None:
    model, data = detector(), inspected()
    held_out, notes = detection.held_out_scores(model, data), Notes()
    figures = detection.measure(model, data, held_out, notes)
    assert set(figures) == {"image_auroc", "f1", "false_alarms", "pixel_auroc", "pro"}
    assert all(0 <= value <= 1 for value in figures.values())
    assert notes.sentences == []
    assert data.inspection is not None
    found = detection.find(model, data.inspection.test, held_out)
    calibrated = calibrate(held_out, "max")
    assert found.threshold in calibrated.thresholds
    assert (found.scores > found.threshold)[1::2].mean() == figures["false_alarms"]


def test_what_is_missing_is_left_out_with_a_sentence() -> None:
    model, data = detector(), inspected()
    held_out, notes = detection.held_out_scores(model, data), Notes()
    few = dataclasses.replace(held_out, scores=held_out.scores[:5], maxima=held_out.maxima[:5])
    without_masks = dataclasses.replace(data, inspection=dataclasses.replace(data.inspection, masks=None))
    assert set(detection.measure(model, without_masks, few, notes)) == {"image_auroc"}
    assert notes.sentences == [
        "f1, false_alarms: left out, because 5 calibration images tell no threshold",
        "pixel_auroc, pro: left out, because there are no masks of the defects",
    ]
    with pytest.raises(UnavailableError, match="no test images are known as normal or defective"):
        detection.measure(model, dataclasses.replace(data, inspection=None), held_out, notes)


def test_per_region_overlap_counts_regions_alike() -> None:
    masks = np.zeros((1, 20, 20), bool)
    masks[0, :10, :10], masks[0, 15:17, 15:17] = True, True
    noise = np.random.default_rng(0).random((1, 20, 20)) / 2
    perfect = np.where(masks, 1.0, noise)
    assert detection.per_region_overlap(perfect, masks) == pytest.approx(1)
    half = perfect.copy()
    half[0, 15:17, 15:17] = -1
    assert detection.per_region_overlap(half, masks) == pytest.approx(0.5)
    # Of a map that knows nothing, the overlap is the share of false positives.
    blind = np.random.default_rng(1).random((40, 20, 20))
    assert detection.per_region_overlap(blind, np.repeat(masks, 40, 0)) == pytest.approx(0.15, abs=0.01)

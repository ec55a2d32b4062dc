import json
from pathlib import Path

import numpy as np
from PIL import Image

from training import checkpoint
from training.__main__ import main

SIDE = 32


def photographs(place: Path, count: int, source: np.random.Generator, *, spoilt: bool = False) -> None:
    place.mkdir(parents=True)
    for number in range(count):
        pixels = 120 + 30 * np.sin(np.arange(SIDE) / 2 + source.uniform(0, 6))[:, np.newaxis] + np.zeros((SIDE, SIDE))
        pixels += source.normal(0, 4, pixels.shape)
        if spoilt:
            pixels[8:20, 10:22] = 240
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")


def test_a_folder_of_normal_images_becomes_a_calibrated_detector(tmp_path: Path) -> None:
    source, data = np.random.default_rng(0), tmp_path / "data"
    photographs(data / "train" / "good", 30, source)
    photographs(data / "val" / "good", 20, source)
    photographs(data / "test" / "good", 6, source)
    photographs(data / "test" / "dent", 6, source, spoilt=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:20, 10:22] = 255
    truth = data / "ground_truth" / "dent"
    truth.mkdir(parents=True)
    for number in range(6):
        Image.fromarray(mask).save(truth / f"{number}_mask.png")
    settings = ("data.grey=true", "data.crop=32", "model.channels=[8,12]", "run.batch_size=10")
    words = [word for each in settings for word in ("--set", each)]
    run = tmp_path / "run"
    assert main(["defects", "--data-dir", str(data), "--out", str(run), "--epochs", "2", *words]) == 0
    trained = checkpoint.load(run)
    assert trained.held_out_scores is not None
    assert len(trained.held_out_scores.scores) == 20
    assert trained.held_out_scores.size == (SIDE, SIDE)
    figures = trained.meta["metrics"]
    assert {"image_auroc", "pixel_auroc", "pro", "f1", "false_alarms"} <= figures.keys()
    assert "![defects](defects.png)" in (run / "report.md").read_text()
    assert (run / "defects.png").stat().st_size > 10_000
    assert json.loads((run / "best" / "checkpoint.json").read_text())["config"]["data"]["normal"] == "good"


def test_one_digit_is_told_from_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--set", "data.normal=0", "--set", "model.hidden=[64]", "--set", "run.batch_size=32"]
    assert main(["one-class", "--data", "digits", "--out", str(run), "--epochs", "30", *words]) == 0
    figures = checkpoint.load(run).meta["metrics"]
    assert figures["image_auroc"] > 0.95
    assert "pixel_auroc" not in figures

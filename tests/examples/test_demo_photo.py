"""The photo demo, as `make demo-photo` runs it but for the minutes, and its picture."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import demo_photo
from examples.demo_photo_picture import Panel, draw


def test_what_is_shown_lies_within_the_photographs() -> None:
    for clean, (rows, columns) in zip(demo_photo.photographs(), demo_photo.SHOWN, strict=True):
        shown = demo_photo.cut(Panel("", "", clean), rows, columns).image
        assert shown.shape == (256, 320, 3)
        assert shown.std() > 0.1


def test_the_picture_has_a_panel_for_each_image(tmp_path: Path) -> None:
    shades = [np.full((256, 320, 3), shade, np.float32) for shade in (0.2, 0.4, 0.6, 0.8)]
    draw([[Panel("label", "note", shade) for shade in shades]] * 2, tmp_path / "demo.png")
    found = np.asarray(Image.open(tmp_path / "demo.png").convert("L"))
    for shade in (0.2, 0.4, 0.6, 0.8):
        assert (found == round(shade * 255)).mean() > 0.15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_from_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    assert demo_photo.main(["--minutes", "0.2", *folders]) == 0
    printed = capfd.readouterr().out
    assert len(re.findall(r"^  Hourglass +\d+\.\d dB, \d+\.\d s$", printed, re.MULTILINE)) == 2
    with Image.open(tmp_path / "runs" / "demo-photo" / "demo.png") as picture:
        assert picture.size[0] > 2_000


def test_a_failed_step_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo_photo.main(["--minutes", "-1", "--runs", str(tmp_path), "--models", str(tmp_path / "models")]) == 1
    assert re.search(r"demo: `python -m training photo-denoiser .*` failed with exit code 2", capfd.readouterr().err)

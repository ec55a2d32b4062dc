from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import demo_defects


@pytest.mark.slow
def test_the_demo_trains_serves_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--epochs", "1", "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    assert demo_defects.main(words) == 0
    printed = capsys.readouterr().out
    assert "images        number   alarms at 10%   alarms at 1%" in printed
    assert all(kind in printed for kind in ("good", "foreign", "blur", "scratch", "stain"))
    pixels = np.asarray(Image.open(tmp_path / "runs" / "demo" / "demo-defects.png").convert("L"))
    assert pixels.std() > 10


def test_a_step_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_defects.main(["--epochs", "-1", "--runs", str(tmp_path)]) == 1
    assert "demo: `python -m training defects" in capsys.readouterr().err

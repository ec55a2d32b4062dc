"""Files and output of the demo; the fixture `demo` asserts that it finishes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import demo as program
from tests.conftest import Demo

# The first test here waits for the whole demo.
pytestmark = pytest.mark.timeout(1200)
RECIPES = ("denoiser", "fc-ae", "vae")


def test_picture_shows_something(demo: Demo) -> None:
    pixels = np.asarray(Image.open(demo.runs / "demo" / "demo.png").convert("L"))
    assert min(pixels.shape) > 800
    assert (pixels < 64).mean() > 0.01
    assert (pixels > 250).mean() > 0.3


def test_checkpoints_and_models_are_where_the_readme_says(demo: Demo) -> None:
    assert all((demo.runs / recipe / "best" / "checkpoint.json").is_file() for recipe in RECIPES)
    models = {path.parent.relative_to(demo.models).as_posix() for path in demo.models.glob("**/model.json")}
    assert models == {f"{recipe}/1" for recipe in RECIPES}


def test_table_names_every_method_with_its_latency(demo: Demo) -> None:
    rows = re.findall(r"^(\w+) +([a-z-]+) +(\d+\.\d\d)   \S", demo.output, re.MULTILINE)
    assert {(method, model) for method, model, _ in rows} == {
        ("Encode", "fc-ae"),
        ("Decode", "fc-ae"),
        ("Reconstruct", "fc-ae"),
        ("Reconstruct", "vae"),
        ("Denoise", "denoiser"),
        ("Sample", "vae"),
        ("Sample", "fc-ae"),
    }
    assert all(float(milliseconds) > 0 for _, _, milliseconds in rows)
    assert str(demo.runs / "demo" / "demo.png") in demo.output


def test_failed_step_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models")]
    assert program.main(["--data", "mnist", "--data-dir", str(tmp_path / "nowhere"), *folders]) == 1
    errors = capfd.readouterr().err
    assert "nowhere" in errors
    assert re.search(r"demo: `python -m training fc-ae .*` failed with exit code 2; see its message above", errors)
    assert not (tmp_path / "models").exists()


def test_mnist_without_its_folder_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--data", "mnist"])
    assert ended.value.code == 2
    assert "--data-dir" in capsys.readouterr().err

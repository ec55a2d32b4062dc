import re
import subprocess
import sys
from pathlib import Path

import bundles
import pytest

from export.__main__ import main


def test_it_shows_what_is_inside(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundles.GOLDEN / "multitask/1")]) == 0
    text = capsys.readouterr().out
    assert "multitask version 1: family multitask, exported, not signed" in text
    assert "left, middle, right" in text
    assert "Classify" in text
    assert "in   images uint8 (batch, 8, 8, 3)" in text
    assert "out  log_variances float32 (batch, 3)" in text
    assert "Softmax" in text
    assert "golden.npz" in text


def test_it_shows_sizes_noise_levels_and_tiles(free_version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(free_version)]) == 0
    text = capsys.readouterr().out
    assert "any size from 1 x 1 to 16,777,216 pixels, padded to multiples of 2, x 1" in text
    assert "0 to 0.25, 0.1 by default" in text
    assert "in   images float32 (batch, any, any, 1)" in text
    assert "run in tiles of 64 beyond that size, halo 10, with the bits of the whole" in text


def test_it_shows_rates_with_their_thresholds(detecting_version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(detecting_version)]) == 0
    text = capsys.readouterr().out
    assert "the max of a map, calibrated on 40 images of 8 x 10; one false alarm in" in text
    line = next(each for each in text.splitlines() if each.strip().startswith("20 images"))
    assert re.search(r"scores above 0\.9\d+, maps above 0\.9\d+ \(.* in 0\.00081 … 0\.22\), by default", line)
    assert "out  maps float32 (batch, 8, 10, 1)" in text


def test_a_calibration_that_contradicts_itself_is_exit_code_2(
    detecting_version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles.change_model(detecting_version, lambda model: model.detection.rates.pop())
    assert main(["inspect", str(detecting_version)]) == 2
    assert (
        "detection: expected as many thresholds and interval ends as rates, got [1, 2, 2, 2, 2]"
        in capsys.readouterr().err
    )


def test_the_reader_may_close_the_pipe_early() -> None:
    command = f"{sys.executable} -m export inspect {bundles.GOLDEN / 'vae/1'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("damage", ["no version", "changed file"])
def test_bad_input_is_exit_code_2(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundles.copied("vae", tmp_path)
    (folder / ("model.json" if damage == "no version" else "decode.onnx")).unlink()
    assert main(["inspect", str(folder)]) == 2
    assert "expected a readable file" in capsys.readouterr().err

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.conftest import write_idx
from training.__main__ import main

QUICK = ["--epochs", "1", "--set", "run.batch_size=512"]


def test_a_run_ends_well_and_prints_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fc-ae", "--data", "digits", "--out", str(tmp_path / "run"), "--seed", "3", *QUICK]) == 0
    assert "bce_per_pixel" in capsys.readouterr().out
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "no recipe 'nope'"),
        (["vae", "--data", "nope"], "no data set 'nope'"),
        (["vae", "--data", "mnist"], "--data-dir"),
        (["vae", "--data", "mnist", "--data-dir", "/nonexistent"], "no train-images-idx3-ubyte"),
        (["vae", "--epochs", "0"], "run.epochs"),
        (["vae", "--seed", "-1"], "run.seed"),
        (["vae", "--set", "run.speed=3"], "run.speed"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_files_that_are_not_mnist_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_idx(tmp_path)
    assert main(["vae", "--data", "mnist", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_unwritable_folder_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["vae", "--out", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "vae", "--out", str(tmp_path), "--epochs", "10000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while process.poll() is None and not (tmp_path / "metrics.jsonl").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"go on with --resume" in errors
    assert (tmp_path / "latest" / "state.pt").is_file()

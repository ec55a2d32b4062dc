import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.conftest import write_idx
from training.__main__ import OTHER_COMMANDS, main
from training.commands import COMMANDS

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


def test_a_log_in_a_file_has_a_line_for_each_epoch_and_no_progress_bar(tmp_path: Path) -> None:
    # A folder whose name is no text must not fail the run at its last line, which names it.
    out = os.fsencode(tmp_path) + b"/r\xfcn"
    command = [sys.executable, "-m", "training", "fc-ae", "--out", out, *QUICK, "--epochs", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\r" not in ended.stderr
    lines = ended.stderr.splitlines()
    epochs = [
        line
        for line in lines
        if re.match(r"epoch \d/3: train [\d.]+, validation [\d.]+ nats per image, [\d.]+ s$", line)
    ]
    assert len(epochs) == 3
    assert lines[lines.index(epochs[-1]) + 1] == "evaluating epoch 3 on 297 test images"
    assert re.match(r"evaluation and pictures took [\d.]+ s; read .*report.md$", lines[-1])
    assert len(ended.stdout.splitlines()) == 1


def test_help_lists_recipes_with_what_they_are_for_and_loads_no_torch() -> None:
    code = "import sys, training.__main__ as m\ntry: m.main(['--help'])\nfinally: print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^  vae-2d +Variational autoencoder with a code of two numbers", printed, re.MULTILINE)
    assert printed.splitlines()[-1] == "False"
    assert set(OTHER_COMMANDS) == COMMANDS.keys()


def test_memory_that_runs_out_is_one_sentence_and_what_was_saved_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["conv-ae", "--out", str(tmp_path), "--epochs", "1", "--set", "model.channels=[512, 8]"]
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # A step of 1,350 images takes 2 GiB for the first convolution alone.
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, limits[1]))
    try:
        assert main([*words, "--set", "run.batch_size=2000"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("error: there is not enough memory; try a smaller run.batch_size")
    )
    assert (tmp_path / "latest" / "state.pt").is_file()


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

import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import idx_bytes, write_idx
from tests.training.data.test_arrays import noise
from tests.training.data.test_folders import paint
from training.__main__ import OTHER_COMMANDS, main
from training.commands import COMMANDS
from training.data import idx, kinds

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
        (["vae", "--data-dir", "/nonexistent"], "/nonexistent does not exist: check --data-dir"),
        (["vae", "--data-dir", "/" + "x" * 300], "cannot be read (File name too long)"),
        (["vae", "--data-dir", os.devnull], "cannot tell what /dev/null is"),
        (["vae", "--data", "digits", "--data-dir", "mine"], "digits come with scikit-learn and need no files"),
        (["vae", "--set", "data.folder=mine"], "digits come with scikit-learn and need no files"),
        (["vae", "--data", "npz", "--set", "data.size=8"], "data.size has no effect on --data npz"),
        (["vae", "--set", "data.grey=true"], "data.grey has no effect on --data digits"),
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
    errors = capsys.readouterr().err
    assert "is an IDX file, but not MNIST's (expected SHA-256" in errors
    assert "read it with --data idx" in errors


@pytest.mark.parametrize("kind", ["folder", "npz", "idx"])
def test_the_kind_is_inferred_from_what_lies_there_and_one_class_is_no_food_for_a_classifier(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    place = tmp_path / "data"
    place.mkdir()
    if kind == "folder":
        paint(place, ("all",))
    elif kind == "idx":
        (place / "images.idx3-ubyte").write_bytes(idx_bytes(noise(), 2051))
        (place / "labels.idx1-ubyte").write_bytes(idx_bytes(np.full(30, 3), 2049))
    else:
        place /= "x.npz"
        np.savez(place, images=noise(), labels=np.zeros(30, int))
    assert main(["multitask-vae", "--data-dir", str(place), "--out", str(tmp_path / "run")]) == 2
    assert f"{place} is read as --data {kind}" in caplog.text
    assert "needs labelled images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_files_of_mnist_are_known_by_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, compressed=False)
    name = "t10k-labels-idx1-ubyte"
    known = idx.Checksums("MNIST", "MNIST", {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()})
    monkeypatch.setitem(idx.CHECKSUMS, "mnist", known)
    assert kinds.resolve(None, tmp_path) == "mnist"
    monkeypatch.undo()
    assert kinds.resolve(None, tmp_path) == "idx"


def test_a_place_of_several_kinds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path, count=1)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((20, 4, 4)), 2051))
    assert main(["vae", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "it could be idx or folder: give its kind with --data" in capsys.readouterr().err


def test_the_kind_of_a_recipe_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path("training/recipes/fc-ae.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(recipe + '\n[data]\nkind = "npz"\n', encoding="utf-8")
    assert main([str(tmp_path / "own.toml"), "--out", str(tmp_path / "run")]) == 2
    assert "npz needs the location of its files" in capsys.readouterr().err


def test_the_last_setting_of_the_kind_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path("training/recipes/fc-ae.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(recipe + "\n[on.npz.run]\nseed = -1\n", encoding="utf-8")
    words = ["--set", "data.kind=digits", "--set", "data.kind=npz"]
    assert main([str(tmp_path / "own.toml"), "--data", "mnist", *words, "--out", str(tmp_path / "run")]) == 2
    assert "run.seed" in capsys.readouterr().err


def test_a_run_on_one_class_has_its_report(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=noise(60, 16), labels=np.full(60, 3))
    source = ["--data", "npz", "--data-dir", str(tmp_path / "x.npz")]
    assert main(["vae", *source, "--out", str(tmp_path / "vae"), *QUICK]) == 0
    assert (tmp_path / "vae" / "report.md").is_file()


def test_names_of_classes_that_are_no_text_reach_the_report(tmp_path: Path) -> None:
    paint(tmp_path / "data", (os.fsdecode(b"r\xfcnd"), "ründ"), 30)
    source = ["--data", "folder", "--data-dir", str(tmp_path / "data"), "--set", "data.grey=true"]
    assert main(["multitask-vae", *source, "--out", str(tmp_path / "run"), *QUICK]) == 0
    assert (tmp_path / "run" / "report.md").is_file()
    assert "r\\\\xfcnd" in (tmp_path / "run" / "best" / "checkpoint.json").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("phase", ["read_all", "finalize"])
def test_ctrl_c_while_images_are_read_or_evaluated_ends_at_once(
    phase: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fc-ae", "--out", str(tmp_path / "run"), *QUICK]
    if phase == "read_all":
        # Decoded, they take about half a minute.
        folder = tmp_path / "images"
        paint(folder, ("",), 1, 1000)
        for number in range(1, 2000):
            (folder / f"{number}.png").hardlink_to(folder / "0.png")
        words += ["--data-dir", str(folder), "--set", "data.size=16"]
    with pressed_within(phase):
        assert main(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: interrupted; what was saved is kept, and --resume goes on with it"
    )
    assert not (tmp_path / "run" / "report.md").exists()
    assert (tmp_path / "run" / "best" / "model.safetensors").exists() == (phase == "finalize")


@contextmanager
def pressed_within(function: str) -> Generator[None]:
    """Ctrl-C as soon as the main thread is in a function of this name."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            frames = traceback.walk_stack(sys._current_frames().get(threading.main_thread().ident or 0))
            if any(frame.f_code.co_name == function for frame, _ in frames):
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()

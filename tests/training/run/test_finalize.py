"""A run is not lost at its end: what cannot be measured or drawn is left out, and the report says so."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import quick
from training import checkpoint
from training.__main__ import main
from training.data.dataset import Dataset
from training.data.split import Split
from training.evaluation import latent_statistics
from training.run.finalize import finalize
from training.train import train


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def trained(tmp_path: Path, recipe: str, *words: str, **arrays: np.ndarray) -> int:
    np.savez(tmp_path / "data.npz", **arrays)
    source = ["--data", "npz", "--data-dir", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    return main([recipe, *source, "--epochs", "1", *words])


@pytest.mark.parametrize(
    ("recipe", "images", "classes", "note", "missing"),
    [
        ("fc-ae", (18, 16, 16), 2, "pca_knn_accuracy: by 16 components instead of 32", "nothing"),
        ("fc-ae", (10, 16, 16), 2, "by 8 components instead of 32", "nothing"),
        ("vae-2d", (10, 16, 16), 3, "a spread needs at least two test images, got 1", "active_units"),
        ("vae-2d", (40, 1, 128), 0, "ssim: left out, because its window needs images of at least 6", "ssim"),
        ("denoiser", (40, 5, 5), 4, "ssim: left out, because its window needs images of at least 6", "ssim"),
        ("conv-ae", (12, 3, 40, 3), 0, "ssim: left out", "ssim"),
    ],
)
def test_small_data_leave_out_what_they_cannot_have(
    recipe: str, images: tuple[int, ...], classes: int, note: str, missing: str, tmp_path: Path
) -> None:
    labels = {"labels": np.arange(images[0]) % classes} if classes else {}
    assert trained(tmp_path, recipe, images=pixels(*images), **labels) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    meta = checkpoint.load(tmp_path / "run").meta
    assert any(note in each for each in meta["notes"])
    assert note in report
    assert {"mse", "psnr"} <= meta["metrics"].keys()
    assert missing not in meta["metrics"]
    assert (tmp_path / "run" / "reconstructions.png").is_file()
    # Nothing but JSON's own numbers: no NaN, no Infinity.
    json.loads((tmp_path / "run" / "best" / "checkpoint.json").read_text(), parse_constant=pytest.fail)


def test_a_run_that_an_earlier_release_lost_at_its_end_is_resumed(tmp_path: Path) -> None:
    words = "fc-ae", "--set", "run.batch_size=8"
    data = {"images": pixels(18, 16, 16), "labels": np.arange(18) % 2}
    assert trained(tmp_path, *words, **data) == 0
    run = tmp_path / "run"
    # As such a run stands: trained, and nothing of what follows.
    meta = json.loads((run / "best" / "checkpoint.json").read_text())
    meta["metrics"] = {name: value for name, value in meta["metrics"].items() if name.startswith("validation_")}
    del meta["notes"]
    (run / "best" / "checkpoint.json").write_text(json.dumps(meta))
    weights = (run / "best" / checkpoint.WEIGHTS).read_bytes()
    for path in [run / "report.md", run / "best" / "latents.npz", *run.glob("*.png")]:
        path.unlink()
    assert trained(tmp_path, *words, "--resume", **data) == 0
    assert (run / "report.md").is_file()
    assert (run / "best" / checkpoint.WEIGHTS).read_bytes() == weights
    assert checkpoint.load(run).latents is not None


def test_codes_whose_statistics_do_not_fit_into_memory_cost_only_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_statistics, "available_memory", lambda: 2**20)
    assert trained(tmp_path, "conv-ae", "--set", "model.channels=[8]", images=pixels(12, 16, 16)) == 0
    loaded, report = checkpoint.load(tmp_path / "run"), (tmp_path / "run" / "report.md").read_text()
    assert loaded.latents is None
    assert "which Sample, drift metrics and attributes need: left out, because statistics of 10 codes of 512" in report
    assert "model.latent_size" in report
    assert "samples.png: left out, because samples need the mixture" in report
    assert {path.stem for path in (tmp_path / "run").glob("*.png")} == {"losses", "reconstructions", "interpolations"}


def test_names_of_classes_that_a_font_or_a_formula_would_refuse_are_drawn(
    tmp_path: Path, digits_named: Callable[[tuple[str, ...]], Dataset]
) -> None:
    folder, settings = tmp_path / "run", quick("vae", "run.epochs=1", "model.hidden=[8]")
    train(settings, folder)
    names = ("$a_$", "_hidden", "漢字", "x" * 300, "a\nb", "é", "", "\N{GRINNING FACE}", "%s", "\\frac")
    finalize(settings, digits_named(names), folder)
    assert (folder / "latents.png").is_file()
    assert "left out" not in (folder / "report.md").read_text()


@pytest.fixture
def digits_named() -> Callable[[tuple[str, ...]], Dataset]:
    def named(classes: tuple[str, ...]) -> Dataset:
        images, labels = pixels(60, 28, 28, 1), np.arange(60) % 10
        splits = [Split(images[first::3], labels[first::3]) for first in range(3)]
        return Dataset("named", *splits, classes, 60)

    return named


def test_a_collapsed_posterior_is_noted_with_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train(quick("vae", "run.batch_size=64", "model.hidden=[16]", "loss.beta=1000"), tmp_path)
    assert "posterior collapse" in caplog.text
    assert (
        "lower loss.beta (now 1000), raise loss.warm_up_epochs, or train for longer"
        in (tmp_path / "report.md").read_text()
    )


def test_a_report_of_ones_own_data_promises_nothing_of_mnist(tmp_path: Path) -> None:
    words = "denoiser", "--set", "loss.noise=0.1"
    assert trained(tmp_path, *words, images=pixels(30, 8, 8)) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "test images of 8x8x1" in report
    for absent in ("expected", "MNIST", "Reference", "at_noise"):
        assert absent not in report
    assert "| measure | value |\n" in report

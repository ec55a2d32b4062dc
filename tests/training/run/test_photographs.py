"""Runs on crops of photographs, with codes whose size follows the image's, from the first step to the report."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import checkpoint
from training.__main__ import main
from training.checkpoint import Checkpoint

SMALL = ["--set", "model.channels=[4, 6]", "--set", "run.batch_size=8", "--epochs", "1"]


def smooth(folder: Path) -> str:
    """Photographs of unlike sizes, of waves, in a folder of their own."""
    folder = folder / "photographs"
    folder.mkdir()
    for number in range(10):
        rows, columns = np.mgrid[: 50 + 7 * number, : 70 - 3 * number] / (3 + number)
        pixels = 128 + 100 * np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return str(folder)


def trained(recipe: str, folder: Path, *words: str) -> Checkpoint:
    source = ["--data", "folder", "--data-dir", smooth(folder), "--out", str(folder / "run")]
    assert main([recipe, *source, *SMALL, "--set", "data.crop=16", *words]) == 0
    return checkpoint.load(folder / "run")


@pytest.mark.parametrize("recipe", [pytest.param("photo-ae", marks=pytest.mark.slow), "photo-vae"])
def test_a_run_on_crops_says_what_it_takes_and_compares_itself_with_principal_components(
    recipe: str, tmp_path: Path
) -> None:
    loaded = trained(recipe, tmp_path)
    assert (loaded.model.image_shape, loaded.model.latent_shape) == ((0, 0, 3), (0, 0, 12))
    assert loaded.reference.images.shape[1:] == (16, 16, 3)
    assert loaded.latents is not None
    assert loaded.latents.latent_size == 12
    assert not len(loaded.latents.mixture_weights)
    assert {"psnr", "ssim", "mse", "pca_psnr"} <= loaded.meta["metrics"].keys()
    report = (tmp_path / "run" / "report.md").read_text()
    assert "of 16x16x3, a code of 192 numbers (4x4x12)" in report
    assert "MNIST" not in report
    pictures = {path.stem for path in (tmp_path / "run").glob("*.png")}
    assert pictures >= {"losses", "reconstructions", "latents", "interpolations"}
    assert ("samples" in pictures) == ("kl" in pictures) == (recipe == "photo-vae")


@pytest.mark.slow
def test_a_spatial_code_of_fixed_size_has_statistics_of_the_whole_and_samples(tmp_path: Path) -> None:
    loaded = trained("photo-ae", tmp_path, "--set", "data.crop=0", "--set", "data.size=16")
    assert (loaded.model.image_shape, loaded.model.latent_shape) == ((16, 16, 3), (4, 4, 12))
    assert loaded.latents is not None
    assert loaded.latents.latent_size == 192


@pytest.mark.slow
def test_a_run_on_crops_is_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    loaded = trained("photo-vae", tmp_path)
    weights = (tmp_path / "run" / "best" / checkpoint.WEIGHTS).read_bytes()
    source = ["--data", "folder", "--data-dir", str(tmp_path / "photographs"), "--set", "data.crop=16"]
    assert main(["photo-vae", *source, "--out", str(tmp_path / "run"), *SMALL, "--overwrite"]) == 0
    assert (tmp_path / "run" / "best" / checkpoint.WEIGHTS).read_bytes() == weights
    assert main(["photo-vae", *source, "--out", str(tmp_path / "run"), *SMALL, "--resume"]) == 0
    assert main(["attributes", str(tmp_path / "run"), "--data-dir", str(tmp_path / "photographs")]) == 0
    directions = checkpoint.load(tmp_path / "run").latents
    assert directions is not None
    assert directions.attribute_directions.shape == (2, loaded.model.latent_shape[-1])


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("photo-ae", ["data.crop=18"], "multiple of 4 pixels, got 18x18"),
        ("photo-ae", ["data.crop=64"], "data.crop=64 is larger than an image"),
        ("photo-ae", ["data.crop=16", "model.latent_size=3"], "latent_channels 12 and latent_size 3"),
        ("photo-ae", ["data.crop=16", "model.family=multitask"], "multitask needs a vector code"),
        ("photo-ae", ["data.crop=16", "loss.likelihood=bernoulli"], "the network returns pixels"),
        ("conv-ae", ["data.crop=16", "model.latent_channels=3"], "model.latent_channels has no effect with model.body"),
        ("conv-ae", ["data.flips=all", "data.size=16"], "data.flips has no effect without data.crop"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    recipe: str, settings: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for each in ["model.channels=[4, 6]", *settings] for word in ("--set", each)]
    source = ["--data", "folder", "--data-dir", smooth(tmp_path), "--out", str(tmp_path / "run")]
    assert main([recipe, *source, *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()

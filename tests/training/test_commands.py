import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import quick
from tests.training.data.test_folders import paint
from training import checkpoint
from training.__main__ import main
from training.data import dataset
from training.evaluation import image_measures
from training.evaluation.notes import Notes
from training.figures import latents
from training.train import train


def test_evaluating_again_gives_the_figures_of_the_checkpoint(
    vae_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(vae_run)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    stored = checkpoint.load(vae_run).meta["metrics"]
    assert printed.keys() == {name for name in stored if not name.startswith("validation_")}
    for name, value in printed.items():
        assert float(value) == pytest.approx(stored[name], rel=1e-4), name


def test_the_likelihood_is_measured_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(quick("vae-nll", "run.epochs=1", "evaluation.nll_samples=0"), tmp_path)
    assert "nll" not in checkpoint.load(tmp_path).meta["metrics"]
    assert main(["evaluate", str(tmp_path), "--nll-samples", "20"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert 0 < float(printed["nll"]) < float(printed["elbo_loss"])


def test_the_mutual_information_gap_is_measured_when_asked_for(
    vae_run: Path, denoiser_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mig" not in checkpoint.load(vae_run).meta["metrics"]
    assert main(["evaluate", str(vae_run), "--disentanglement"]) == 0
    printed = {name: float(value) for name, value in map(str.split, capsys.readouterr().out.splitlines())}
    gaps = [printed[f"mig_{name}"] for name in ("thickness", "slant", "class")]
    assert all(0 <= gap < 1 for gap in gaps)
    assert printed["mig"] == pytest.approx(np.mean(gaps), abs=1e-5)
    assert main(["evaluate", str(denoiser_run), "--disentanglement"]) == 2
    assert "needs a variational model" in capsys.readouterr().err


def test_a_denoiser_is_measured_at_the_published_noise_too(denoiser_run: Path) -> None:
    trained = checkpoint.load(denoiser_run)
    other = quick("denoiser", "loss.noise=0.4")
    found = image_measures.per_image(trained.model, dataset.digits().test, other, Notes())
    for name in ("bce_per_pixel", "psnr"):
        assert trained.meta["metrics"][f"{name}_at_noise_0.4"] == pytest.approx(found[name], rel=1e-6)
        assert found[name] != pytest.approx(trained.meta["metrics"][name], rel=1e-3)


def test_a_vae_of_grey_images_has_the_likelihood_of_pixels_drawn_from_them(
    vae_run: Path, denoiser_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(vae_run), "--nll-samples", "20"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert 0 < float(printed["nll"]) < float(printed["elbo_loss"])
    assert main(["evaluate", str(denoiser_run), "--nll-samples", "20"]) == 2
    assert "needs a variational model" in capsys.readouterr().err


def test_a_missing_checkpoint_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "attributes"):
        assert main([command, str(tmp_path)]) == 2
        assert "no checkpoint in" in capsys.readouterr().err


def test_other_data_than_those_of_the_checkpoint_are_named_with_advice(
    vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(vae_run, tmp_path / "run")
    path = tmp_path / "run" / "best" / checkpoint.META
    path.write_text(path.read_text().replace(checkpoint.read_meta(path.parent)["data"]["sha256"], "0" * 64))
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path / 'run'} was trained on other data than digits holds: give the folder of its own with" in errors


def test_attributes_of_classes_with_long_names_have_pictures(tmp_path: Path) -> None:
    # Two of 255 bytes, as many as a folder's name may have, that are alike up to the last.
    classes = "x" * 255, "x" * 250 + "öüz", "short"
    paint(tmp_path / "data", classes)
    source = ["--data-dir", str(tmp_path / "data")]
    words = ["--set", "data.grey=true", "--set", "run.batch_size=50", "--epochs", "1"]
    assert main(["fc-ae", *source, "--out", str(tmp_path / "run"), *words]) == 0
    assert main(["attributes", str(tmp_path / "run"), *source]) == 0
    directions = checkpoint.load(tmp_path / "run").latents
    assert directions is not None
    assert sum("-to-" in name for name in directions.attribute_names) == 3
    assert len([*(tmp_path / "run").glob("attribute-*.png")]) == len(directions.attribute_names)


def test_the_report_names_every_figure_and_shows_the_pictures(vae_run: Path) -> None:
    text = (vae_run / "report.md").read_text()
    for name in checkpoint.load(vae_run).meta["metrics"]:
        assert f"| {name} |" in text
    for name in ("reconstructions", "samples", "latents", "interpolations", "kl", "losses"):
        assert f"({name}.png)" in text
        assert (vae_run / f"{name}.png").is_file()


def test_a_plane_is_drawn_for_two_latents(tmp_path: Path) -> None:
    for recipe in ("vae-2d", "deep-ae-2d"):
        train(quick(recipe, "run.epochs=1"), tmp_path / recipe)
        assert (tmp_path / recipe / "plane.png").is_file()


def test_tensorboard_files_are_written_when_asked_for(tmp_path: Path) -> None:
    train(quick("fc-ae", "run.epochs=1", "output.tensorboard=true"), tmp_path)
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["epoch"] == 1


def test_a_picture_of_codes_shows_every_class(vae_run: Path) -> None:
    trained, digits = checkpoint.load(vae_run), dataset.digits()
    labels = np.arange(len(digits.test)) % 13
    many = dataclasses.replace(
        digits, test=dataclasses.replace(digits.test, labels=labels), classes=tuple("abcdefghijklm")
    )
    assert trained.latents is not None
    axis = latents.scatter("vae", many, trained).axes[0]
    assert sum(len(each.get_offsets()) for each in axis.collections) == len(labels)
    assert "others" in [text.get_text() for text in axis.get_legend().get_texts()]


def test_names_in_a_picture_part_until_they_can_be_read() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [0.05, 0.0], [5.0, 5.0]])
    parted = latents.apart(places, 1.0)
    gaps = np.linalg.norm(parted[:, np.newaxis] - parted, axis=2)[np.triu_indices(4, 1)]
    assert gaps.min() > 0.9
    np.testing.assert_allclose(parted[3], places[3], atol=1e-5)

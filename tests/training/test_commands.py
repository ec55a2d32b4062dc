import json
from pathlib import Path

import pytest

from tests.training.conftest import quick
from training import checkpoint
from training.__main__ import main
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


def test_a_missing_checkpoint_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "attributes"):
        assert main([command, str(tmp_path)]) == 2
        assert "no checkpoint in" in capsys.readouterr().err


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

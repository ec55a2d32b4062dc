import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import quick
from training.config import Config
from training.data import dataset
from training.data.dataset import Dataset
from training.data.split import Split
from training.distributed import ProcessGroup
from training.errors import ConfigError
from training.run import step_memory
from training.train import Trainer


def large(side: int) -> Dataset:
    split = Split(np.zeros((64, side, side, 3), np.uint8), None)
    return Dataset("large", split, split, split, (), 64)


@pytest.mark.parametrize("recipe", ["vae", "conv-ae", "iwae", "vae-gan", "multitask-vae", "denoiser"])
def test_no_recipe_computes_a_step_on_digits_in_parts(recipe: str, tmp_path: Path) -> None:
    config = quick(recipe)
    trainer = Trainer(config, dataset.digits(), tmp_path, ProcessGroup(), threading.Event())
    assert trainer.state.rows_at_once == config.run.batch_size


def test_large_images_take_parts_that_fit(tmp_path: Path) -> None:
    trainer = Trainer(quick("conv-ae", "run.batch_size=64"), large(256), tmp_path, ProcessGroup(), threading.Event())
    assert 4 <= trainer.state.rows_at_once < 64


def test_images_that_are_compared_with_each_other_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_memory, "_KEPT_BYTES", 1)
    config = quick("vae", "loss.total_correlation=6")
    with pytest.raises(ConfigError, match=r"expected run.batch_size of at most 1, .* got 256"):
        Trainer(config, dataset.digits(), tmp_path, ProcessGroup(), threading.Event())


@pytest.mark.parametrize("recipe", ["vae", "vae-gan", "denoiser", "iwae"])
def test_parts_give_the_gradient_of_the_whole(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["run.batch_size=64", "loss.importance_samples=3"] if recipe == "iwae" else ["run.batch_size=64"]
    whole, parts = (gradient(quick(recipe, *small), tmp_path / name, monkeypatch, name) for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def gradient(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> list[torch.Tensor]:
    if name == "parts":
        monkeypatch.setattr(step_memory, "_KEPT_BYTES", 1)
    digits = dataset.digits()
    short = dataclasses.replace(digits, train=digits.train.take(slice(64)))
    trainer = Trainer(config, short, folder, ProcessGroup(), threading.Event())
    trainer.directory.open(resume=False, overwrite=False)
    assert trainer.state.rows_at_once == (1 if name == "parts" else 64)
    trainer.step(torch.arange(20))
    return [each.grad for each in trainer.state.model.parameters() if each.grad is not None]

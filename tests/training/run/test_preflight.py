import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import quick
from training.data.dataset import Dataset
from training.data.split import Split
from training.errors import ConfigError
from training.run import preflight
from training.train import train


def dataset(classes: tuple[str, ...]) -> Dataset:
    split = Split(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64) if classes else None)
    return Dataset("own", split, split, split, classes, 12)


@pytest.mark.parametrize(("classes", "got"), [((), "images without labels"), (("all",), "one class")])
def test_a_classifier_needs_two_classes(classes: tuple[str, ...], got: str) -> None:
    with pytest.raises(ConfigError, match=f"labelled images of at least two classes, got {got}"):
        preflight.check(quick("multitask-vae"), dataset(classes))
    preflight.check(quick("multitask-vae"), dataset(("one", "two")))
    preflight.check(quick("vae"), dataset(classes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.latent_size=2147483647"], "lower model.latent_size"),
        (["model.hidden=[2147483647, 2147483647, 2147483647]"], "too large|lower model"),
    ],
)
def test_a_network_larger_than_the_memory_is_refused_before_it_is_built(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(quick("vae", *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_memory_is_that_of_the_device_which_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    preflight.check(quick("vae", "model.latent_size=2147483647", "device.name=cuda"), dataset(()))
    with pytest.raises(ConfigError, match=r"lower model\.latent_size"):
        preflight.check(quick("vae", "model.latent_size=2147483647", "device.name=cpu"), dataset(()))


def test_images_of_other_shapes_are_no_reason() -> None:
    wide = Split(np.zeros((4, 1, 300, 3), np.uint8), None)
    everything = dataclasses.replace(dataset(()), train=wide)
    for recipe in ("conv-ae", "vae", "vae-gan", "denoiser"):
        preflight.check(quick(recipe), everything)


@pytest.mark.parametrize(
    ("images", "processes", "rows_at_once", "message"),
    [
        (40, 1, 7, "run.batch_size of at most 7, .*got 8; lower it"),
        (40, 2, 3, "run.batch_size of at most 6, .*got 8; lower it"),
        (41, 1, 8, r"at least 2 in each, .*got one of 1 \(run.batch_size 8, 41 training images\)"),
        (43, 2, 8, "at least 4 in each, two a process, got one of 3"),
        (3, 2, 8, "at least 4 in each, two a process, got one of 3"),
    ],
)
def test_images_that_are_compared_come_whole_and_are_two(
    images: int, processes: int, rows_at_once: int, message: str
) -> None:
    compared = quick("vae", "loss.total_correlation=6", "run.batch_size=8")
    with pytest.raises(ConfigError, match=message):
        preflight.check_batches(compared, images, processes, rows_at_once)
    preflight.check_batches(compared, 44, 2, 4)
    preflight.check_batches(quick("vae", "run.batch_size=8"), images, processes, rows_at_once)


@pytest.mark.parametrize(
    ("recipe", "setting", "got"), [("vae", "model.latent_size=65", "65"), ("photo-vae", "run.seed=1", "1x1x12")]
)
def test_the_total_correlation_is_of_small_vectors(recipe: str, setting: str, got: str) -> None:
    with pytest.raises(ConfigError, match=f"one vector of at most 64 numbers, got {got}: set model.latent_size"):
        preflight.check(quick(recipe, setting, "loss.total_correlation=6"), dataset(()))
    preflight.check(quick("vae", "model.latent_size=64", "loss.total_correlation=6"), dataset(()))

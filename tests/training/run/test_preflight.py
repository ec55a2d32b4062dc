import dataclasses
from pathlib import Path

import numpy as np
import pytest

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


def test_images_of_other_shapes_are_no_reason() -> None:
    wide = Split(np.zeros((4, 1, 300, 3), np.uint8), None)
    everything = dataclasses.replace(dataset(()), train=wide)
    for recipe in ("conv-ae", "vae", "vae-gan", "denoiser"):
        preflight.check(quick(recipe), everything)
